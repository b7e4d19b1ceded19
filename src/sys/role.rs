//! How the processes that outlive dockerd begin (spawner, netd): called by name,
//! with the exec root as first argument and a socket to the starter on stdin.
//! Runs in the new process, before it has threads.
//!
//! Invariant: without that socket nobody can become one, and no signal that is
//! meant for dockerd's session or unit ends one.

use super::process::{self, Forked};
use super::{fd, signal, socket};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

/// What a role works with from then on.
pub struct Role {
    /// To whoever started it; the first message says whether it is ready.
    pub starter: OwnedFd,
    pub listener: OwnedFd,
}

/// Leaves the starter by a fork, whose parent ends at once, and listens at `name`
/// in the exec root. `Err` is how this process is to end.
pub fn begin(args: &[OsString], name: &str) -> Result<Role, ExitCode> {
    let starter = fd::duplicate(fd::standard(0)).ok().filter(|s| socket::peer(s.as_fd()).is_ok());
    let (Some(root), Some(starter)) = (args.first(), starter) else { return Err(ExitCode::from(2)) };
    match process::clone(0, None) {
        Ok(Forked::Child) => {}
        Ok(Forked::Parent { .. }) => return Err(ExitCode::SUCCESS),
        Err(_) => return Err(ExitCode::FAILURE),
    }
    let _ = nix::unistd::setsid();
    // Containers' environments and the spec of each pass through here: into no core.
    let _ = nix::sys::prctl::set_dumpable(false);
    process::leave_session_keyring();
    let _ = fd::dup_to(fd::standard(1), 0);
    // A TERM to every process of the user or the unit is dockerd's to answer, by
    // stopping the containers in order: they need us until then.
    signal::ignore(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE]);
    let bound = File::open(root)
        .map_err(|e| e.to_string())
        .and_then(|dir| socket::listen_at(dir.as_fd(), name).map_err(|e| e.to_string()));
    match bound {
        Ok(listener) => Ok(Role { starter, listener }),
        Err(e) => {
            let _ = socket::send(starter.as_fd(), format!("bind {name}: {e}").as_bytes(), &[]);
            Err(ExitCode::FAILURE)
        }
    }
}
