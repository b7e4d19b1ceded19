//! What a container's (or exec's) first process does between clone and exec:
//! the plan's steps in order. Runs in the cloned child.
//!
//! The shim has one thread, so the child is a whole copy of it: the allocator's
//! locks are free and allocation is safe here, unlike after a fork of a threaded
//! program. It is used only for what cannot be known before (users, the final
//! environment). No logging, no unwinding: a failure is `{step, index, errno}` on
//! a close-on-exec socket, and the shim, which has the plan, makes the sentence.
//!
//! Invariant: every path is resolved after pivot_root (or setns), inside the
//! container's root, and through openat2 where a magic link could lead out. Nothing
//! of the host's is open in a process that is seen by others in its pid namespace.

mod root;
mod step;

use self::root::{Made, become_root, fill_root, make_target, open_root, prepare_root, protect_root};
use self::step::at;
pub use self::step::{Failure, Step};
use crate::runtime::plan::{Plan, ProcessPlan, RootPlan};
use crate::runtime::users::{self, Identity};
use crate::sys::process::{self, ExecArray, Forked, exit_now};
use crate::sys::{cap, fd, fs, mount, seccomp, signal, socket, term};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The child's ends of what the shim keeps the other ends of.
pub struct Ends<'a> {
    pub sync: BorrowedFd<'a>,
    /// stdin, stdout, stderr; none with a TTY.
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
}

/// Runs the plan; never returns.
pub fn run(plan: &Plan, ends: &Ends<'_>) -> ! {
    let Err(failure) = steps(plan, ends);
    let _ = socket::send(ends.sync, &failure.to_bytes(), &[]);
    exit_now(1)
}

fn steps(plan: &Plan, ends: &Ends<'_>) -> Result<std::convert::Infallible, Failure> {
    let process = &plan.process;
    if let Some(score) = process.oom_score_adj {
        match std::fs::write("/proc/self/oom_score_adj", score.to_string()).map_err(|e| e.raw_os_error()) {
            // Below the own value takes a privilege of the host.
            Ok(()) | Err(Some(libc::EACCES | libc::EPERM)) => {}
            Err(e) => return Err(Failure { step: Step::Oom, index: 0, errno: e.unwrap_or(0) }),
        }
    }
    // Until the exec, nobody in a shared pid namespace may look at our
    // descriptors or our program through /proc.
    let _ = nix::sys::prctl::set_dumpable(false);
    if plan.user_namespace.is_some() {
        wait_for_maps(ends).map_err(at(Step::Namespaces, 2))?;
    }
    for ns in &plan.joins {
        nix::sched::setns(ns, nix::sched::CloneFlags::empty()).map_err(at(Step::Namespaces, 0))?;
    }
    if let Some(pid) = plan.crosses() {
        process::enter(pid, process::CLONE_NEWPID).map_err(at(Step::Namespaces, 3))?;
    }
    let mut made = Vec::new();
    let root = match &plan.root {
        RootPlan::Start(start) => {
            made = prepare_root(start, plan.nested)?;
            open_root().map_err(at(Step::Root, 1))?
        }
        RootPlan::Enter { init, flags } => {
            process::enter(init.as_fd(), *flags).map_err(at(Step::Namespaces, 0))?;
            if plan.nested {
                become_root()?;
            }
            open_root().map_err(at(Step::Root, 1))?
        }
    };
    if plan.crosses().is_some() {
        cross(plan, ends, &root, &mut made)?;
    }
    if let RootPlan::Start(start) = &plan.root {
        fill_root(start, &made, &root)?;
        made.clear();
    }
    let _ = nix::unistd::setsid();
    process::leave_session_keyring();
    let identity = users::resolve(root.as_fd(), &process.user)?;
    stdio(plan, ends, &root, &identity)?;
    if let RootPlan::Start(start) = &plan.root {
        protect_root(start, &root)?;
    }
    drop(root);
    for (i, limit) in process.rlimits.iter().enumerate() {
        process::set_rlimit(limit.resource, limit.soft, limit.hard).map_err(at(Step::Rlimit, i))?;
    }
    become_user(process, &identity)?;
    execute(plan, &identity)
}

/// The process that goes on from here is seen by the others of its pid namespace, and who
/// has CAP_SYS_PTRACE there can use whatever it has open (CVE-2016-9962): so it begins here,
/// with the container's root for its own and nothing of the host's. The one that came from
/// outside was not in that namespace, and ends.
fn cross(plan: &Plan, ends: &Ends<'_>, root: &OwnedFd, made: &mut [Made]) -> Result<(), Failure> {
    let fail = at(Step::Namespaces, 4);
    let mut keep = vec![ends.sync, root.as_fd()];
    keep.extend(ends.stdio.iter().flatten());
    keep.extend(made.iter().flatten().flatten().map(AsFd::as_fd));
    if let RootPlan::Start(start) = &plan.root {
        keep.extend(start.descriptors());
    }
    fd::close_all_except(&keep).map_err(&fail)?;
    match process::clone_sibling().map_err(&fail)? {
        Forked::Child => {}
        Forked::Parent { pidfd, .. } => {
            let _ = socket::send(ends.sync, b"C", &[pidfd.as_fd()]);
            exit_now(0)
        }
    }
    if let RootPlan::Start(start) = &plan.root {
        for (i, _) in start.mounts.iter().enumerate().filter(|(_, m)| m.is_proc()) {
            made[i] = Some(begin_proc(ends.sync, i as u16));
        }
    }
    Ok(())
}

/// A proc shows the pid namespace of who begins it. The shim makes it.
fn begin_proc(sync: BorrowedFd<'_>, index: u16) -> nix::Result<OwnedFd> {
    let begun = mount::Context::open(c"proc")?;
    socket::send(sync, &[b"F", &index.to_ne_bytes()[..]].concat(), &[begun.as_fd()])?;
    let mut errno = [0; 4];
    let (_, mut fds) = socket::receive(sync, &mut errno, true)?;
    fds.pop().ok_or(Errno::from_raw(i32::from_ne_bytes(errno)))
}

/// Until they are written the process is nobody in its own user namespace.
fn wait_for_maps(ends: &Ends<'_>) -> nix::Result<()> {
    let mut word = [0];
    match socket::receive(ends.sync, &mut word, true)? {
        (1, _) => Ok(()),
        _ => Err(Errno::EPERM),
    }
}

/// Pipes, or a terminal of the container's own devpts, onto 0, 1 and 2.
fn stdio(plan: &Plan, ends: &Ends<'_>, root: &OwnedFd, identity: &Identity) -> Result<(), Failure> {
    let fail = at(Step::Stdio, 0);
    match ends.stdio {
        Some(streams) => {
            for (number, end) in streams.iter().enumerate() {
                own_stream(*end, identity);
                fd::dup_to(*end, number as i32).map_err(&fail)?;
            }
        }
        None => console(plan, ends, root, identity).map_err(at(Step::Console, 0))?,
    }
    Ok(())
}

/// /dev/stdout is opened anew by programs that are not root: they must own it.
/// The host's /dev/null is left alone.
fn own_stream(end: BorrowedFd<'_>, identity: &Identity) {
    if fstat(end).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFIFO) {
        let _ = nix::unistd::fchown(end, Some(nix::unistd::Uid::from_raw(identity.uid)), None);
    }
}

fn console(plan: &Plan, ends: &Ends<'_>, root: &OwnedFd, identity: &Identity) -> nix::Result<()> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let master = fs::open_in(root.as_fd(), c"/dev/pts/ptmx", flags, Mode::empty())?;
    // A container may have put something else there before an exec enters it
    // (CVE-2025-52565): only the real multiplexer of a devpts will do.
    let (stat, fs) = (fstat(&master)?, nix::sys::statfs::fstatfs(&master)?);
    if stat.st_rdev != libc::makedev(5, 2) || fs.filesystem_type() != nix::sys::statfs::FsType(libc::DEVPTS_SUPER_MAGIC)
    {
        return Err(Errno::ENODEV);
    }
    let terminal = term::open_peer(master.as_fd())?;
    nix::unistd::fchown(&terminal, Some(nix::unistd::Uid::from_raw(identity.uid)), None)?;
    if let Some((rows, cols)) = plan.console_size {
        let _ = term::set_window_size(master.as_fd(), rows, cols);
    }
    if let RootPlan::Start(_) = plan.root {
        let place = make_target(root, c"/dev/console", false, true)?;
        let copy = mount::clone_tree(Some(terminal.as_fd()), c"", false)?;
        mount::attach(copy.as_fd(), place.as_fd())?;
    }
    term::set_controlling(terminal.as_fd())?;
    for number in 0..3 {
        fd::dup_to(terminal.as_fd(), number)?;
    }
    socket::send(ends.sync, b"P", &[master.as_fd()])
}

/// Credentials, in the order in which each step still has the privilege it
/// needs: filter (if it needs CAP_SYS_ADMIN), bounding set, ids, working
/// directory, capabilities, no_new_privs, filter.
fn become_user(process: &ProcessPlan, identity: &Identity) -> Result<(), Failure> {
    let caps = at(Step::Capabilities, 0);
    if let (Some(filter), false) = (&process.seccomp, process.no_new_privileges) {
        seccomp::load(filter).map_err(at(Step::Seccomp, 0))?;
    }
    if process.make_cwd {
        make_cwd(&process.cwd)?;
    }
    for n in 0..64 {
        match cap::bounding_has(n) {
            Ok(true) if process.capabilities.bounding & (1 << n) == 0 => cap::bounding_drop(n).map_err(&caps)?,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let id = at(Step::Identity, 0);
    cap::keep_over_setuid(true).map_err(&caps)?;
    let groups: Vec<nix::unistd::Gid> = identity.groups.iter().map(|g| nix::unistd::Gid::from_raw(*g)).collect();
    match nix::unistd::setgroups(&groups) {
        // With a single mapped id setgroups is denied for good; then there is no
        // other group that could be meant.
        Err(Errno::EPERM) if identity.groups.iter().all(|g| *g == 0) => {}
        other => other.map_err(&id)?,
    }
    let gid = nix::unistd::Gid::from_raw(identity.gid);
    nix::unistd::setresgid(gid, gid, gid).map_err(&id)?;
    // As root first: the directory may be one that only root may enter.
    let entered = nix::unistd::chdir(process.cwd.as_c_str());
    let uid = nix::unistd::Uid::from_raw(identity.uid);
    nix::unistd::setresuid(uid, uid, uid).map_err(&id)?;
    if entered.is_err() {
        nix::unistd::chdir(process.cwd.as_c_str()).map_err(at(Step::Cwd, 0))?;
    }
    verify_cwd()?;
    cap::keep_over_setuid(false).map_err(&caps)?;
    let (_, held, _) = cap::get().map_err(&caps)?;
    let want = &process.capabilities;
    cap::set(want.effective & held, want.permitted & held, want.inheritable & held).map_err(&caps)?;
    let _ = cap::ambient_clear();
    for n in (0..64).filter(|n| want.ambient & held & (1 << n) != 0) {
        let _ = cap::ambient_raise(n);
    }
    if process.no_new_privileges {
        nix::sys::prctl::set_no_new_privs().map_err(&caps)?;
        if let Some(filter) = &process.seccomp {
            seccomp::load(filter).map_err(at(Step::Seccomp, 0))?;
        }
    }
    Ok(())
}

fn make_cwd(path: &CStr) -> Result<(), Failure> {
    let root = open_root().map_err(at(Step::Cwd, 0))?;
    match make_target(&root, path, true, false) {
        // A read-only root without the directory: chdir will say so.
        Ok(_) | Err(Errno::EROFS) => Ok(()),
        Err(e) => Err(at(Step::Cwd, 0)(e)),
    }
}

/// A working directory that cannot be named from the root lies outside it: an
/// inherited descriptor was used to get there (CVE-2024-21626).
fn verify_cwd() -> Result<(), Failure> {
    match nix::unistd::getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        Ok(_) => Err(at(Step::CwdOutside, 0)(Errno::ENOENT)),
        Err(e) => Err(at(Step::CwdOutside, 0)(e)),
    }
}

fn execute(plan: &Plan, identity: &Identity) -> Result<std::convert::Infallible, Failure> {
    let process = &plan.process;
    nix::sys::stat::umask(Mode::from_bits_truncate(process.umask));
    let mut env: Vec<&CStr> = process.env.iter().map(CString::as_c_str).collect();
    let home;
    if process.set_home {
        home = CString::new([b"HOME=", identity.home.as_bytes()].concat()).unwrap_or_default();
        // An empty HOME= of the image counts as none.
        env.retain(|e| e.to_bytes() != b"HOME=");
        env.push(&home);
    }
    let env = ExecArray::new(env.into_iter());
    let args = ExecArray::new(process.args.iter().map(CString::as_c_str));
    let init = match &plan.root {
        RootPlan::Start(start) => start.init.as_ref(),
        RootPlan::Enter { .. } => None,
    };
    let mut path = CString::default();
    if init.is_none() {
        path = look_up(&process.args[0], &process.path)?;
    } else if let Some(command) = process.args.get(2) {
        look_up(command, &process.path)?;
    }
    signal::reset_all();
    fd::cloexec_from(3).map_err(at(Step::Stdio, 1))?;
    let errno = match init {
        Some(program) => process::execve_fd(program.as_fd(), &args, &env),
        None => process::execve(&path, &args, &env),
    };
    // From here on the container counts as started, as with Docker: the words
    // go to its own stderr ("exec format error", a missing interpreter).
    let words = [b"exec ", path.to_bytes(), b": ", errno.desc().to_lowercase().as_bytes(), b"\n"].concat();
    let _ = nix::unistd::write(fd::standard(2), &words);
    exit_now(255)
}

/// PATH search as Go's exec.LookPath does it.
fn look_up(command: &CStr, path: &str) -> Result<CString, Failure> {
    let check = |candidate: &CStr| -> Result<(), Failure> {
        let stat = nix::sys::stat::stat(candidate).map_err(at(Step::NoSuchFile, 0))?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Err(at(Step::IsDirectory, 0)(Errno::EISDIR));
        }
        let flags = nix::fcntl::AtFlags::AT_EACCESS;
        nix::unistd::faccessat(nix::fcntl::AT_FDCWD, candidate, nix::unistd::AccessFlags::X_OK, flags)
            .map_err(at(Step::NotExecutable, 0))
    };
    if command.to_bytes().contains(&b'/') {
        check(command)?;
        return Ok(command.to_owned());
    }
    for dir in path.split(':') {
        let dir = if dir.is_empty() { "." } else { dir };
        let candidate = CString::new([dir.as_bytes(), b"/", command.to_bytes()].concat()).unwrap_or_default();
        if check(&candidate).is_ok() && dir.starts_with('/') {
            return Ok(candidate);
        }
    }
    Err(at(Step::NotInPath, 0)(Errno::ENOENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_search_tells_the_cases_apart() {
        let step = |command: &CStr| look_up(command, "/nonexistent:/bin:/usr/bin").unwrap_err().step;
        assert_eq!(step(c"coracle-no-such-program"), Step::NotInPath);
        assert_eq!(step(c"/etc"), Step::IsDirectory);
        assert_eq!(step(c"/etc/passwd"), Step::NotExecutable);
        assert_eq!(step(c"/nonexistent/x"), Step::NoSuchFile);
        assert!(look_up(c"sh", "/nonexistent:/bin:/usr/bin").is_ok());
    }
}
