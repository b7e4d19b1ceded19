//! Making, naming, waiting for, signalling and ending processes.
//!
//! Invariant: a process forks only while it has one thread, so that the child
//! may go on using the allocator and everything else of the parent's copy.

use super::{Result, check};
use nix::errno::Errno;
use std::ffi::{CStr, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub const CLONE_NEWCGROUP: u64 = 0x0200_0000;
pub const CLONE_NEWIPC: u64 = 0x0800_0000;
pub const CLONE_NEWNET: u64 = 0x4000_0000;
pub const CLONE_NEWNS: u64 = 0x0002_0000;
pub const CLONE_NEWPID: u64 = 0x2000_0000;
pub const CLONE_NEWUTS: u64 = 0x0400_0000;
pub const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// On which side of a fork or clone the caller is.
#[derive(Debug)]
pub enum Forked {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Whether the calling process has exactly one thread.
pub fn single_threaded() -> bool {
    // Two links for . and .., one for each task. Where /proc is another namespace's we are not
    // in it: then by a request that changes nothing and is refused to a process with threads.
    nix::sys::stat::stat(c"/proc/self/task").is_ok_and(|s| s.st_nlink == 3)
        || nix::sched::unshare(nix::sched::CloneFlags::CLONE_THREAD).is_ok()
}

/// A new process with the given new namespaces, in `cgroup` if one is named.
/// Refuses (EDEADLK) in a process with several threads.
pub fn clone(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked> {
    clone_with(namespaces, libc::SIGCHLD, cgroup)
}

/// A child of our own parent, in the pid namespace that our children are to be in.
pub fn clone_sibling() -> Result<Forked> {
    // The parent hears of its end by the signal that it hears of ours.
    clone_with(CLONE_PARENT, 0, None)
}

fn clone_with(flags: u64, exit_signal: i32, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked> {
    if !single_threaded() {
        return Err(Errno::EDEADLK);
    }
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: exit_signal as u64,
        ..Default::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no CLONE_VM and no stack, so the child is a copy-on-write copy of
    // this process that returns here like after fork(2); being the only thread,
    // the caller leaves no lock held by a thread that the child lacks. The
    // arguments and `pidfd` live on this stack.
    let mut pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) });
    if pid == Err(Errno::ENOSYS) && cgroup.is_none() {
        // The default seccomp profile hides clone3 inside containers, where the
        // init runs.
        let flags = (args.flags | args.exit_signal) as libc::c_long;
        // SAFETY: as above. The third argument is where clone(2) stores the
        // descriptor on every architecture, the others are unused by these flags.
        pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) });
    }
    let pid = pid?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: on success the kernel has stored a descriptor made for us.
    Ok(Forked::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// Ends the process at once: no destructors, no buffers, no atexit handlers,
/// which all belong to the process that this one was forked from.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no preconditions and does not return.
    unsafe { libc::_exit(status) }
}

/// Pointer arrays for execve, made before the clone.
pub struct ExecArray<'a> {
    pointers: Vec<*const c_char>,
    strings: std::marker::PhantomData<&'a CStr>,
}

impl<'a> ExecArray<'a> {
    pub fn new(strings: impl Iterator<Item = &'a CStr>) -> Self {
        let pointers = strings.map(CStr::as_ptr).chain(std::iter::once(std::ptr::null())).collect();
        Self { pointers, strings: std::marker::PhantomData }
    }
}

/// Replaces the program; returns only on failure.
pub fn execve(path: &CStr, args: &ExecArray<'_>, env: &ExecArray<'_>) -> Errno {
    // SAFETY: both arrays end with null and point at strings that `ExecArray`
    // borrows, so they outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    Errno::last()
}

/// Executes the file behind a descriptor; returns only on failure.
pub fn execve_fd(file: BorrowedFd<'_>, args: &ExecArray<'_>, env: &ExecArray<'_>) -> Errno {
    // SAFETY: as in `execve`; the empty path is a literal.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: integers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Signal 0 asks whether the process still exists.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) }).map(drop)
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub pid: i32,
    pub status: Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Exited(i32),
    Signalled(i32),
}

impl Status {
    /// From the word that wait(2) gives.
    pub fn from_wait(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Status::Signalled(libc::WTERMSIG(status))
        } else {
            Status::Exited(libc::WEXITSTATUS(status))
        }
    }
    /// As a shell and Docker count: 128+n for signal n.
    pub fn code(self) -> i32 {
        match self {
            Status::Exited(code) => code,
            Status::Signalled(signal) => 128 + signal,
        }
    }
}

/// Which children to wait for.
#[derive(Debug, Clone, Copy)]
pub enum Who<'a> {
    Any,
    Pidfd(BorrowedFd<'a>),
}

/// Reaps one child. None: none has ended (with `block` false). ECHILD: no child.
pub fn wait(who: Who<'_>, block: bool) -> Result<Option<Ended>> {
    let (kind, id) = match who {
        Who::Any => (libc::P_ALL, 0),
        Who::Pidfd(fd) => (libc::P_PIDFD, fd.as_raw_fd() as libc::id_t),
    };
    let flags = libc::WEXITED | if block { 0 } else { libc::WNOHANG };
    // SAFETY: an all-zero siginfo is a valid value, and what waitid leaves when
    // nobody has ended.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    super::retry(|| {
        // SAFETY: waitid writes one siginfo, which lives here.
        check(unsafe { libc::waitid(kind, id, &raw mut info, flags) })
    })?;
    // SAFETY: waitid fills the SIGCHLD members; zeroed otherwise.
    let (pid, value) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let status = if info.si_code == libc::CLD_EXITED { Status::Exited(value) } else { Status::Signalled(value) };
    Ok(Some(Ended { pid, status }))
}

#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

/// The wait status of a process that is not our child and already reaped
/// (kernel 6.15; None where it cannot be known).
pub fn pidfd_exit(pidfd: BorrowedFd<'_>) -> Option<Status> {
    const INFO_EXIT: u64 = 1 << 3;
    // _IOWR(0xFF, 11, struct pidfd_info) with the size of version 1.
    let request = (3u64 << 30) | ((size_of::<PidfdInfo>() as u64) << 16) | (0xFF << 8) | 11;
    let mut info = PidfdInfo { mask: INFO_EXIT, ..Default::default() };
    // SAFETY: the request encodes the size of `info`, and the kernel copies at
    // most that much into it.
    let r = unsafe { libc::ioctl(pidfd.as_raw_fd(), request as _, &raw mut info) };
    if r != 0 || info.mask & INFO_EXIT == 0 {
        return None;
    }
    Some(Status::from_wait(info.exit_code))
}

/// setns with several namespaces of one process at once.
pub fn enter(pidfd: BorrowedFd<'_>, namespaces: u64) -> Result<()> {
    // SAFETY: integers.
    check(unsafe { libc::setns(pidfd.as_raw_fd(), namespaces as libc::c_int) }).map(drop)
}

/// The user namespace that an open one lies in. EPERM: that is not below ours.
pub fn parent_user_namespace(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    // _IO(0xb7, 2), ioctl_ns(2)
    const NS_GET_PARENT: u64 = 0xb702;
    // SAFETY: the request takes no argument.
    let fd = check(i64::from(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT as _) }))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Limits as raw numbers: nix's enum does not carry unknown ones.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: prlimit64 reads one rlimit64, which lives here, and with a null
    // old pointer writes nothing.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, std::ptr::null::<libc::rlimit64>())
    })
    .map(drop)
}

/// (soft, hard)
fn get_rlimit(resource: u32) -> Result<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: with a null new pointer prlimit64 only writes the old limit.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<libc::rlimit64>(), &raw mut limit)
    })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Whether this process, and what it starts, leaves a core when it crashes: as it was at
/// first, or not. 1 is the limit at which the kernel writes none and wakes no handler
/// either, for which 0 would be no limit at all.
pub fn allow_cores(yes: bool) {
    static FIRST: std::sync::OnceLock<(u64, u64)> = std::sync::OnceLock::new();
    let (soft, hard) = *FIRST.get_or_init(|| get_rlimit(libc::RLIMIT_CORE).unwrap_or_default());
    let _ = set_rlimit(libc::RLIMIT_CORE, if yes { soft } else { hard.min(1) }, hard);
}

/// A session keyring of its own in place of the one that the session of the user shares with
/// everything in it. Without effect where the kernel has none or the quota is used up.
pub fn leave_session_keyring() {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<c_char>()) };
}

pub fn set_domain_name(name: &[u8]) -> Result<()> {
    // SAFETY: the kernel reads `len` bytes of the live slice.
    check(unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.len()) }).map(drop)
}

/// The command line that ps shows: overwrites argv in place, cutting what does
/// not fit. For processes that were forked and never execute anything.
pub fn set_title(title: &CStr) {
    let _ = nix::sys::prctl::set_name(title);
    let Some((start, end)) = argument_area() else { return };
    let room = end - start;
    let bytes = title.to_bytes();
    let used = bytes.len().min(room.saturating_sub(1));
    // SAFETY: [start, end) is this process's own argument area on its stack
    // (from /proc/self/stat), mapped and writable for the life of the process, and
    // nobody holds a reference into it. std and the C library keep pointers to the
    // old arguments: the last byte stays zero, so whoever follows one finds a string
    // that ends. There is one thread.
    unsafe {
        let area = std::slice::from_raw_parts_mut(start as *mut u8, room);
        area[..used].copy_from_slice(&bytes[..used]);
        area[used..].fill(0);
    }
}

fn argument_area() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields 48 and 49; the second may hold spaces, so count behind its ')'.
    let mut rest = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(45);
    let start = rest.next()?.parse().ok()?;
    let end = rest.next()?.parse().ok()?;
    (start != 0 && end > start && end - start < 1 << 20).then_some((start, end))
}
