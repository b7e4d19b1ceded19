//! dockerd's side of the runtime: the table of live shims, the requests to them
//! and the one monitor thread that hears their events. Any thread may call.
//!
//! Invariant: the event callback runs on the monitor thread alone and may come
//! for a container before the `start` that made it has returned (a process that
//! ends at once): whoever keeps states orders the two by a lock of its own. The
//! callback must not block for long and must not call `start` or `exec`.

use crate::error::{Error, Result};
use crate::runtime::spec::{ExecSpec, Spec};
use crate::util::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

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
    Cgroup,
    Mount,
    User,
}

/// The handle of dockerd; thread-safe.
pub struct Runtime {
    exec_root: PathBuf,
}

type OnEvent = Box<dyn Fn(Event) + Send + Sync>;

impl Runtime {
    /// `spawner` comes from `daemon::bootstrap::enter`.
    pub fn new(_spawner: OwnedFd, exec_root: &Path, _on_event: OnEvent) -> Result<Self> {
        Ok(Self { exec_root: exec_root.to_owned() })
    }

    /// `<exec-root>/containers/<id>`: `Spec::run_dir` of a container (the engine
    /// makes it, 0700, and removes it after the exit was taken).
    pub fn run_dir(&self, id: &str) -> PathBuf {
        self.exec_root.join("containers").join(id)
    }

    /// Starts a container and returns when its command has been executed.
    /// `attaches` lose no output. Errors carry Docker's sentence, with which the
    /// client finds its 126 and 127.
    pub fn start(&self, _spec: &Spec, _fds: Vec<OwnedFd>, _attaches: Vec<Attach>) -> Result<Started> {
        Err(Error::not_implemented("containers cannot be started yet"))
    }
    /// Starts a process in a running container.
    pub fn exec(&self, _spec: &ExecSpec, _fds: Vec<OwnedFd>, _attaches: Vec<Attach>) -> Result<Started> {
        Err(Error::not_implemented("processes cannot be started yet"))
    }
    /// Hands a client's socket to the shim of a running container or exec.
    pub fn attach(&self, id: &str, _attach: Attach) -> Result<()> {
        Err(Error::no_such_container(id))
    }
    pub fn resize(&self, id: &str, _rows: u16, _cols: u16) -> Result<()> {
        Err(Error::no_such_container(id))
    }
    /// To the container's init or the exec's process, by pidfd.
    pub fn signal(&self, id: &str, _signal: i32) -> Result<()> {
        Err(Error::no_such_container(id))
    }
    /// By the cgroup freezer where there is one, else SIGSTOP to the whole pid namespace.
    pub fn pause(&self, id: &str) -> Result<()> {
        Err(Error::no_such_container(id))
    }
    pub fn unpause(&self, id: &str) -> Result<()> {
        Err(Error::no_such_container(id))
    }
    /// At daemon start, before any `start`: what became of the containers (and
    /// execs) that an earlier daemon knew. Reconnects to what lives.
    pub fn recover(&self, ids: &[String]) -> Vec<(String, Recovered)> {
        ids.iter().map(|id| (id.clone(), Recovered::Gone)).collect()
    }
    /// An open namespace of a running container, for [`crate::runtime::spec::Namespace::Join`].
    pub fn namespace_fd(&self, id: &str, _kind: NamespaceKind) -> Result<OwnedFd> {
        Err(Error::no_such_container(id))
    }
    /// O_PATH of its root as its own processes see it, volumes included.
    pub fn root_fd(&self, id: &str) -> Result<OwnedFd> {
        Err(Error::no_such_container(id))
    }
    /// A detached recursive copy of a mount inside a running container, e.g. its
    /// /dev/shm for `--ipc container:X`; use it as `Source::Fd`.
    pub fn clone_mount(&self, id: &str, _path: &str) -> Result<OwnedFd> {
        Err(Error::no_such_container(id))
    }
    /// Of the container's pid namespace, the init first.
    pub fn pids(&self, id: &str) -> Result<Vec<i32>> {
        Err(Error::no_such_container(id))
    }
}
