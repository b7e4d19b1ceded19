//! Control groups, version 2 only: what a container may use, and what it used.

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::fs::File;
use std::os::fd::BorrowedFd;

/// Whether the kernel killed something in this cgroup for want of memory.
pub fn oom_killed(dir: BorrowedFd<'_>) -> bool {
    read(dir, "memory.events").is_some_and(|text| events(&text, "oom_kill") > 0)
}

fn read(dir: BorrowedFd<'_>, name: &str) -> Option<String> {
    let fd = nix::fcntl::openat(dir, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    std::io::read_to_string(File::from(fd)).ok()
}

/// The number behind a word in a flat keyed file.
fn events(text: &str, key: &str) -> u64 {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok()).unwrap_or(0)
}
