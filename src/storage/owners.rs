//! Owners that change places: what `--userns=keep-id` needs of the storage.
//!
//! The user who runs the engine is its id 0. A container that shall show him
//! under his own number K has a user namespace in which K is the engine's 0 and
//! 0 is another id of the engine's. An overlay shows the owners that stand on
//! the disk, so such a container stands on a copy of the image in which they have
//! changed places. Runs in dockerd, any thread.
//!
//! Invariant: a copy is named after the layer that it is of and goes with it; it
//! is content that can be made again, so nothing but a running container needs it.

use super::Driver;
use super::copy::copy_tree;
use crate::error::{Context, Result};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

/// One kind of id, user or group. Both 0: nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// What the container sees in the place of the engine's 0.
    pub kept: u32,
    /// The engine's id that the container sees as 0.
    pub root: u32,
}

impl Exchange {
    /// The engine's id of a container's.
    pub fn stored(self, id: u32) -> u32 {
        match id {
            id if id == self.kept => 0,
            0 => self.root,
            id => id,
        }
    }

    /// The container's id of an engine's.
    pub fn shown(self, id: u32) -> u32 {
        match id {
            0 => self.kept,
            id if id == self.root => 0,
            id => id,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners {
    pub uid: Exchange,
    pub gid: Exchange,
}

const CAPABILITY: &[u8] = b"security.capability";
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

impl Owners {
    pub fn stored(&self, uid: u32, gid: u32) -> (u32, u32) {
        (self.uid.stored(uid), self.gid.stored(gid))
    }

    pub fn shown(&self, uid: u32, gid: u32) -> (u32, u32) {
        (self.uid.shown(uid), self.gid.shown(gid))
    }

    /// An attribute of an image's file, for the disk.
    pub fn stored_xattr(&self, name: &[u8], value: Vec<u8>) -> Vec<u8> {
        if ACLS.contains(&name) { acl(value, |id| self.uid.stored(id), |id| self.gid.stored(id)) } else { value }
    }

    /// An attribute on the disk, as the container means it. Capabilities that its
    /// root gave carry the engine's id of that root; in an image they carry none.
    pub fn shown_xattr(&self, name: &[u8], value: Vec<u8>) -> Vec<u8> {
        const VERSIONS: [u8; 2] = [2, 3];
        match value.as_slice() {
            [a, b, c, version, rest @ ..] if name == CAPABILITY && *version == VERSIONS[1] && rest.len() == 20 => {
                let (sets, root) = rest.split_at(16);
                if root == self.uid.root.to_le_bytes() {
                    return [&[*a, *b, *c, VERSIONS[0]], sets].concat();
                }
                value
            }
            _ if ACLS.contains(&name) => acl(value, |id| self.uid.shown(id), |id| self.gid.shown(id)),
            _ => value,
        }
    }

    /// The name of the copy of a layer with all that is below it.
    fn copy_of(&self, chain_id: &str) -> String {
        let (u, g) = (self.uid, self.gid);
        format!("{chain_id}-{}.{}.{}.{}", u.kept, u.root, g.kept, g.root)
    }

    /// What a container stands on instead of `layers`.
    pub fn lowers(&self, layers: &[String]) -> Vec<String> {
        layers.last().map(|top| self.copy_of(top)).into_iter().collect()
    }
}

/// The entries of a POSIX access list that name a user or a group: a version,
/// then tag, permissions and id of each.
fn acl(mut value: Vec<u8>, uid: impl Fn(u32) -> u32, gid: impl Fn(u32) -> u32) -> Vec<u8> {
    const USER: u8 = 2;
    const GROUP: u8 = 8;
    for entry in value.get_mut(4..).unwrap_or_default().as_chunks_mut::<8>().0 {
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let new = match entry[0] {
            USER => uid(id),
            GROUP => gid(id),
            _ => id,
        };
        entry[4..].copy_from_slice(&new.to_le_bytes());
    }
    value
}

/// The layer that a copy is of; none of what is no copy.
pub fn original(name: &str) -> Option<&str> {
    name.split_once('-').map(|(chain, _)| chain)
}

const SIZE: &str = "size";

/// Makes the copy of `layers` unless it is there. It comes into place whole and
/// synced. The caller keeps the layers from being removed, and calls one at a time.
pub fn make(driver: &dyn Driver, layers: &[String], owners: &Owners) -> Result<()> {
    let Some(name) = owners.lowers(layers).pop() else { return Ok(()) };
    if driver.has_layer(&name) {
        return Ok(());
    }
    let staged = driver.stage(None)?;
    let from = driver.mount_ro(layers)?;
    // Blocks can be shared with files of the same file system alone, which the
    // mount is not.
    let files = layers.iter().rev().map(|chain| driver.layer_root(chain)).collect::<Result<Vec<_>>>()?;
    let size = copy_tree(from.as_fd(), staged.root().as_fd(), Some(owners), &files)
        .context("copy the image with changed owners")?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC;
    let mut note: File = openat(staged.aside(), SIZE, flags, Mode::from_bits_truncate(0o600))?.into();
    note.write_all(size.to_string().as_bytes())?;
    nix::unistd::syncfs(staged.root()).context("sync the copy of the image")?;
    staged.commit(&name)
}

/// All copies and what each takes, in bytes.
pub fn copies(driver: &dyn Driver) -> Result<Vec<(String, u64)>> {
    let mut found = driver.list()?.1;
    found.retain(|name| original(name).is_some());
    Ok(found.into_iter().map(|name| (size(driver, &name), name)).map(|(size, name)| (name, size)).collect())
}

fn size(driver: &dyn Driver, name: &str) -> u64 {
    let read = || -> Result<u64> {
        let note = openat(&driver.layer_aside(name)?, SIZE, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        File::from(note).take(32).read_to_string(&mut text)?;
        Ok(text.parse().unwrap_or(0))
    };
    read().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNERS: Owners =
        Owners { uid: Exchange { kept: 1001, root: 1001 }, gid: Exchange { kept: 70_000, root: 500 } };

    #[test]
    fn owners_change_places_and_back() {
        assert_eq!(OWNERS.stored(0, 0), (1001, 500));
        assert_eq!(OWNERS.stored(1001, 70_000), (0, 0));
        assert_eq!(OWNERS.stored(33, 33), (33, 33));
        for (uid, gid) in [(0, 0), (1001, 70_000), (5, 6)] {
            let (u, g) = OWNERS.stored(uid, gid);
            assert_eq!(OWNERS.shown(u, g), (uid, gid));
        }
        let nothing = Exchange { kept: 0, root: 0 };
        assert!((0..3).all(|id| nothing.stored(id) == id && nothing.shown(id) == id));
    }

    #[test]
    fn attributes_with_ids_in_them() {
        let sets = [7u8; 16];
        let theirs = [&[1, 0, 0, 3][..], &sets, &1001u32.to_le_bytes()].concat();
        assert_eq!(OWNERS.shown_xattr(CAPABILITY, theirs.clone()), [&[1, 0, 0, 2][..], &sets].concat());
        let others = [&[1, 0, 0, 3][..], &sets, &5u32.to_le_bytes()].concat();
        assert_eq!(OWNERS.shown_xattr(CAPABILITY, others.clone()), others);
        let list = |user: u32, group: u32| {
            let entry = |tag: u8, id: u32| [&[tag, 0, 6, 0][..], &id.to_le_bytes()].concat();
            [vec![2, 0, 0, 0], entry(1, u32::MAX), entry(2, user), entry(8, group)].concat()
        };
        assert_eq!(OWNERS.stored_xattr(ACLS[0], list(1001, 0)), list(0, 500));
        assert_eq!(OWNERS.shown_xattr(ACLS[1], list(0, 500)), list(1001, 0));
        assert_eq!(OWNERS.shown_xattr(ACLS[0], vec![2]), [2]);
    }

    #[test]
    fn copies_are_named_after_their_layer() {
        let name = OWNERS.lowers(&["a".into(), "b".into()]).pop().unwrap();
        assert_eq!(name, "b-1001.1001.70000.500");
        assert_eq!(original(&name), Some("b"));
        assert_eq!(original("b"), None);
        assert!(OWNERS.lowers(&[]).is_empty());
    }
}
