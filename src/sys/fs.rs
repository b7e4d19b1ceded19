//! Files: resolution that cannot leave a root, extended attributes, statx,
//! reflinks. The plain *at calls are nix's.

use super::{Result, check};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A directory as the root of somebody else's tree. Paths are resolved inside
/// it by the kernel: absolute symlinks and `..` end at it, magic links of /proc
/// are refused.
pub struct Root(OwnedFd);

/// A descriptor that can only have come from a resolution inside a [`Root`].
#[derive(Debug)]
pub struct InRoot(OwnedFd);

impl Root {
    pub fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }
    /// `path` may be absolute or relative; both begin at the root.
    pub fn open(&self, path: &CStr, flags: OFlag, mode: Mode) -> Result<InRoot> {
        open_in(self.0.as_fd(), path, flags, mode)
    }
    /// O_PATH of what `path` names, symlinks followed inside the root.
    pub fn find(&self, path: &CStr) -> Result<InRoot> {
        self.open(path, OFlag::O_PATH, Mode::empty())
    }
}

impl InRoot {
    /// What is a root itself, also where that is a file.
    pub fn whole(root: BorrowedFd<'_>) -> Result<Self> {
        root.try_clone_to_owned().map(Self).map_err(|_| Errno::EMFILE)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for InRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<InRoot> for OwnedFd {
    fn from(fd: InRoot) -> OwnedFd {
        fd.0
    }
}

impl From<InRoot> for File {
    fn from(fd: InRoot) -> File {
        fd.0.into()
    }
}

/// [`Root::open`] on a borrowed root.
pub fn open_in(root: BorrowedFd<'_>, path: &CStr, flags: OFlag, mode: Mode) -> Result<InRoot> {
    open_with(root, path, flags, mode, ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS).map(InRoot)
}

/// Resolution below `dir` where leaving it is an error (EXDEV) instead of being
/// cut at the root: for names that must be plain.
pub fn open_beneath(dir: BorrowedFd<'_>, path: &CStr, flags: OFlag, mode: Mode) -> Result<InRoot> {
    open_with(dir, path, flags, mode, ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS).map(InRoot)
}

/// The same, and ELOOP where a symlink is on the way: then `path` is no other place's.
pub fn open_plain(dir: BorrowedFd<'_>, path: &CStr, flags: OFlag) -> Result<InRoot> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    open_with(dir, path, flags, Mode::empty(), resolve).map(InRoot)
}

fn open_with(dir: BorrowedFd<'_>, path: &CStr, flags: OFlag, mode: Mode, resolve: ResolveFlag) -> Result<OwnedFd> {
    // The kernel refuses a mode where nothing can be created.
    let mode = if flags.intersects(OFlag::O_CREAT | OFlag::O_TMPFILE) { mode } else { Mode::empty() };
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode).resolve(resolve);
    // A rename elsewhere on the system may interrupt the scoped walk (EAGAIN).
    for _ in 0..64 {
        match openat2(dir, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
    Err(Errno::EAGAIN)
}

/// Shares the blocks of `from` with `to` (FICLONE); EOPNOTSUPP, EXDEV or EINVAL
/// where the file system cannot.
pub fn reflink(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: FICLONE takes a descriptor number.
    check(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) }).map(drop)
}

/// Begins to write the range's dirty pages to the disk. `wait` also waits until
/// they (and what was begun before) are there; no metadata is synced.
pub fn write_back(file: BorrowedFd<'_>, offset: u64, length: u64, wait: bool) -> Result<()> {
    let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let flags = if wait { all } else { libc::SYNC_FILE_RANGE_WRITE };
    // SAFETY: takes integers only.
    check(unsafe { libc::sync_file_range(file.as_raw_fd(), offset as i64, length as i64, flags) }).map(drop)
}

/// Lets the range's clean pages go that nobody has mapped. `length` 0: to the end.
pub fn drop_cached(file: BorrowedFd<'_>, offset: u64, length: u64) {
    // SAFETY: takes integers only; advice has no effect on content.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), offset as i64, length as i64, libc::POSIX_FADV_DONTNEED) };
}

/// Value of one attribute; ENODATA if it has none. Grows as needed.
fn get_with(call: impl Fn(*mut libc::c_void, usize) -> isize) -> Result<Vec<u8>> {
    let mut buffer = vec![0u8; 256];
    loop {
        match check(call(buffer.as_mut_ptr().cast(), buffer.len())) {
            Ok(n) => {
                buffer.truncate(n as usize);
                return Ok(buffer);
            }
            Err(Errno::ERANGE) => {
                let size = check(call(std::ptr::null_mut(), 0))?;
                buffer.resize(size as usize + 64, 0);
            }
            Err(e) => return Err(e),
        }
    }
}

fn names(list: Vec<u8>) -> Vec<Vec<u8>> {
    list.split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect()
}

/// Of the link itself, by path.
pub fn lgetxattr(path: &CStr, name: &CStr) -> Result<Vec<u8>> {
    // SAFETY: live C strings; the kernel writes at most the stated length.
    get_with(|p, n| unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), p, n) })
}

/// By a descriptor that is not O_PATH.
pub fn fgetxattr(fd: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>> {
    // SAFETY: as in `lgetxattr`.
    get_with(|p, n| unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), p, n) })
}

pub fn fsetxattr(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    // SAFETY: as in `lsetxattr`.
    check(unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }).map(drop)
}

pub fn flistxattr(fd: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    // SAFETY: the kernel writes at most the stated length.
    get_with(|p, n| unsafe { libc::flistxattr(fd.as_raw_fd(), p.cast(), n) }).map(names)
}

/// Has ext4 begin the folders in `dir` in block groups far from each other
/// (`chattr +T`). It looks through every inode that was freed lately in a group
/// before it gives one out, so that many files that come where many went just now
/// take seconds instead of moments. Other file systems refuse or do not care.
pub fn spread_folders(dir: BorrowedFd<'_>) -> Result<()> {
    const TOPDIR: libc::c_int = 0x0002_0000;
    let mut flags: libc::c_int = 0;
    // SAFETY: FS_IOC_GETFLAGS writes one int through a pointer to one (ioctl_iflags(2)).
    check(unsafe { libc::ioctl(dir.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) })?;
    if flags & TOPDIR != 0 {
        return Ok(());
    }
    flags |= TOPDIR;
    // SAFETY: FS_IOC_SETFLAGS reads one int through a pointer to one.
    check(unsafe { libc::ioctl(dir.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolution_ends_at_the_root() {
        let dir = std::env::temp_dir().join(format!("coracle-inroot-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(dir.join("passwd"), "inside").unwrap();
        let _ = std::os::unix::fs::symlink("/passwd", dir.join("sub/absolute"));
        let _ = std::os::unix::fs::symlink("../../../../../passwd", dir.join("sub/dots"));
        let root = Root::new(File::open(&dir).unwrap().into());
        for path in [c"/sub/absolute", c"sub/dots", c"../../passwd"] {
            let file = root.open(path, OFlag::O_RDONLY, Mode::empty()).unwrap();
            assert_eq!(std::io::read_to_string(File::from(file)).unwrap(), "inside");
        }
        assert_eq!(open_beneath(root.as_fd(), c"sub/dots", OFlag::O_RDONLY, Mode::empty()).unwrap_err(), Errno::EXDEV);
        assert_eq!(root.find(c"/nothing").unwrap_err(), Errno::ENOENT);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
