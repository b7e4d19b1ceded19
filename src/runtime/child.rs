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
//! container's root, and through openat2 where a magic link could lead out.

use crate::runtime::plan::{MountStep, Plan, ProcessPlan, RootPlan, StartPlan, What};
use crate::runtime::users::{self, Identity};
use crate::sys::process::{self, ExecArray, exit_now};
use crate::sys::{cap, fd, fs, mount, seccomp, signal, socket, term};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Where a failure happened; the number travels on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    Namespaces,
    Loopback,
    Hostname,
    Root,
    /// Index into the mounts: the target could not be made or found.
    Target,
    /// Index into the mounts: the mount was refused.
    Mount,
    Console,
    Stdio,
    /// Index into the sysctls.
    Sysctl,
    /// Index into the masked paths.
    Mask,
    /// Index into the readonly paths.
    Readonly,
    RootReadonly,
    /// Index into the rlimits.
    Rlimit,
    Seccomp,
    /// No such user, or a bad one.
    User,
    /// No such group; index 0 is the one beside the user, 1.. additional groups.
    Group,
    /// The ids are not mapped on this host.
    Identity,
    Cwd,
    /// The working directory lies outside the root.
    CwdOutside,
    Capabilities,
    NotInPath,
    IsDirectory,
    NotExecutable,
    NoSuchFile,
    Oom,
}

impl Step {
    const ALL: [Step; 25] = [
        Step::Namespaces,
        Step::Loopback,
        Step::Hostname,
        Step::Root,
        Step::Target,
        Step::Mount,
        Step::Console,
        Step::Stdio,
        Step::Sysctl,
        Step::Mask,
        Step::Readonly,
        Step::RootReadonly,
        Step::Rlimit,
        Step::Seccomp,
        Step::User,
        Step::Group,
        Step::Identity,
        Step::Cwd,
        Step::CwdOutside,
        Step::Capabilities,
        Step::NotInPath,
        Step::IsDirectory,
        Step::NotExecutable,
        Step::NoSuchFile,
        Step::Oom,
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    pub step: Step,
    pub index: u16,
    pub errno: i32,
}

impl Failure {
    pub fn to_bytes(self) -> [u8; 8] {
        let mut b = [b'F', self.step as u8, 0, 0, 0, 0, 0, 0];
        b[2..4].copy_from_slice(&self.index.to_le_bytes());
        b[4..].copy_from_slice(&self.errno.to_le_bytes());
        b
    }
    pub fn from_bytes(b: &[u8]) -> Option<Self> {
        let [b'F', step, i0, i1, e0, e1, e2, e3] = *b else { return None };
        let step = *Step::ALL.get(usize::from(step))?;
        Some(Self { step, index: u16::from_le_bytes([i0, i1]), errno: i32::from_le_bytes([e0, e1, e2, e3]) })
    }
}

fn at(step: Step, index: usize) -> impl Fn(Errno) -> Failure {
    move |errno| Failure { step, index: index as u16, errno: errno as i32 }
}

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
    let _ = nix::unistd::setsid();
    for ns in &plan.joins {
        nix::sched::setns(ns, nix::sched::CloneFlags::empty()).map_err(at(Step::Namespaces, 0))?;
    }
    let mut made = Vec::new();
    let root = match &plan.root {
        RootPlan::Start(start) => {
            made = prepare_root(start)?;
            open_root().map_err(at(Step::Root, 1))?
        }
        RootPlan::Enter { init, flags } => {
            process::enter(init.as_fd(), *flags).map_err(at(Step::Namespaces, 0))?;
            open_root().map_err(at(Step::Root, 1))?
        }
    };
    if let RootPlan::Start(start) = &plan.root {
        fill_root(start, &made, &root)?;
        made.clear();
    }
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

/// A file system made before the old root went away, or why it was not.
type Made = Option<nix::Result<OwnedFd>>;

/// Mount namespace: everything of the host out of sight. The file systems are
/// made while the host's are still there: in a user namespace the kernel allows
/// a new proc or sysfs only beside one that shows everything already.
fn prepare_root(start: &StartPlan) -> Result<Vec<Made>, Failure> {
    if start.new_cgroup_ns {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).map_err(at(Step::Namespaces, 1))?;
    }
    if start.loopback {
        socket::loopback_up().map_err(at(Step::Loopback, 0))?;
    }
    if let Some(name) = &start.hostname {
        nix::unistd::sethostname(name).map_err(at(Step::Hostname, 0))?;
    }
    if let Some(name) = &start.domainname {
        process::set_domain_name(name.as_bytes()).map_err(at(Step::Hostname, 1))?;
    }
    let fail = at(Step::Root, 0);
    // Slave, not private: what is bound with rslave keeps hearing of the host,
    // and nothing that happens here goes out.
    mount::set_root_propagation(libc::MS_SLAVE).map_err(&fail)?;
    mount::attach_at(start.rootfs.as_fd(), &start.anchor).map_err(&fail)?;
    let made = start.mounts.iter().map(|m| match &m.what {
        What::Filesystem { fstype, options, .. } => Some(make_filesystem(fstype, options, m.attributes)),
        What::Ready { .. } | What::Symlink(_) => None,
    });
    let made = made.collect();
    nix::unistd::fchdir(&start.rootfs).map_err(&fail)?;
    nix::unistd::pivot_root(c".", c".").map_err(&fail)?;
    nix::mount::umount2(c".", nix::mount::MntFlags::MNT_DETACH).map_err(&fail)?;
    nix::unistd::chdir(c"/").map_err(&fail)?;
    Ok(made)
}

fn open_root() -> nix::Result<OwnedFd> {
    open(c"/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

fn fill_root(start: &StartPlan, made: &[Made], root: &OwnedFd) -> Result<(), Failure> {
    for (i, (step, made)) in start.mounts.iter().zip(made).enumerate() {
        match mount_step(step, made, root) {
            Ok(()) => {}
            Err(_) if step.optional => {}
            Err((kind, errno)) => return Err(at(kind, i)(errno)),
        }
    }
    for (i, (name, value)) in start.sysctls.iter().enumerate() {
        let write = || -> nix::Result<()> {
            let sys = fs::open_in(root.as_fd(), c"/proc/sys", OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
            let file = fs::open_beneath(sys.as_fd(), name, OFlag::O_WRONLY, Mode::empty())?;
            nix::unistd::write(&file, value.as_bytes()).map(drop)
        };
        write().map_err(at(Step::Sysctl, i))?;
    }
    Ok(())
}

fn mount_step(step: &MountStep, made: &Made, root: &OwnedFd) -> Result<(), (Step, Errno)> {
    let target = |e| (Step::Target, e);
    let refused = |e| (Step::Mount, e);
    match &step.what {
        What::Ready { mount, directory } => {
            let place = make_target(root, &step.target, *directory, step.strict).map_err(target)?;
            if is_directory(&place) != *directory {
                return Err(refused(Errno::ENOTDIR));
            }
            mount::attach(mount.as_fd(), place.as_fd()).map_err(refused)
        }
        What::Filesystem { fallback, .. } => {
            let place = make_target(root, &step.target, true, step.strict).map_err(target)?;
            match (made, fallback) {
                (Some(Ok(mount)), _) => mount::attach(mount.as_fd(), place.as_fd()).map_err(refused),
                (_, Some(host)) => mount::attach(host.as_fd(), place.as_fd()).map_err(refused),
                (Some(Err(e)), None) => Err(refused(*e)),
                (None, None) => Err(refused(Errno::ENODEV)),
            }
        }
        What::Symlink(to) => match nix::unistd::symlinkat(to.as_c_str(), root, relative(&step.target)) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(e) => Err(target(e)),
        },
    }
}

fn make_filesystem(fstype: &CStr, options: &[(CString, Option<CString>)], attributes: u64) -> nix::Result<OwnedFd> {
    let context = mount::Context::open(fstype)?;
    // What mount(8) shows in its first column.
    let _ = context.string(c"source", fstype);
    for (key, value) in options {
        match value {
            Some(value) => context.string(key, value)?,
            None => context.flag(key)?,
        }
    }
    context.mount(attributes)
}

fn relative(path: &CStr) -> &CStr {
    let bytes = path.to_bytes_with_nul();
    let from = bytes.iter().position(|b| *b != b'/').unwrap_or(bytes.len() - 1);
    CStr::from_bytes_with_nul(&bytes[from..]).unwrap_or(c".")
}

/// The place of a mount inside the root, made where it is missing: directories
/// 0755, an empty file 0644. Symlinks count as inside the root, also dangling
/// ones (images point /etc/resolv.conf into an empty /run).
fn make_target(root: &OwnedFd, path: &CStr, directory: bool, strict: bool) -> nix::Result<fs::InRoot> {
    let flags = OFlag::O_PATH | if strict { OFlag::O_NOFOLLOW } else { OFlag::empty() };
    match fs::open_in(root.as_fd(), path, flags, Mode::empty()) {
        Err(Errno::ENOENT) => {}
        Ok(found) if strict && is_symlink(&found) => return Err(Errno::ELOOP),
        other => return other,
    }
    let mut follow = 40;
    let mut pending: Vec<u8> = path.to_bytes().to_vec();
    let mut done: Vec<u8> = Vec::with_capacity(pending.len());
    // `done` is the resolved prefix, `pending` what is still to be walked.
    loop {
        let rest = pending.iter().position(|b| *b != b'/').map_or(&[][..], |n| &pending[n..]);
        if rest.is_empty() {
            break;
        }
        let end = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
        let (name, tail) = (rest[..end].to_vec(), rest[end..].to_vec());
        let last = tail.iter().all(|b| *b == b'/');
        match name.as_slice() {
            b"." => {}
            b".." => done.truncate(done.iter().rposition(|b| *b == b'/').unwrap_or(0)),
            _ => {
                let parent = find(root, &done)?;
                let plain = CString::new(name.clone()).map_err(|_| Errno::EINVAL)?;
                let made = if last && !directory {
                    nix::fcntl::openat(
                        &parent,
                        plain.as_c_str(),
                        OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC,
                        Mode::from_bits_truncate(0o644),
                    )
                    .map(drop)
                } else {
                    nix::sys::stat::mkdirat(&parent, plain.as_c_str(), Mode::from_bits_truncate(0o755))
                };
                match made {
                    Ok(()) => {}
                    Err(Errno::EEXIST | Errno::EROFS) => {
                        if let Ok(link) = nix::fcntl::readlinkat(&parent, plain.as_c_str()) {
                            follow -= 1;
                            if follow == 0 || strict {
                                return Err(Errno::ELOOP);
                            }
                            use std::os::unix::ffi::OsStrExt;
                            let link = link.as_bytes();
                            if link.starts_with(b"/") {
                                done.clear();
                            }
                            pending = [link, b"/", &tail].concat();
                            continue;
                        }
                    }
                    Err(e) => return Err(e),
                }
                done.push(b'/');
                done.extend_from_slice(&name);
            }
        }
        pending = tail;
    }
    find(root, &done)
}

fn find(root: &OwnedFd, path: &[u8]) -> nix::Result<fs::InRoot> {
    let path = CString::new(if path.is_empty() { b"/" } else { path }).map_err(|_| Errno::EINVAL)?;
    fs::open_in(root.as_fd(), &path, OFlag::O_PATH, Mode::empty())
}

fn is_symlink(fd: &fs::InRoot) -> bool {
    fstat(fd).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFLNK)
}

fn is_directory(fd: &fs::InRoot) -> bool {
    fstat(fd).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Masks, read-only paths and a read-only root, last of all mounts. Everything
/// is done on descriptors: the mask is our own /dev/null, found by the mount we
/// attached and not by a path (CVE-2025-31133, CVE-2025-52881).
fn protect_root(start: &StartPlan, root: &OwnedFd) -> Result<(), Failure> {
    let null = start.mounts.iter().find_map(|m| match &m.what {
        What::Ready { mount, .. } if m.is_null => Some(mount),
        _ => None,
    });
    let mut empty: Option<OwnedFd> = None;
    for (i, path) in start.masked.iter().enumerate() {
        let fail = at(Step::Mask, i);
        let place = match fs::open_in(root.as_fd(), path, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(place) => place,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            Err(e) => return Err(fail(e)),
        };
        if is_directory(&place) {
            let mask = match &empty {
                Some(mask) => mount::clone_tree(Some(mask.as_fd()), c"", false).map_err(&fail)?,
                None => {
                    let options =
                        [(c"size".to_owned(), Some(c"0".to_owned())), (c"nr_inodes".to_owned(), Some(c"2".to_owned()))];
                    make_filesystem(c"tmpfs", &options, mount::ATTR_RDONLY | NO_NODES).map_err(&fail)?
                }
            };
            mount::attach(mask.as_fd(), place.as_fd()).map_err(&fail)?;
            empty.get_or_insert(mask);
        } else if let Some(null) = null {
            let mask = mount::clone_tree(Some(null.as_fd()), c"", false).map_err(&fail)?;
            mount::attach(mask.as_fd(), place.as_fd()).map_err(&fail)?;
        }
    }
    for (i, path) in start.readonly.iter().enumerate() {
        let fail = at(Step::Readonly, i);
        let place = match fs::open_in(root.as_fd(), path, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(place) => place,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            Err(e) => return Err(fail(e)),
        };
        let copy = mount::clone_tree(Some(place.as_fd()), c"", true).map_err(&fail)?;
        mount::set_attributes(copy.as_fd(), mount::ATTR_RDONLY, 0, true).map_err(&fail)?;
        mount::attach(copy.as_fd(), place.as_fd()).map_err(&fail)?;
    }
    if start.rootfs_readonly {
        mount::set_attributes(start.rootfs.as_fd(), mount::ATTR_RDONLY, 0, false).map_err(at(Step::RootReadonly, 0))?;
    }
    Ok(())
}

const NO_NODES: u64 = mount::ATTR_NOSUID | mount::ATTR_NODEV | mount::ATTR_NOEXEC;

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
    fn failures_travel_as_eight_bytes() {
        for step in Step::ALL {
            let failure = Failure { step, index: 513, errno: 2 };
            assert_eq!(Failure::from_bytes(&failure.to_bytes()), Some(failure));
        }
        assert_eq!(Failure::from_bytes(b"F\xff......"), None);
        assert_eq!(relative(c"//dev/x"), c"dev/x");
        assert_eq!(relative(c"/"), c"");
    }

    #[test]
    fn path_search_tells_the_cases_apart() {
        let step = |command: &CStr| look_up(command, "/nonexistent:/bin:/usr/bin").unwrap_err().step;
        assert_eq!(step(c"coracle-no-such-program"), Step::NotInPath);
        assert_eq!(step(c"/etc"), Step::IsDirectory);
        assert_eq!(step(c"/etc/passwd"), Step::NotExecutable);
        assert_eq!(step(c"/nonexistent/x"), Step::NoSuchFile);
        assert!(look_up(c"sh", "/nonexistent:/bin:/usr/bin").is_ok());
    }

    #[test]
    fn targets_are_made_inside_the_root() {
        let dir = std::env::temp_dir().join(format!("coracle-target-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::os::unix::fs::symlink("../run/systemd/resolv.conf", dir.join("etc/resolv.conf")).unwrap();
        std::os::unix::fs::symlink("/../../up", dir.join("etc/up")).unwrap();
        let root: OwnedFd = std::fs::File::open(&dir).unwrap().into();
        make_target(&root, c"/etc/resolv.conf", false, false).unwrap();
        assert!(dir.join("run/systemd/resolv.conf").is_file());
        make_target(&root, c"/etc/up/a/b", true, false).unwrap();
        assert!(dir.join("up/a/b").is_dir());
        assert_eq!(make_target(&root, c"/etc/up", true, true).unwrap_err(), Errno::ELOOP);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
