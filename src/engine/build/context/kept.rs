//! Contexts that stay: a large folder that is built again and again is kept
//! unpacked, and its client sends only what has changed. Runs on the threads of
//! requests.
//!
//!     build-cache/contexts/<key>/tree   what the client's folder was
//!     build-cache/contexts/<key>/list   its list, written when the tree was whole
//!
//! The client lists its folder ([`Kept::offer`]) and hears which files it has to
//! send. A file counts as known while size, mode, both times, inode and device are
//! those of the last list: what BuildKit and git compare, and beyond that the time
//! of change, which no program can set back.
//!
//! Invariant: a tree counts only with its list, which is taken away before the tree
//! is touched and names the boot: after a power cut files may be empty. One build
//! has a tree at a time; another one of the same folder sends everything.

use crate::engine::build::Abort;
use crate::error::{Context as _, Error, Result};
use crate::storage::tree;
use crate::sys::fs as sysfs;
use crate::util::atomic_file::{self, Durability};
use crate::util::{id, order};
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstatat};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A list longer than this is not taken: the folder is sent whole.
pub const MAX_LIST: u64 = 64 << 20;
/// Trees that stay; the one that was not used for the longest time goes first.
const MAX_TREES: usize = 8;
/// A client that offered and did not build is forgotten after this.
const PATIENCE: Duration = Duration::from_secs(60);
/// The identity of a file that has to be sent each time.
const UNKNOWN: &str = "-";

/// A folder's entries in the order of [`order::paths`], each `KIND IDENTITY PATH` and
/// a NUL. KIND: f(ile), d(irectory), l(ink).
#[derive(Debug, Clone, Default)]
pub struct List(Vec<u8>);

/// Kind, identity, path.
type Entry<'a> = (&'a str, &'a str, &'a str);

impl List {
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        let list = Self(bytes);
        if std::str::from_utf8(&list.0).is_err() || list.0.last().is_some_and(|b| *b != 0) {
            return Err(Error::invalid("the list of the context is cut or not UTF-8"));
        }
        if !list.entries().is_sorted_by(|a, b| order::paths(a.2, b.2).is_lt()) {
            return Err(Error::invalid("the list of the context is not in order"));
        }
        Ok(list)
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let text = std::str::from_utf8(&self.0).unwrap_or_default();
        text.split_terminator('\0').filter_map(|entry| {
            let (kind, rest) = entry.split_once(' ')?;
            let (identity, path) = rest.split_once(' ')?;
            Some((kind, identity, path))
        })
    }

    /// Every entry, and whether it may stay as `other` has it: a file that did not
    /// change, a folder that still is one.
    fn beside<'a>(&'a self, other: &'a List) -> impl Iterator<Item = (Entry<'a>, bool)> {
        let mut theirs = other.entries().peekable();
        self.entries().map(move |entry| {
            let (kind, identity, path) = entry;
            while theirs.next_if(|their| order::paths(their.2, path).is_lt()).is_some() {}
            let twin = theirs.peek().filter(|their| their.2 == path);
            let stays = twin.is_some_and(|twin| match kind {
                "d" => twin.0 == "d",
                _ => identity != UNKNOWN && (twin.0, twin.1) == (kind, identity),
            });
            (entry, stays)
        })
    }
}

#[derive(Debug)]
struct Holder {
    build: String,
    since: Instant,
    running: bool,
    list: List,
}

#[derive(Debug)]
pub struct Kept {
    root: PathBuf,
    held: Mutex<BTreeMap<String, Holder>>,
}

impl Kept {
    pub fn open(root: PathBuf) -> Result<Arc<Self>> {
        fs::create_dir_all(&root).with_context(|| format!("mkdir {}", root.display()))?;
        if let Ok(folder) = File::open(&root) {
            // As for contexts that do not stay: only a matter of speed.
            let _ = sysfs::spread_folders(folder.as_fd());
        }
        let kept = Arc::new(Self { root, held: Mutex::default() });
        for entry in fs::read_dir(&kept.root).into_iter().flatten().flatten() {
            let _ = entry.file_name().to_string_lossy().starts_with("gone-").then(|| super::remove_all(&entry.path()));
        }
        for key in kept.keys() {
            if kept.stored(&key).is_none() {
                kept.forget(&key);
            }
        }
        Ok(kept)
    }

    fn keys(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).filter(|name| !name.starts_with("gone-")).collect()
    }

    pub fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// The list of a tree that counts.
    fn stored(&self, key: &str) -> Option<List> {
        let bytes = fs::read(self.path(key).join("list")).ok()?;
        let end = bytes.iter().position(|b| *b == b'\n')?;
        (bytes[..end] == *boot().as_bytes()).then(|| List::new(bytes[end + 1..].to_vec()).ok())?
    }

    /// Under another name first: its place is free at once.
    fn forget(&self, key: &str) {
        let gone = self.path(&format!("gone-{}", &id::random()[..16]));
        let path = if fs::rename(self.path(key), &gone).is_ok() { gone } else { self.path(key) };
        if let Err(e) = super::remove_all(&path) {
            crate::warn!("cannot remove a context that was kept", "key" = key, "error" = e);
        }
    }

    /// Which files the client has to send, as ranges of their numbers in its list.
    /// None: somebody else builds with this folder now.
    pub fn offer(&self, key: &str, build: &str, list: List) -> Result<Option<Vec<(usize, usize)>>> {
        if key.len() != 64 || !key.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::invalid(format!("invalid key {key:?} of a context")));
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, h| h.running || h.since.elapsed() < PATIENCE);
        if held.contains_key(key) {
            return Ok(None);
        }
        let stored = self.stored(key).unwrap_or_default();
        let mut needed: Vec<(usize, usize)> = Vec::new();
        for (n, (_, stays)) in list.beside(&stored).filter(|((kind, ..), _)| *kind == "f").enumerate() {
            match needed.last_mut() {
                _ if stays => {}
                Some((_, last)) if *last + 1 == n => *last = n,
                _ => needed.push((n, n)),
            }
        }
        let holder = Holder { build: build.to_owned(), since: Instant::now(), running: false, list };
        held.insert(key.to_owned(), holder);
        Ok(Some(needed))
    }

    /// The tree for the build that offered its list.
    pub fn take(self: &Arc<Self>, key: &str, build: &str) -> Result<Lease> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let holder = held.get_mut(key).filter(|h| h.build == build && !h.running);
        let holder = holder.ok_or_else(|| Error::conflict("the context was not listed for this build"))?;
        holder.running = true;
        let list = std::mem::take(&mut holder.list);
        drop(held);
        self.make_room(key);
        Ok(Lease { kept: self.clone(), key: key.to_owned(), list })
    }

    fn make_room(&self, newcomer: &str) {
        let mut old: Vec<_> = self.keys().into_iter().filter(|k| k != newcomer).map(|k| (self.used(&k), k)).collect();
        order::sort(&mut old);
        let surplus = (old.len() + 1).saturating_sub(MAX_TREES);
        for (_, key) in old.into_iter().take(surplus) {
            self.remove(&key);
        }
    }

    /// When it was last built with.
    fn used(&self, key: &str) -> Option<std::time::SystemTime> {
        fs::metadata(self.path(key).join("list")).and_then(|m| m.modified()).ok()
    }

    /// Every tree: its key, when it was last used, and whether somebody has it now.
    pub fn all(&self) -> Vec<(String, Option<std::time::SystemTime>, bool)> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |key: String| {
            let (used, held) = (self.used(&key), held.contains_key(&key));
            (key, used, held)
        };
        self.keys().into_iter().map(row).collect()
    }

    /// False if somebody has it now.
    pub fn remove(&self, key: &str) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains_key(key) {
            return false;
        }
        self.forget(key);
        true
    }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// A tree while a build has it.
#[derive(Debug)]
pub struct Lease {
    kept: Arc<Kept>,
    key: String,
    list: List,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.kept.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Lease {
    /// Where the tree is made: `tree` in it is the context.
    pub fn path(&self) -> PathBuf {
        self.kept.path(&self.key)
    }

    /// Makes the tree what the list says; `unpack` puts what was sent into it.
    pub fn update(&self, abort: &Abort, unpack: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let path = self.path();
        let stored = self.kept.stored(&self.key);
        match stored {
            Some(_) => fs::remove_file(path.join("list")).context("take a context's list away")?,
            None => self.kept.forget(&self.key),
        }
        let result = self.renew(&path, stored.unwrap_or_default(), abort, unpack);
        if result.is_err() {
            self.kept.forget(&self.key);
        }
        result
    }

    fn renew(&self, path: &Path, stored: List, abort: &Abort, unpack: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let tree = path.join("tree");
        fs::create_dir_all(&tree).with_context(|| format!("mkdir {}", tree.display()))?;
        let root = File::open(&tree)?;
        let mut gone = String::from("\0");
        for ((_, _, path), stays) in stored.beside(&self.list) {
            // What lay in a folder that is gone went with it.
            if stays || path.strip_prefix(&gone).is_some_and(|rest| rest.starts_with('/')) {
                continue;
            }
            abort.check()?;
            remove(&root, path)?;
            path.clone_into(&mut gone);
        }
        unpack(path)?;
        for ((kind, _, path), stays) in self.list.beside(&stored) {
            if kind == "f" && !stays && !is_file(&root, path) {
                return Err(Error::invalid(format!("{path} went away while the context was sent")));
            }
        }
        let text = [boot().as_bytes(), b"\n", &self.list.0].concat();
        atomic_file::write(&path.join("list"), &text, Durability::Renamed).context("write a context's list")
    }
}

/// A path's folder, inside the tree, and the last name.
fn parent(root: &File, path: &str) -> Option<(std::os::fd::OwnedFd, CString)> {
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let (parent, name) = (CString::new(parent).ok()?, CString::new(name).ok()?);
    Some((sysfs::open_in(root.as_fd(), &parent, flags, Mode::empty()).ok()?.into(), name))
}

fn remove(root: &File, path: &str) -> Result<()> {
    match parent(root, path) {
        Some((dir, name)) => tree::remove(dir.as_fd(), &name),
        None => Ok(()),
    }
}

fn is_file(root: &File, path: &str) -> bool {
    parent(root, path).is_some_and(|(dir, name)| {
        fstatat(&dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> List {
        List::new(entries.iter().flat_map(|e| e.bytes().chain([0])).collect()).unwrap()
    }

    fn temporary() -> PathBuf {
        let path = std::env::temp_dir().join(format!("kept-{}", &crate::util::id::random()[..12]));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn only_what_changed_is_asked_for() {
        let dir = temporary();
        let kept = Kept::open(dir.clone()).unwrap();
        let (key, abort) = ("0".repeat(64), Abort::default());
        let first = list(&["d - d", "f 1 d/a", "f 2 d/b", "l x link", "f 3 z"]);
        assert_eq!(kept.offer(&key, "one", first.clone()).unwrap(), Some(vec![(0, 2)]));
        // Somebody else sends everything.
        assert_eq!(kept.offer(&key, "two", first).unwrap(), None);
        assert!(kept.take(&key, "two").is_err());
        let lease = kept.take(&key, "one").unwrap();
        let fill = |path: &Path| -> Result<()> {
            fs::create_dir_all(path.join("tree/d"))?;
            for name in ["d/a", "d/b", "z"] {
                fs::write(path.join("tree").join(name), name)?;
            }
            Ok(std::os::unix::fs::symlink("x", path.join("tree/link"))?)
        };
        lease.update(&abort, fill).unwrap();
        drop(lease);
        // d/a changed, d/b stayed, z became a folder.
        let second = list(&["d - d", "f 9 d/a", "f 2 d/b", "f - new", "d - z", "f 3 z/z"]);
        assert_eq!(kept.offer(&key, "two", second).unwrap(), Some(vec![(0, 0), (2, 3)]));
        let lease = kept.take(&key, "two").unwrap();
        lease
            .update(&abort, |path| {
                let tree = path.join("tree");
                let there = |name: &str| tree.join(name).symlink_metadata().is_ok();
                assert_eq!(["d/a", "d/b", "link", "z"].map(there), [false, true, false, false]);
                fs::create_dir_all(tree.join("z"))?;
                for name in ["d/a", "new", "z/z"] {
                    fs::write(tree.join(name), name)?;
                }
                Ok(())
            })
            .unwrap();
        drop(lease);
        assert!(kept.remove(&key) && !kept.path(&key).exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_tree_that_is_not_whole_does_not_count() {
        let dir = temporary();
        let kept = Kept::open(dir.clone()).unwrap();
        let (key, abort) = ("a".repeat(64), Abort::default());
        for wrong in ["", "../../x", "A/b"] {
            assert!(kept.offer(wrong, "b", List::default()).is_err());
        }
        assert!(
            List::new(b"f 1 a".to_vec()).is_err()
                && List::new(b"f 1 b\0f 1 a\0".to_vec()).is_err()
                && List::new(vec![0xff, 0]).is_err()
        );
        kept.offer(&key, "b", list(&["f 1 a"])).unwrap();
        let lease = kept.take(&key, "b").unwrap();
        // The file was listed and never came.
        assert!(lease.update(&abort, |_| Ok(())).is_err());
        assert!(!kept.path(&key).exists());
        drop(lease);
        // One of an earlier boot, and one without a list.
        fs::create_dir_all(kept.path(&key)).unwrap();
        fs::write(kept.path(&key).join("list"), "another boot\nf 1 a\0").unwrap();
        fs::create_dir_all(kept.path(&"b".repeat(64)).join("tree")).unwrap();
        let kept = Kept::open(dir.clone()).unwrap();
        assert!(kept.keys().is_empty());
        fs::remove_dir_all(dir).unwrap();
    }
}
