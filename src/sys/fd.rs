//! Descriptors: closing ranges of them, fixed numbers, memory files, pipes.

use super::{Result, check};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Marks every descriptor from `first` on close-on-exec.
pub fn cloexec_from(first: u32) -> Result<()> {
    // SAFETY: takes plain integers; setting CLOEXEC invalidates no OwnedFd.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Closes every descriptor that is neither a standard stream nor in `keep`.
/// For a process that has just been forked: the caller must not touch (or drop)
/// any other descriptor afterwards, and ends by `process::exit_now`.
pub fn close_all_except(keep: &[BorrowedFd<'_>]) -> Result<()> {
    let mut numbers: Vec<u32> = keep.iter().map(|f| f.as_raw_fd() as u32).collect();
    numbers.sort_unstable();
    let mut from = 3u32;
    for n in numbers {
        if n > from {
            close_range(from, n - 1)?;
        }
        from = from.max(n + 1);
    }
    close_range(from, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: plain integers. Descriptors owned elsewhere in this process become
    // dangling numbers: that is the documented contract of `close_all_except`.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// dup2 onto a fixed number (a standard stream), without CLOEXEC.
pub fn dup_to(fd: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    if fd.as_raw_fd() == number {
        return fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).map(drop);
    }
    // SAFETY: integers; `number` is a standard stream, which no OwnedFd owns.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }).map(drop)
}

/// A standard stream as a descriptor, e.g. for fchown.
pub fn standard(number: RawFd) -> BorrowedFd<'static> {
    debug_assert!((0..3).contains(&number));
    // SAFETY: 0, 1 and 2 stay open for the life of the process (std re-opens
    // closed ones to /dev/null at start), and they are not -1.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Takes a descriptor that was inherited under a known number (socket
/// activation, an internal role). The caller vouches that nobody else owns it;
/// a number that is not open is refused.
pub fn inherited(number: RawFd) -> Result<OwnedFd> {
    if number < 3 {
        return Err(nix::errno::Errno::EBADF);
    }
    // SAFETY: fcntl on a bare number only reads its flags or fails with EBADF.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: it is open (just checked) and inherited numbers are taken once.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(fd)
}

/// A duplicate with CLOEXEC, numbered 3 or higher.
pub fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: the kernel has just made this number for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

pub fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> Result<()> {
    let old = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    let mut new = old;
    new.set(OFlag::O_NONBLOCK, on);
    if new != old {
        fcntl(fd, FcntlArg::F_SETFL(new))?;
    }
    Ok(())
}

/// A sealed memory file with `content`: nobody can change it afterwards.
pub fn sealed(name: &CStr, content: &[u8]) -> std::io::Result<OwnedFd> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(content)?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    file.rewind()?;
    Ok(file.into())
}

/// The content of a file from its beginning, at most `limit` bytes.
pub fn read_all(fd: OwnedFd, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::from(fd);
    file.rewind()?;
    let mut content = Vec::with_capacity(file.metadata()?.len().min(limit) as usize);
    file.take(limit).read_to_end(&mut content)?;
    Ok(content)
}

/// `/proc/self/fd/N`, for calls that know only paths.
pub fn proc_path(fd: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}
