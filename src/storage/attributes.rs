//! Owner, mode, extended attributes and times of what a layer's tar makes. Runs on the
//! thread that unpacks.
//!
//! Invariant: by descriptor, or by the last component below an open parent: no path is
//! resolved here.

use super::apply::c;
use super::tar::{Entry, Kind, Time};
use crate::error::{Context, Error, Result};
use crate::sys::fs as sysfs;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, fstat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

const OVERRIDE_XATTR: &CStr = c"user.containers.override_stat";

/// Owner, mode, attributes and times of what was just made and is open. `single_id`: only
/// one id is mapped, so that an owner may be impossible.
///
/// What creation gave already is not set again: each change is a transaction of the file
/// system's journal, a look is not. The umask, a parent's set-gid bit or default ACL show
/// in the look.
pub(super) fn set(fd: BorrowedFd<'_>, entry: &Entry, single_id: bool) -> Result<()> {
    let have = fstat(fd)?;
    let owned = (have.st_uid, have.st_gid) == (uid(entry).as_raw(), gid(entry).as_raw());
    if !owned && let Err(e) = fchown(fd, Some(uid(entry)), Some(gid(entry))) {
        owner_refused(entry, e, single_id)?;
        let value = format!("{}:{}:0{:o}", entry.uid, entry.gid, entry.mode);
        let _ = sysfs::fsetxattr(fd, OVERRIDE_XATTR, value.as_bytes());
    }
    for (name, value) in &entry.xattrs {
        set_xattr(fd, name, value)?;
    }
    // After chown, which clears set-id bits and file capabilities; before
    // times, which everything else touches.
    let mode = Mode::from_bits_truncate(entry.mode);
    if !owned || !entry.xattrs.is_empty() || have.st_mode & 0o7777 != mode.bits() {
        fchmod(fd, mode)?;
    }
    if entry.kind != Kind::Dir {
        let (atime, mtime) = times(entry);
        futimens(fd, &atime, &mtime)?;
    }
    Ok(())
}

/// Fatal unless the owner cannot exist here.
fn owner_refused(entry: &Entry, e: Errno, single_id: bool) -> Result<()> {
    if single_id && matches!(e, Errno::EINVAL | Errno::EPERM) {
        return Ok(());
    }
    let error = Error::system(format!("lchown: {}", e.desc().to_lowercase()));
    Err(if e == Errno::EINVAL {
        error.with_hint(format!(
            "the image has files of {}:{}; widen the ranges in /etc/subuid and /etc/subgid",
            entry.uid, entry.gid
        ))
    } else {
        error
    })
}

/// The same of what cannot be opened: symlinks, fifos, devices.
pub(super) fn set_at(parent: BorrowedFd<'_>, name: &CStr, entry: &Entry, single_id: bool) -> Result<()> {
    if let Err(e) = fchownat(parent, name, Some(uid(entry)), Some(gid(entry)), AtFlags::AT_SYMLINK_NOFOLLOW) {
        owner_refused(entry, e, single_id)?;
    }
    if entry.kind != Kind::Symlink {
        fchmodat(parent, name, Mode::from_bits_truncate(entry.mode), FchmodatFlags::FollowSymlink)?;
    }
    let (atime, mtime) = times(entry);
    Ok(utimensat(parent, name, &atime, &mtime, UtimensatFlags::NoFollowSymlink)?)
}

fn uid(entry: &Entry) -> Uid {
    Uid::from_raw(u32::try_from(entry.uid).unwrap_or(u32::MAX - 1))
}

fn gid(entry: &Entry) -> Gid {
    Gid::from_raw(u32::try_from(entry.gid).unwrap_or(u32::MAX - 1))
}

/// To create with: nothing is set-id before it has its owner, and a folder must be opened.
pub(super) fn first_mode(entry: &Entry) -> Mode {
    let opened = if entry.kind == Kind::Dir { 0o700 } else { 0 };
    Mode::from_bits_truncate(entry.mode & 0o777 | opened)
}

fn times(entry: &Entry) -> (TimeSpec, TimeSpec) {
    let spec = |t: Time| TimeSpec::new(t.secs, i64::from(t.nanos));
    (spec(entry.atime.unwrap_or(entry.mtime)), spec(entry.mtime))
}

/// Overlay's own attributes are never taken from a tar; what the kernel or the
/// file system does not take (trusted.*, SELinux labels) is left out, as Docker does.
fn set_xattr(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<()> {
    const DRIVERS: [&[u8]; 3] = [b"user.overlay.", b"trusted.overlay.", b"user.fuseoverlayfs."];
    if DRIVERS.iter().any(|d| name.starts_with(d)) || name == OVERRIDE_XATTR.to_bytes() {
        return Ok(());
    }
    match sysfs::fsetxattr(fd, &c(name)?, value) {
        Err(Errno::EPERM | Errno::ENOTSUP | Errno::EINVAL | Errno::EACCES) => Ok(()),
        other => other.with_context(|| format!("set attribute {:?}", String::from_utf8_lossy(name))),
    }
}
