//! Spec → plan, in the shim: every source opened, every string made, every
//! namespace flag decided before the clone, so that the child only executes.
//!
//! Invariant: all resolution of paths outside the container happens here, in the
//! spawner's mount namespace, and ends in descriptors; the child resolves paths
//! of the container alone, and only inside its root.

use crate::runtime::spec::{self, ExecSpec, FdIndex, Namespace, Propagation, Source, Spec};
use crate::sys::process::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS,
};
use crate::sys::seccomp::Instruction;
use crate::sys::{fd, mount};
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub struct Plan {
    pub clone_flags: u64,
    pub cgroup: Option<OwnedFd>,
    /// See [`Plan::crosses`]; else entered by the shim before the clone.
    pub join_pid: Option<OwnedFd>,
    /// Entered by the child.
    pub joins: Vec<OwnedFd>,
    /// Written by the shim once the child exists, which waits for it.
    pub user_namespace: Option<spec::UserNamespace>,
    /// The child is in a user namespace of its own, where it is not 0 at first.
    pub nested: bool,
    pub root: RootPlan,
    pub process: ProcessPlan,
    pub console_size: Option<(u16, u16)>,
}

pub enum RootPlan {
    Start(Box<StartPlan>),
    /// By exec: all namespaces of the container's init at once.
    Enter {
        init: OwnedFd,
        flags: u64,
    },
}

impl Plan {
    /// The pid namespace, with others in it, that the child enters only when nothing of the
    /// host's is open any more. In a user namespace of its own it could not any more, and is
    /// cloned into it.
    pub fn crosses(&self) -> Option<BorrowedFd<'_>> {
        self.join_pid.as_ref().filter(|_| self.user_namespace.is_none()).map(AsFd::as_fd)
    }
}

pub struct StartPlan {
    /// A directory that certainly exists: where the rootfs is attached for the
    /// moment before pivot_root.
    pub anchor: CString,
    pub rootfs: OwnedFd,
    pub rootfs_readonly: bool,
    pub new_cgroup_ns: bool,
    pub loopback: bool,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub mounts: Vec<MountStep>,
    /// A bind of the host's /dev/null, for masks of files.
    pub masked: Vec<CString>,
    pub readonly: Vec<CString>,
    /// Path below /proc/sys and value.
    pub sysctls: Vec<(CString, String)>,
    /// Our own program, executed instead of the command, which becomes its arguments.
    pub init: Option<OwnedFd>,
}

impl StartPlan {
    /// What is used after the old root is gone. The host's /proc, which stands in for one
    /// that cannot be made, is not among it.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let mounts = self.mounts.iter().filter(|m| !m.is_proc()).filter_map(|m| match &m.what {
            What::Ready { mount, .. } => Some(mount),
            What::Filesystem { fallback, .. } => fallback.as_ref(),
            What::Symlink(_) | What::Mark => None,
        });
        mounts.chain(&self.init).chain([&self.rootfs]).map(AsFd::as_fd)
    }
}

impl MountStep {
    pub fn is_proc(&self) -> bool {
        matches!(&self.what, What::Filesystem { fstype, .. } if fstype.as_c_str() == c"proc")
    }
}

pub struct MountStep {
    pub what: What,
    pub target: CString,
    /// For the sentence.
    pub source: String,
    pub attributes: u64,
    /// A standard mount: the target must not be reached through a symlink.
    pub strict: bool,
    /// A host or namespace that cannot give it does without.
    pub optional: bool,
    pub is_null: bool,
}

/// Keys and, unless they are flags, values for fsconfig.
pub type Options = Vec<(CString, Option<CString>)>;

pub enum What {
    /// Opened and set up by the shim.
    Ready {
        mount: OwnedFd,
        directory: bool,
    },
    /// Made by the child, in the namespaces that it shall show.
    Filesystem {
        fstype: CString,
        options: Vec<(CString, Option<CString>)>,
        fallback: Option<OwnedFd>,
    },
    Symlink(CString),
    /// An empty file.
    Mark,
}

pub struct ProcessPlan {
    pub args: Vec<CString>,
    pub env: Vec<CString>,
    pub path: String,
    pub cwd: CString,
    pub make_cwd: bool,
    pub user: spec::User,
    pub set_home: bool,
    pub capabilities: spec::Capabilities,
    pub no_new_privileges: bool,
    pub seccomp: Option<Vec<Instruction>>,
    pub rlimits: Vec<spec::Rlimit>,
    pub oom_score_adj: Option<i32>,
    pub umask: u32,
}

/// The sentence of what could not be prepared; `invalid` = the caller's fault.
pub struct Refusal {
    pub message: String,
    pub invalid: bool,
}

impl Refusal {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), invalid: false }
    }
}

pub type PlanResult<T> = Result<T, Refusal>;

/// Takes descriptors out of the table that came with the spec.
pub struct Table(Vec<Option<OwnedFd>>);

impl Table {
    pub fn new(fds: Vec<OwnedFd>) -> Self {
        Self(fds.into_iter().map(Some).collect())
    }
    /// The descriptor itself, or a duplicate if it is asked for once more.
    fn get(&self, index: FdIndex) -> PlanResult<OwnedFd> {
        let slot = self.0.get(usize::from(index.0)).and_then(Option::as_ref);
        let slot =
            slot.ok_or_else(|| Refusal::new(format!("the spec names descriptor {}, which was not sent", index.0)))?;
        fd::duplicate(slot.as_fd()).map_err(|e| Refusal::new(format!("duplicate a descriptor: {}", text(e))))
    }
}

pub fn text(e: Errno) -> String {
    e.desc().to_lowercase()
}

fn c(s: impl Into<Vec<u8>>) -> PlanResult<CString> {
    CString::new(s).map_err(|_| Refusal { message: "a string of the container holds a NUL byte".into(), invalid: true })
}

pub fn container(spec: &Spec, table: &Table) -> PlanResult<Plan> {
    let mut joins = Vec::new();
    let mut clone_flags = CLONE_NEWNS;
    let mut join_pid = None;
    let spaces = &spec.namespaces;
    for (space, flag) in [
        (spaces.network, CLONE_NEWNET),
        (spaces.pid, CLONE_NEWPID),
        (spaces.ipc, CLONE_NEWIPC),
        (spaces.uts, CLONE_NEWUTS),
        (spaces.cgroup, CLONE_NEWCGROUP),
    ] {
        match space {
            Namespace::Host => {}
            // Its root is the cgroup of who makes it: the child does, once it is
            // in its own.
            Namespace::New if flag == CLONE_NEWCGROUP => {}
            Namespace::New => clone_flags |= flag,
            Namespace::Join(index) if flag == CLONE_NEWPID => join_pid = Some(table.get(index)?),
            Namespace::Join(index) => joins.push(table.get(index)?),
        }
    }
    let mut sysctls = spec.sysctls.clone();
    if spec.user_namespace.is_some() {
        clone_flags |= CLONE_NEWUSER;
        enter_first(spec, std::mem::take(&mut joins), &mut sysctls)?;
    }
    let sysctl = |(name, value): &(String, String)| Ok((c(name.replace('.', "/"))?, value.clone()));
    let own_uts = spaces.uts == Namespace::New;
    let start = StartPlan {
        anchor: c(spec.run_dir.as_os_str().as_bytes())?,
        rootfs: table.get(spec.rootfs)?,
        rootfs_readonly: spec.rootfs_readonly,
        new_cgroup_ns: spaces.cgroup == Namespace::New,
        loopback: spaces.network == Namespace::New,
        hostname: own_uts.then(|| spec.hostname.clone()).filter(|h| !h.is_empty()),
        domainname: own_uts.then(|| spec.domainname.clone()).filter(|h| !h.is_empty()),
        mounts: crate::runtime::mounts::steps(spec, table)?,
        masked: spec.masked_paths.iter().map(|p| c(p.as_str())).collect::<PlanResult<_>>()?,
        readonly: spec.readonly_paths.iter().map(|p| c(p.as_str())).collect::<PlanResult<_>>()?,
        sysctls: sysctls.iter().map(sysctl).collect::<PlanResult<_>>()?,
        init: if spec.init { Some(own_program()?) } else { None },
    };
    let mut process = process(&spec.process, true)?;
    if spec.init {
        let front = [crate::runtime::init::PATH, c"--"].map(CStr::to_owned);
        process.args.splice(0..0, front);
    }
    Ok(Plan {
        clone_flags,
        cgroup: spec.cgroup.map(|i| table.get(i)).transpose()?,
        join_pid,
        joins,
        user_namespace: spec.user_namespace.clone(),
        nested: spec.user_namespace.is_some(),
        root: RootPlan::Start(Box::new(start)),
        process,
        console_size: spec.stdio.console_size,
    })
}

/// What a child in a user namespace of its own could not do any more: it has no
/// power over namespaces that lie outside. So the shim enters them itself, and
/// sets what is to be set there.
fn enter_first(spec: &Spec, joins: Vec<OwnedFd>, sysctls: &mut Vec<(String, String)>) -> PlanResult<()> {
    for namespace in joins {
        nix::sched::setns(&namespace, nix::sched::CloneFlags::empty())
            .map_err(|e| Refusal::new(format!("joining a namespace: {}", text(e))))?;
    }
    if let Namespace::Join(_) = spec.namespaces.network {
        for (name, value) in sysctls.extract_if(.., |(name, _)| name.starts_with("net.")) {
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            std::fs::write(&path, value).map_err(|e| Refusal::new(format!("open {path}: {e}")))?;
        }
    }
    Ok(())
}

/// A file system of its own, mounted nowhere yet.
pub fn make_filesystem(fstype: &CStr, options: &[(CString, Option<CString>)], attributes: u64) -> nix::Result<OwnedFd> {
    configure(&mount::Context::open(fstype)?, fstype, options, attributes)
}

fn configure(
    context: &mount::Context,
    fstype: &CStr,
    options: &[(CString, Option<CString>)],
    attributes: u64,
) -> nix::Result<OwnedFd> {
    // What mount(8) shows in its first column.
    if !options.iter().any(|(key, _)| key.as_c_str() == c"source") {
        let _ = context.string(c"source", fstype);
    }
    for (key, value) in options {
        match value {
            Some(value) => context.string(key, value)?,
            None => context.flag(key)?,
        }
    }
    context.mount(attributes)
}

/// A /proc that the child has begun in the pid namespace that it is to show; made here, where
/// the host's is in sight, which the kernel asks for. `begun` may be from whoever has got hold
/// of that child, and name files by paths that are looked up only now: nothing but a proc goes
/// back.
pub fn finish_proc(plan: &Plan, index: usize, begun: OwnedFd) -> nix::Result<OwnedFd> {
    use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
    let RootPlan::Start(start) = &plan.root else { return Err(Errno::EPERM) };
    let step = start.mounts.get(index).filter(|m| m.is_proc()).ok_or(Errno::EPERM)?;
    let What::Filesystem { fstype, options, .. } = &step.what else { return Err(Errno::EPERM) };
    let made = configure(&mount::Context::from(begun), fstype, options, step.attributes)?;
    match fstatfs(&made)?.filesystem_type() {
        PROC_SUPER_MAGIC => Ok(made),
        _ => Err(Errno::EPERM),
    }
}

/// `init` is the pidfd of the container's init, `pid` its number.
pub fn exec(spec: &ExecSpec, init: OwnedFd, pid: i32, table: &Table) -> PlanResult<Plan> {
    // Entering a namespace that is ours already is refused for some kinds, and
    // the host's ones cannot be entered from a user namespace at all.
    let mut flags = CLONE_NEWNS;
    let mut join_pid = None;
    for (name, flag) in [
        ("net", CLONE_NEWNET),
        ("pid", CLONE_NEWPID),
        ("ipc", CLONE_NEWIPC),
        ("uts", CLONE_NEWUTS),
        ("cgroup", CLONE_NEWCGROUP),
        ("user", CLONE_NEWUSER),
    ] {
        let link = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{name}")).ok();
        let theirs = link(&pid.to_string());
        if theirs.is_none() || theirs == link("self") {
            continue;
        }
        if flag == CLONE_NEWPID {
            join_pid = Some(fd::duplicate(init.as_fd()).map_err(|e| Refusal::new(text(e)))?);
        } else {
            flags |= flag;
        }
    }
    Ok(Plan {
        clone_flags: 0,
        cgroup: spec.cgroup.map(|i| table.get(i)).transpose()?,
        join_pid,
        joins: Vec::new(),
        user_namespace: None,
        nested: flags & CLONE_NEWUSER != 0,
        root: RootPlan::Enter { init, flags },
        process: process(&spec.process, false)?,
        console_size: spec.stdio.console_size,
    })
}

fn process(p: &spec::Process, make_cwd: bool) -> PlanResult<ProcessPlan> {
    let strings = |list: &[String]| list.iter().map(|s| c(s.as_str())).collect::<PlanResult<Vec<_>>>();
    let has_home = p.env.iter().any(|e| e.starts_with("HOME=") && e.len() > 5);
    let path = p.env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default().to_owned();
    let seccomp =
        p.seccomp.as_ref().map(|bytes| bytes.as_chunks::<8>().0.iter().map(|b| Instruction::from_bytes(*b)).collect());
    if p.args.is_empty() {
        return Err(Refusal { message: "no command specified".into(), invalid: true });
    }
    Ok(ProcessPlan {
        args: strings(&p.args)?,
        env: strings(&p.env)?,
        path,
        cwd: c(if p.cwd.is_empty() { "/" } else { p.cwd.as_str() })?,
        make_cwd,
        user: p.user.clone(),
        set_home: p.user.set_home && !has_home,
        capabilities: p.capabilities,
        no_new_privileges: p.no_new_privileges,
        seccomp,
        rlimits: p.rlimits.clone(),
        oom_score_adj: p.oom_score_adj,
        umask: p.umask,
    })
}

/// The spawner was executed from a read-only mount: this descriptor, and every
/// /proc/PID/exe that follows from it, cannot be opened for writing.
pub fn own_program() -> PlanResult<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    open(c"/proc/self/exe", OFlag::O_PATH | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())
        .map_err(|e| Refusal::new(format!("open our own program: {}", text(e))))
}

/// A bind of something that is named from outside the container.
pub fn bind_source(m: &spec::Mount, table: &Table) -> PlanResult<(OwnedFd, String)> {
    let fail = |source: &str, e: Errno| {
        Refusal::new(format!("error mounting \"{source}\" to rootfs at \"{}\": {}", m.target, text(e)))
    };
    match &m.source {
        Source::Path { path, recursive } => {
            let shown = path.display().to_string();
            let tree =
                mount::clone_tree(None, &c(path.as_os_str().as_bytes())?, *recursive).map_err(|e| fail(&shown, e))?;
            Ok((tree, shown))
        }
        Source::Fd { fd, recursive } => {
            let source = table.get(*fd)?;
            // A detached mount cannot be copied on kernels before 6.15: then it
            // is the mount itself that is used up.
            let tree = match mount::clone_tree(Some(source.as_fd()), c"", *recursive) {
                Ok(tree) => tree,
                Err(Errno::EINVAL) => source,
                Err(e) => return Err(fail("a prepared mount", e)),
            };
            Ok((tree, "a prepared mount".to_owned()))
        }
        Source::Filesystem { .. } | Source::Cgroup => Err(Refusal::new("not a bind mount")),
    }
}

/// Sets what a bind mount asks for, on the detached copy.
pub fn apply_options(tree: &OwnedFd, m: &spec::Mount) -> PlanResult<()> {
    let attributes = attributes(m);
    let (flag, recursive) = propagation(m.propagation);
    let failed =
        |e: Errno| Refusal::new(format!("error setting options of the mount at \"{}\": {}", m.target, text(e)));
    mount::set_attributes(tree.as_fd(), 0, flag, recursive).map_err(failed)?;
    mount::set_attributes(tree.as_fd(), attributes, 0, false).map_err(failed)?;
    if m.readonly && m.recursive_readonly {
        mount::set_attributes(tree.as_fd(), mount::ATTR_RDONLY, 0, true).map_err(failed)?;
    }
    Ok(())
}

pub fn attributes(m: &spec::Mount) -> u64 {
    [
        (m.readonly, mount::ATTR_RDONLY),
        (m.nosuid, mount::ATTR_NOSUID),
        (m.nodev, mount::ATTR_NODEV),
        (m.noexec, mount::ATTR_NOEXEC),
    ]
    .into_iter()
    .filter_map(|(on, bit)| on.then_some(bit))
    .sum()
}

fn propagation(p: Propagation) -> (u64, bool) {
    match p {
        Propagation::RPrivate => (libc::MS_PRIVATE, true),
        Propagation::Private => (libc::MS_PRIVATE, false),
        Propagation::RSlave => (libc::MS_SLAVE, true),
        Propagation::Slave => (libc::MS_SLAVE, false),
        Propagation::RShared => (libc::MS_SHARED, true),
        Propagation::Shared => (libc::MS_SHARED, false),
    }
}

/// Whether a mount source is a directory, so that its target is made alike.
pub fn is_directory(tree: &OwnedFd) -> bool {
    nix::sys::stat::fstat(tree).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// mount(8)-like data split for fsconfig; flags that are mount attributes come
/// back as such.
pub fn parse_data(data: &str) -> PlanResult<(Options, u64)> {
    let mut options = Vec::new();
    let mut attributes = 0;
    for word in data.split(',').filter(|w| !w.is_empty()) {
        match word {
            "ro" => attributes |= mount::ATTR_RDONLY,
            "nosuid" => attributes |= mount::ATTR_NOSUID,
            "nodev" => attributes |= mount::ATTR_NODEV,
            "noexec" => attributes |= mount::ATTR_NOEXEC,
            "noatime" => attributes |= mount::ATTR_NOATIME,
            "rw" | "suid" | "dev" | "exec" | "relatime" | "strictatime" | "async" | "defaults" => {}
            _ => match word.split_once('=') {
                Some((key, value)) => options.push((c(key)?, Some(c(value)?))),
                None => options.push((c(word)?, None)),
            },
        }
    }
    Ok((options, attributes))
}

pub fn path_string(path: &Path) -> PlanResult<CString> {
    c(path.as_os_str().as_bytes())
}

pub fn string(s: &str) -> PlanResult<CString> {
    c(s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_data_is_split() {
        let (options, attributes) = parse_data("size=64m,mode=1777,nosuid,ro,noswap").ok().unwrap();
        assert_eq!(attributes, mount::ATTR_NOSUID | mount::ATTR_RDONLY);
        assert_eq!(options.len(), 3);
        assert_eq!(options[2], (c"noswap".to_owned(), None));
    }
}
