//! Copies a tree with everything that makes it one: owners, modes, times, hard
//! links, extended attributes, holes. By descriptors, as the tree may be hostile.

use super::owners::Owners;
use super::tree;
use crate::error::{Context, Error, Result};
use crate::sys::fs as sysfs;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, copy_file_range, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, fstatat, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, Whence, fchown, fchownat, linkat, lseek, symlinkat};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW);

/// Copies what is in `from`, and its own attributes, to the empty directory `to`.
/// With `owners` they change places on the way. `shared` are the directories that
/// `from` is a mount of, top first: where the file system can, the copy's files
/// share blocks with the ones there. Gives the bytes of all files.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, owners: Option<&Owners>, shared: &[File]) -> Result<u64> {
    let mut copy = Copy { owners, shared, size: 0 };
    let mut links: HashMap<(u64, u64), CString> = HashMap::new();
    let mut open = vec![c".".to_owned()];
    let mut finish = Vec::new();
    while let Some(path) = open.pop() {
        let source = sysfs::open_beneath(from, &path, DIRECTORY, Mode::empty())?;
        let target = sysfs::open_beneath(to, &path, DIRECTORY, Mode::empty())?;
        let stat = fstat(&source)?;
        copy.attributes(source.as_fd(), target.as_fd(), &stat)?;
        for (name, _) in tree::list(source.as_fd())? {
            let below = CString::new([path.as_bytes(), b"/", name.as_bytes()].concat()).unwrap_or_default();
            let stat = fstatat(&source, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if is(&stat, SFlag::S_IFDIR) {
                mkdirat(&target, name.as_c_str(), Mode::S_IRWXU)?;
                open.push(below);
                continue;
            }
            if stat.st_nlink > 1 {
                let key = (stat.st_dev, stat.st_ino);
                if let Some(first) = links.get(&key) {
                    linkat(to, first.as_c_str(), &target, name.as_c_str(), LinkatFlags::empty())?;
                    continue;
                }
                links.insert(key, below.clone());
            }
            copy.entry(source.as_fd(), target.as_fd(), &name, &below, &stat)
                .with_context(|| below.to_string_lossy().into_owned())?;
        }
        finish.push((path, stat));
    }
    // Children before parents does not matter for times; the end does.
    for (path, stat) in finish {
        let (atime, mtime) = times(&stat);
        utimensat(to, path.as_c_str(), &atime, &mtime, UtimensatFlags::NoFollowSymlink)?;
    }
    Ok(copy.size)
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == kind
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec))
}

struct Copy<'a> {
    owners: Option<&'a Owners>,
    shared: &'a [File],
    size: u64,
}

impl Copy<'_> {
    fn owner(&self, stat: &FileStat) -> (Option<Uid>, Option<Gid>) {
        let (uid, gid) = self.owners.map_or((stat.st_uid, stat.st_gid), |o| o.stored(stat.st_uid, stat.st_gid));
        (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }

    /// Of an open file or directory: owner, attributes, mode.
    fn attributes(&self, source: BorrowedFd<'_>, target: BorrowedFd<'_>, stat: &FileStat) -> Result<()> {
        let (uid, gid) = self.owner(stat);
        fchown(target, uid, gid)?;
        for name in sysfs::flistxattr(source).unwrap_or_default() {
            let Ok(c_name) = CString::new(name.clone()) else { continue };
            let mut value = sysfs::fgetxattr(source, &c_name)?;
            if let Some(owners) = self.owners {
                value = owners.stored_xattr(&name, value);
            }
            match sysfs::fsetxattr(target, &c_name, &value) {
                Ok(()) | Err(Errno::EPERM | Errno::ENOTSUP | Errno::EACCES) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(fchmod(target, Mode::from_bits_truncate(stat.st_mode & 0o7777))?)
    }

    fn entry(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &CStr,
        path: &CStr,
        stat: &FileStat,
    ) -> Result<()> {
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        let (atime, mtime) = times(stat);
        if kind == SFlag::S_IFREG {
            let from = openat(source, name, READ, Mode::empty())?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let to = openat(target, name, flags, Mode::from_bits_truncate(0o600))?;
            if !self.share(path, &to, stat) {
                content(&from, &to, stat.st_size as u64)?;
            }
            self.size += stat.st_size as u64;
            self.attributes(from.as_fd(), to.as_fd(), stat)?;
        } else {
            if kind == SFlag::S_IFLNK {
                let link = readlinkat(source, name)?;
                symlinkat(CString::new(link.as_bytes()).unwrap_or_default().as_c_str(), target, name)?;
            } else {
                mknodat(target, name, kind, Mode::from_bits_truncate(0o600), stat.st_rdev)?;
                fchmodat(target, name, Mode::from_bits_truncate(stat.st_mode & 0o7777), FchmodatFlags::FollowSymlink)?;
            }
            let (uid, gid) = self.owner(stat);
            fchownat(target, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        Ok(utimensat(target, name, &atime, &mtime, UtimensatFlags::NoFollowSymlink)?)
    }

    /// What the mount shows of a path is what the topmost directory that has it
    /// holds. One refusal is enough: the file system cannot.
    fn share(&mut self, path: &CStr, to: &OwnedFd, stat: &FileStat) -> bool {
        if stat.st_size == 0 {
            return false;
        }
        let found = self.shared.iter().find_map(|dir| sysfs::open_beneath(dir.as_fd(), path, READ, Mode::empty()).ok());
        let Some(file) = found else { return false };
        let same = fstat(&file).is_ok_and(|s| is(&s, SFlag::S_IFREG) && s.st_size == stat.st_size);
        let done = same && sysfs::reflink(file.as_fd(), to.as_fd()).is_ok();
        if same && !done {
            self.shared = &[];
        }
        done
    }
}

const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);

/// Shares the blocks, or copies the data and keeps the holes.
pub fn content(from: &OwnedFd, to: &OwnedFd, size: u64) -> Result<()> {
    if size == 0 || sysfs::reflink(from.as_fd(), to.as_fd()).is_ok() {
        return Ok(());
    }
    nix::unistd::ftruncate(to, size as i64)?;
    let mut at = 0i64;
    while at < size as i64 {
        let start = match lseek(from, at, Whence::SeekData) {
            Ok(start) => start,
            Err(Errno::ENXIO) => break,
            Err(Errno::EINVAL) => at,
            Err(e) => return Err(e.into()),
        };
        let end = lseek(from, start, Whence::SeekHole).unwrap_or(size as i64);
        let (mut input, mut output) = (start, start);
        while input < end {
            let wanted = usize::try_from(end - input).unwrap_or(usize::MAX).min(1 << 30);
            match copy_file_range(from, Some(&mut input), to, Some(&mut output), wanted) {
                Ok(0) => return Err(Error::system("file shrank while it was copied")),
                Ok(_) => {}
                Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
                    input += by_hand(from, to, input, wanted)? as i64;
                    output = input;
                }
                Err(e) => return Err(e.into()),
            }
        }
        at = end;
    }
    Ok(())
}

fn by_hand(from: &OwnedFd, to: &OwnedFd, at: i64, wanted: usize) -> Result<usize> {
    let mut buffer = vec![0; wanted.min(128 * 1024)];
    let n = nix::sys::uio::pread(from, &mut buffer, at)?;
    if n == 0 {
        return Err(Error::system("file shrank while it was copied"));
    }
    let mut done = 0;
    while done < n {
        done += nix::sys::uio::pwrite(to, &buffer[done..n], at + done as i64)?;
    }
    Ok(n)
}
