//! ONE CONTAINER'S PROCESSES: start, exec, signal, state. Knows no image, HTTP
//! or Docker name.
//!
//! dockerd holds a [`Runtime`]. It asks the spawner (one single-threaded process
//! beside the daemon) to fork a shim for every container and every exec; from
//! then on it talks to that shim over a control socket of its own. The shim owns
//! what must outlive the daemon: stdio, log, exit record.
//! Invariant: dockerd never forks, and nothing here ends with dockerd: dropping
//! the `Runtime` (or killing the process) leaves every container as it was.

#![forbid(unsafe_code)]

pub mod caps;
pub mod cgroup;
mod child;
pub mod handle;
pub mod init;
pub mod logs;
mod monitor;
mod mounts;
mod plan;
pub mod seccomp;
mod sentence;
mod shim;
pub mod spawner;
pub mod spec;
pub mod userns;
mod users;
mod wire;

pub use handle::{Attach, Event, ExitRecord, NamespaceKind, Recovered, Runtime};
pub use users::check as check_user;
