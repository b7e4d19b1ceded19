//! dockerd's side of the runtime: the table of live shims, the requests to them
//! and the one monitor thread that hears their events. Any thread may call.
//!
//! Invariant: the event callback runs on the monitor thread alone and may come
//! for a container before the `start` that made it has returned (a process that
//! ends at once): whoever keeps states orders the two by a lock of its own. The
//! callback must not block for long and must not call `start` or `exec`.

use crate::error::{Context, Error, Kind, Result};
use crate::runtime::cgroup::{Cgroup, Cgroups};
use crate::runtime::monitor::{Monitor, Shim};
use crate::runtime::spawner;
use crate::runtime::spec::{ExecSpec, FdIndex, Spec};
use crate::runtime::wire::{self, AttachMeta, FromShim, Job, Names, Spawn, ToShim, Work};
use crate::sys::{fd, process, signal, socket};
use crate::util::json;
use crate::util::thread;
use crate::util::time::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What happened to a container or an exec; `id` is the spec's.
#[derive(Debug, Clone)]
pub enum Event {
    /// Its process is gone and its output is drained, logged and sent.
    Exited { id: String, exit: ExitRecord },
    /// An attached client typed the detach keys.
    Detached { id: String },
    /// The kernel killed something in its cgroup for want of memory.
    Oom { id: String },
    /// Its shim died: it runs on, but stdio, logs and attach are gone for good.
    StdioLost { id: String },
}

/// How a process ended; also the content of the exit record on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// 0..=255; 128+n for signal n.
    pub code: i32,
    pub oom: bool,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
}

impl ExitRecord {
    pub fn finished(&self) -> Timestamp {
        Timestamp(i128::from(self.finished_at))
    }
}

/// A client's connection, handed over to the shim: dockerd is out of the data path.
#[derive(Debug)]
pub struct Attach {
    /// A stream socket on which the answer's head has already been written. It
    /// belongs to the shim alone afterwards: drop every other copy.
    pub client: OwnedFd,
    /// What was already read from it beyond the request: the first stdin bytes.
    pub leftover: Vec<u8>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// stdcopy framing (no TTY); else raw bytes.
    pub framed: bool,
    /// Only looked for with a TTY; empty = no detaching.
    pub detach_keys: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// As the engine's pid namespace (the host's) counts.
    pub pid: i32,
}

/// What a daemon finds of a container that an earlier daemon started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// Attached again: events will come.
    Running { pid: i32 },
    /// It runs, but its shim is dead: no logs or attach; its exit will come.
    Orphaned { pid: i32 },
    /// It ended while nobody listened.
    Exited(ExitRecord),
    /// No trace (power cut, or everything was killed).
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceKind {
    Network,
    Pid,
    Ipc,
    Uts,
}

impl NamespaceKind {
    /// Its name in /proc/PID/ns.
    fn file(self) -> &'static str {
        match self {
            NamespaceKind::Network => "net",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
        }
    }
}

/// The handle of dockerd; thread-safe.
pub struct Runtime {
    exec_root: PathBuf,
    spawner: Mutex<OwnedFd>,
    monitor: Arc<Monitor>,
    cgroups: Cgroups,
}

pub type OnEvent = Box<dyn Fn(Event) + Send + Sync>;

impl Runtime {
    /// `spawner` comes from `daemon::bootstrap::enter`.
    pub fn new(spawner: OwnedFd, exec_root: &Path, on_event: OnEvent) -> Result<Self> {
        let monitor = Monitor::start(exec_root, on_event)?;
        let cgroups = Cgroups::probe();
        Ok(Self { exec_root: exec_root.to_owned(), spawner: Mutex::new(spawner), monitor, cgroups })
    }

    /// `<exec-root>/containers/<id>`: `Spec::run_dir` of a container (the engine
    /// makes it, 0700, and removes it after the exit was taken). An exec uses its
    /// container's.
    pub fn run_dir(&self, id: &str) -> PathBuf {
        self.exec_root.join("containers").join(id)
    }

    /// What can be limited, and making the cgroups for it.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// The cgroup of a running container, if it has one of its own.
    pub fn cgroup(&self, id: &str) -> Option<Cgroup> {
        Cgroup::of_container(self.shim(id).ok()?.pid, id)
    }

    /// Starts a container and returns when its command has been executed.
    /// `attaches` lose no output. Errors carry Docker's sentence, with which the
    /// client finds its 126 and 127.
    pub fn start(&self, spec: &Spec, fds: Vec<OwnedFd>, attaches: Vec<Attach>) -> Result<Started> {
        let _ = std::fs::remove_file(spec.run_dir.join(Names::of(&spec.id, false).exit));
        let job = Job::Container(Box::new(spec.clone()));
        self.spawn(&spec.id, &spec.run_dir, job, fds, None, attaches)
    }

    /// Starts a process in a running container.
    pub fn exec(&self, spec: &ExecSpec, fds: Vec<OwnedFd>, attaches: Vec<Attach>) -> Result<Started> {
        let container = self.shim(&spec.container_id)?;
        let init = fd::duplicate(container.pidfd.as_fd())?;
        let (mut spec, mut fds) = (spec.clone(), fds);
        if let (None, Some(cgroup)) = (spec.cgroup, Cgroup::of_container(container.pid, &container.id)) {
            spec.cgroup = Some(FdIndex(fds.len() as u16));
            fds.push(cgroup.into_directory());
        }
        let (id, run_dir) = (spec.id.clone(), spec.run_dir.clone());
        let job = Job::Exec(Box::new(spec));
        self.spawn(&id, &run_dir, job, fds, Some(init), attaches)
    }

    fn spawn(
        &self,
        id: &str,
        run_dir: &Path,
        job: Job,
        fds: Vec<OwnedFd>,
        init: Option<OwnedFd>,
        attaches: Vec<Attach>,
    ) -> Result<Started> {
        let exec = init.is_some();
        let count = fds.len();
        let (sockets, attaches): (Vec<OwnedFd>, Vec<AttachMeta>) = attaches.into_iter().map(split).unzip();
        let work = json::to_vec(&Work { job, fds: count, attaches })?;
        let work = fd::sealed(c"coracle-work", &work).context("hand the spec over")?;
        let all: Vec<OwnedFd> = [work].into_iter().chain(fds).chain(init).chain(sockets).collect();
        let message = Spawn { id: id.to_owned(), run_dir: run_dir.to_owned(), exec };
        let (mut control, mut word) = self.ask(&message, &all)?;
        if matches!(word, Ok(None)) && self.spawner_is_gone() {
            // It was killed with the request unread; nobody has acted on it.
            nix::unistd::lseek(&all[0], 0, nix::unistd::Whence::SeekSet).context("rewind the spec")?;
            (control, word) = self.ask(&message, &all)?;
        }
        drop(all);
        match word {
            Ok(Some((FromShim::Started { pid }, _, mut fds))) if !fds.is_empty() => {
                let pidfd = fds.remove(0);
                let run_dir = run_dir.to_owned();
                self.monitor.add(Shim { id: id.to_owned(), run_dir, exec, pid, pidfd, control: Some(control) })?;
                Ok(Started { pid })
            }
            Ok(Some((FromShim::Failed { message, invalid }, ..))) => {
                Err(Error::new(if invalid { Kind::Invalid } else { Kind::System }, message))
            }
            Ok(_) => Err(Error::system("the shim ended before it could say why")),
            Err(e) => Err(Error::from(e).context("hear from the shim")),
        }
    }

    /// Asks for a shim and waits for its first word. `fds` go beside the socket
    /// that is made for it.
    fn ask(&self, message: &Spawn, fds: &[OwnedFd]) -> Result<(OwnedFd, nix::Result<Option<wire::Packet<FromShim>>>)> {
        let (control, theirs) = socket::pair()?;
        let all: Vec<_> = [theirs.as_fd()].into_iter().chain(fds.iter().map(AsFd::as_fd)).collect();
        self.ask_spawner(message, &all).context("ask the spawner for a shim")?;
        // Ours must be closed: the shim's death is seen by the end of the socket.
        drop(theirs);
        let word = wire::receive::<FromShim>(control.as_fd(), true);
        Ok((control, word))
    }

    fn spawner_is_gone(&self) -> bool {
        let spawner = self.spawner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fds = [PollFd::new(spawner.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
    }

    /// A spawner that was killed is replaced: the containers go on under their
    /// shims, only new ones need it.
    fn ask_spawner(&self, message: &Spawn, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut spawner = self.spawner.lock().unwrap_or_else(PoisonError::into_inner);
        match wire::send(spawner.as_fd(), message, b"", fds, true) {
            Err(nix::errno::Errno::EPIPE | nix::errno::Errno::ECONNRESET | nix::errno::Errno::ENOTCONN) => {}
            other => return Ok(other?),
        }
        crate::warn!("the spawner was killed; starting another");
        *spawner = match spawner::connect(&self.exec_root) {
            Some(live) => live,
            None => spawner::start(&self.exec_root)?,
        };
        Ok(wire::send(spawner.as_fd(), message, b"", fds, true)?)
    }

    fn shim(&self, id: &str) -> Result<Arc<Shim>> {
        self.monitor.get(id).ok_or_else(|| Error::conflict(format!("container {id} is not running")))
    }

    /// Hands a client's socket to the shim of a running container or exec.
    pub fn attach(&self, id: &str, attach: Attach) -> Result<()> {
        let shim = self.shim(id)?;
        let (socket, mut meta) = split(attach);
        let leftover = std::mem::take(&mut meta.leftover);
        shim.tell(&ToShim::Attach(meta), &leftover, &[socket.as_fd()])
    }
    pub fn resize(&self, id: &str, rows: u16, cols: u16) -> Result<()> {
        self.shim(id)?.tell(&ToShim::Resize { rows, cols }, b"", &[])
    }
    /// To the container's init or the exec's process, by pidfd.
    pub fn signal(&self, id: &str, signal: i32) -> Result<()> {
        match process::pidfd_signal(self.shim(id)?.pidfd.as_fd(), signal) {
            Err(nix::errno::Errno::ESRCH) => Err(Error::conflict(format!("container {id} is not running"))),
            other => Ok(other?),
        }
    }
    /// By the cgroup freezer where there is one, else SIGSTOP to the whole pid namespace.
    pub fn pause(&self, id: &str) -> Result<()> {
        if let Some(cgroup) = self.cgroup(id) {
            return cgroup.freeze(true);
        }
        // A process may fork between the look and the stop: look again until
        // nothing new is found.
        let mut stopped = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let new: Vec<i32> = self.pids(id)?.into_iter().filter(|p| stopped.insert(*p)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for pid in new {
                let _ = signal::kill(pid, libc::SIGSTOP);
            }
        }
        self.unpause(id)?;
        Err(Error::system(format!("cannot pause container {id}: it makes processes faster than they can be stopped")))
    }
    pub fn unpause(&self, id: &str) -> Result<()> {
        if let Some(cgroup) = self.cgroup(id) {
            return cgroup.freeze(false);
        }
        for pid in self.pids(id)? {
            let _ = signal::kill(pid, libc::SIGCONT);
        }
        Ok(())
    }
    /// Whether somebody has paused it: its init can be stopped from outside only.
    pub fn is_paused(&self, id: &str) -> bool {
        let Ok(shim) = self.shim(id) else { return false };
        match Cgroup::of_container(shim.pid, id) {
            Some(cgroup) => cgroup.is_frozen(),
            None => std::fs::read_to_string(format!("/proc/{}/stat", shim.pid))
                .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))),
        }
    }
    /// At daemon start, before any `start`: what became of the containers (and
    /// execs) that an earlier daemon knew. Reconnects to what lives.
    pub fn recover(&self, ids: &[String]) -> Vec<(String, Recovered)> {
        ids.iter().map(|id| (id.clone(), self.monitor.recover(id))).collect()
    }
    /// An open namespace of a running container, for [`crate::runtime::spec::Namespace::Join`].
    pub fn namespace_fd(&self, id: &str, kind: NamespaceKind) -> Result<OwnedFd> {
        self.proc_file(id, &format!("ns/{}", kind.file()), nix::fcntl::OFlag::O_RDONLY)
    }
    /// O_PATH of its root as its own processes see it, volumes included.
    pub fn root_fd(&self, id: &str) -> Result<OwnedFd> {
        self.proc_file(id, "root", nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY)
    }

    fn proc_file(&self, id: &str, name: &str, flags: nix::fcntl::OFlag) -> Result<OwnedFd> {
        let shim = self.shim(id)?;
        let path = format!("/proc/{}/{name}", shim.pid);
        let flags = flags | nix::fcntl::OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty())
            .map_err(|e| Error::from(e).context(format!("open {name} of container {id}")))?;
        // The pid was still that process's if the pidfd's one lives now.
        process::pidfd_signal(shim.pidfd.as_fd(), 0)
            .map_err(|_| Error::conflict(format!("container {id} is not running")))?;
        Ok(fd)
    }

    /// A detached recursive copy of a mount inside a running container, e.g. its
    /// /dev/shm for `--ipc container:X`; use it as `Source::Fd`.
    pub fn clone_mount(&self, id: &str, path: &str) -> Result<OwnedFd> {
        let pidfd = fd::duplicate(self.shim(id)?.pidfd.as_fd())?;
        let path = std::ffi::CString::new(path).map_err(|_| Error::invalid("a path holds a NUL byte"))?;
        // Only a process inside a mount namespace may copy its mounts, and
        // entering one changes the thread for good: one that ends with this.
        let copy = move || -> Result<OwnedFd> {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)?;
            process::enter(pidfd.as_fd(), process::CLONE_NEWNS)?;
            Ok(crate::sys::mount::clone_tree(None, &path, true)?)
        };
        thread::alone(copy).context("copy a mount of a container")
    }

    /// Of the container's pid namespace, the init first.
    pub fn pids(&self, id: &str) -> Result<Vec<i32>> {
        let shim = self.shim(id)?;
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(&shim.pid.to_string());
        if own.is_none() || own == namespace("self") {
            return Ok(descendants(shim.pid));
        }
        let mut found = vec![shim.pid];
        for entry in std::fs::read_dir("/proc").context("list processes")?.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            if pid != shim.pid && namespace(&pid.to_string()) == own {
                found.push(pid);
            }
        }
        Ok(found)
    }
}

/// Without a pid namespace of its own a container is its process and what
/// descends from it.
fn descendants(pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        found.extend(children.split_ascii_whitespace().filter_map(|c| c.parse::<i32>().ok()));
    }
    found
}

fn split(attach: Attach) -> (OwnedFd, AttachMeta) {
    let Attach { client, leftover, stdin, stdout, stderr, framed, detach_keys } = attach;
    (client, AttachMeta { stdin, stdout, stderr, framed, detach_keys, leftover })
}
