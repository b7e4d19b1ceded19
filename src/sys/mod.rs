//! ALL UNSAFE: thin wrappers over system calls, allocation-free where they are
//! used after a clone, on `&CStr` and `BorrowedFd`, returning `OwnedFd`.
//!
//! Invariant: knows nothing of the rest of the program; a SAFETY comment at
//! every block says what the kernel or libc asks for and why it holds here.
//! What nix offers safely (openat2, *at calls, poll, epoll, signalfd, pty-less
//! termios, setns, unshare, umount2, waitid) is used directly and not repeated.

pub mod cap;
pub mod fd;
pub mod fs;
pub mod inet;
pub mod memory;
pub mod mount;
pub mod process;
pub mod role;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod term;

use nix::errno::Errno;

pub type Result<T> = std::result::Result<T, Errno>;

/// The kernel's convention as seen through libc: -1 and errno.
fn check<T: Copy + PartialEq + From<i8>>(value: T) -> Result<T> {
    if value == T::from(-1) { Err(Errno::last()) } else { Ok(value) }
}

/// Repeats a call that a signal interrupted.
pub fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
