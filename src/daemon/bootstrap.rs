//! Rootless bootstrap: how dockerd gets its own user and mount namespace, and
//! the processes that live beside it. Runs first of all in dockerd, while it has
//! one thread.
//!
//! Invariant: the pid stays the same, the host's network namespace stays, and
//! only this file forks dockerd.

use crate::error::{Error, Result};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The body of netd: runs in a process forked next to the spawner (in the user
/// and mount namespace of the engine, in the host's network namespace, one
/// thread; it may start others). The fd is `netd.sock`, a bound and listening
/// seqpacket socket: accept dockerd's connections on it; the same socket serves
/// the next dockerd. Not called when a live netd answers already. stdin and
/// stdout are /dev/null, stderr is the daemon's; every other fd is closed.
pub type NetdMain = fn(exec_root: &Path, listener: OwnedFd) -> ExitCode;

pub struct BootstrapConfig {
    /// Exists, mode 0700, ours.
    pub exec_root: PathBuf,
    pub netd: Option<NetdMain>,
}

/// How the ids of containers map to ids of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Real root: no user namespace of ours.
    Root,
    /// 0 is the caller, 1.. are the ranges of /etc/subuid and /etc/subgid.
    Mapped { uid: u32, gid: u32, uids: Vec<IdRange>, gids: Vec<IdRange> },
    /// Only 0 exists and is the caller. `reason` says why, with the remedy.
    SingleId { uid: u32, gid: u32, reason: String },
}

/// `count` ids from `host` on, counted from `container` on inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    pub container: u32,
    pub host: u32,
    pub count: u32,
}

pub struct Bootstrap {
    pub mode: Mode,
    /// For `Runtime::new`.
    pub spawner: OwnedFd,
    /// A seqpacket connection to netd, when `BootstrapConfig::netd` was given.
    pub netd: Option<OwnedFd>,
    /// Processes of an earlier daemon were found alive and joined.
    pub took_over: bool,
}

/// Enters the engine's namespaces and starts, or finds, the processes beside
/// dockerd. Must run before the first thread; refuses otherwise.
pub fn enter(_config: &BootstrapConfig) -> Result<Bootstrap> {
    Err(Error::not_implemented("the rootless bootstrap is not here yet"))
}
