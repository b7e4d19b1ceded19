//! Walking, making and removing trees by descriptors, never by a path string
//! from the process's root: what containers and images own is hostile.
//!
//! Invariant: nothing here follows a symlink out of the given root, and the
//! number of open descriptors does not grow with the depth of a tree.

use crate::error::Result;
use crate::sys::fd::proc_path;
use crate::sys::fs as sysfs;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, readlink, renameat2};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::Instant;

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Opens a directory below `root`, symlinks followed inside it; "" is the root.
pub fn open_dir(root: BorrowedFd<'_>, path: &[u8]) -> nix::Result<OwnedFd> {
    let path = CString::new(if path.is_empty() { b"." } else { path }).map_err(|_| Errno::EINVAL)?;
    sysfs::open_in(root, &path, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).map(Into::into)
}

/// Recently used parents: entries of a tar stand by directory, so nearly every
/// lookup is saved.
pub struct Dirs<'a> {
    root: BorrowedFd<'a>,
    /// Whose the directories are that are made.
    owner: Option<(u32, u32)>,
    recent: Vec<(Vec<u8>, Rc<Folder>)>,
}

/// An open directory, and where it really is if symlinks led to it.
pub struct Folder {
    fd: OwnedFd,
    pub real: Option<Vec<u8>>,
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Folder {
    fn open(root: BorrowedFd<'_>, path: &[u8]) -> nix::Result<Self> {
        let name = CString::new(if path.is_empty() { b"." } else { path }).map_err(|_| Errno::EINVAL)?;
        match sysfs::open_plain(root, &name, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Ok(fd) => Ok(Self { fd: fd.into(), real: None }),
            Err(Errno::ELOOP) => {
                let fd = open_dir(root, path)?;
                let (top, place) = (readlink(&*proc_path(&root))?, readlink(&*proc_path(&fd))?);
                let below = place.as_bytes().strip_prefix(top.as_bytes()).ok_or(Errno::ESTALE)?;
                let real = below.strip_prefix(b"/").unwrap_or(below).to_vec();
                Ok(Self { fd, real: Some(real) })
            }
            Err(e) => Err(e),
        }
    }
}

impl<'a> Dirs<'a> {
    pub fn new(root: BorrowedFd<'a>) -> Self {
        Self { root, owner: None, recent: Vec::new() }
    }

    #[must_use]
    pub fn owned_by(mut self, owner: Option<(u32, u32)>) -> Self {
        self.owner = owner;
        self
    }

    /// To be called whenever something was removed or replaced.
    pub fn forget(&mut self) {
        self.recent.clear();
    }

    pub fn existing(&mut self, path: &[u8]) -> nix::Result<Rc<Folder>> {
        if let Some(at) = self.recent.iter().position(|(p, _)| p == path) {
            let hit = self.recent.remove(at);
            let fd = hit.1.clone();
            self.recent.push(hit);
            return Ok(fd);
        }
        let fd = Rc::new(Folder::open(self.root, path)?);
        if self.recent.len() == 8 {
            self.recent.remove(0);
        }
        self.recent.push((path.to_vec(), fd.clone()));
        Ok(fd)
    }

    /// The directory, made with its missing parents (0755, root) if need be.
    pub fn parent(&mut self, path: &[u8]) -> nix::Result<Rc<Folder>> {
        match self.existing(path) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([path.len()]);
        let mut above: &[u8] = b"";
        for end in ends {
            let name = &path[if above.is_empty() { 0 } else { above.len() + 1 }..end];
            let prefix = &path[..end];
            if matches!(self.existing(prefix), Err(Errno::ENOENT)) {
                let dir = self.existing(above)?;
                mkdirat(&*dir, name, Mode::from_bits_truncate(0o755))?;
                // By descriptor: a container may have put a symlink there meanwhile, which
                // ends on the host. The mode is not the umask's business.
                let made = openat(&*dir, name, DIRECTORY, Mode::empty())?;
                nix::sys::stat::fchmod(&made, Mode::from_bits_truncate(0o755))?;
                if let Some((uid, gid)) = self.owner {
                    fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
                }
            }
            above = prefix;
        }
        self.existing(path)
    }
}

/// `rm -rf dir/name`; absent is fine.
pub fn remove(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    remove_until(dir, name, None).map(drop)
}

/// The same, but false as soon as it is later than `deadline`: call it again.
pub fn remove_until(dir: BorrowedFd<'_>, name: &CStr, deadline: Option<Instant>) -> Result<bool> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(true),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(e) => return Err(e.into()),
    }
    let top = openat(dir, name, DIRECTORY, Mode::empty()).or_else(|e| open_locked(dir, name, e))?;
    if !empty(top.as_fd(), top.as_fd(), 0, &mut 0, deadline)? {
        return Ok(false);
    }
    unlinkat(dir, name, UnlinkatFlags::RemoveDir)?;
    Ok(true)
}

/// A directory that its owner cannot read (mode 0) is made readable first: with
/// one id mapped there may be no CAP_DAC_OVERRIDE over it.
fn open_locked(dir: BorrowedFd<'_>, name: &CStr, e: Errno) -> nix::Result<OwnedFd> {
    if e != Errno::EACCES {
        return Err(e);
    }
    nix::sys::stat::fchmodat(dir, name, Mode::S_IRWXU, nix::sys::stat::FchmodatFlags::NoFollowSymlink)?;
    openat(dir, name, DIRECTORY, Mode::empty())
}

/// Descriptors held at once while removing; deeper trees are lifted up.
const DEPTH: usize = 64;

fn empty(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    depth: usize,
    lifted: &mut u64,
    deadline: Option<Instant>,
) -> Result<bool> {
    loop {
        let mut again = false;
        for (name, kind) in list(dir)? {
            if deadline.is_some_and(|d| Instant::now() > d) {
                return Ok(false);
            }
            if kind != Some(Type::Directory) {
                match unlinkat(dir, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                    Ok(()) | Err(Errno::ENOENT) => continue,
                    Err(Errno::EISDIR | Errno::EPERM) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            if depth >= DEPTH {
                // Into the top directory, which is read again afterwards.
                // A name may be left of an earlier, interrupted removal.
                loop {
                    *lifted += 1;
                    let flags = RenameFlags::RENAME_NOREPLACE;
                    match renameat2(dir, name.as_c_str(), top, format!(".lifted-{lifted}").as_str(), flags) {
                        Err(Errno::EEXIST) => {}
                        other => break other?,
                    }
                }
                continue;
            }
            let sub = openat(dir, name.as_c_str(), DIRECTORY, Mode::empty()).or_else(|e| open_locked(dir, &name, e))?;
            let before = *lifted;
            if !empty(top, sub.as_fd(), depth + 1, lifted, deadline)? {
                return Ok(false);
            }
            unlinkat(dir, name.as_c_str(), UnlinkatFlags::RemoveDir)?;
            again |= depth == 0 && *lifted != before;
        }
        if !again {
            return Ok(true);
        }
    }
}

/// Names and types in a directory, without the dots. Types may be unknown.
pub fn list(dir: BorrowedFd<'_>) -> Result<Vec<(CString, Option<Type>)>> {
    let mut names = Vec::new();
    for entry in Dir::from_fd(openat(dir, c".", DIRECTORY, Mode::empty())?)?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}

/// Removes what is below `path` except paths that `keep` names (and what leads
/// to them).
pub fn remove_children_except(root: BorrowedFd<'_>, path: &[u8], keep: &dyn Fn(&[u8]) -> bool) -> Result<()> {
    let mut open = vec![path.to_vec()];
    while let Some(path) = open.pop() {
        let place = CString::new(if path.is_empty() { b"." } else { path.as_slice() }).map_err(|_| Errno::EINVAL)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let dir = match sysfs::open_in(root, &place, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            Err(e) => return Err(e.into()),
        };
        for (name, _) in list(dir.as_fd())? {
            let below =
                if path.is_empty() { name.to_bytes().to_vec() } else { [&path, &b"/"[..], name.to_bytes()].concat() };
            if !keep(&below) {
                remove(dir.as_fd(), &name)?;
                continue;
            }
            let stat = fstatat(&dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR {
                open.push(below);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn removes_trees_of_any_depth() {
        let base = std::env::temp_dir().join(format!("coracle-tree-{}", std::process::id()));
        std::fs::create_dir_all(&base).unwrap();
        let root = File::open(&base).unwrap();
        mkdirat(&root, c"deep", Mode::S_IRWXU).unwrap();
        let mut dir: OwnedFd = openat(&root, c"deep", DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            mkdirat(&dir, c"sub", Mode::S_IRWXU).unwrap();
            dir = openat(&dir, c"sub", DIRECTORY, Mode::empty()).unwrap();
        }
        remove(root.as_fd(), c"deep").unwrap();
        remove(root.as_fd(), c"deep").unwrap();
        assert!(list(root.as_fd()).unwrap().is_empty());
        std::fs::remove_dir_all(&base).unwrap();
    }
}
