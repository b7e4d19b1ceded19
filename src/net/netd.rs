//! The netd process: accepts dockerds, one call at a time, and prepares
//! namespaces while nobody asks. Its other threads carry packets and bytes
//! (`outbound`, `publish`, `dns`) and know nothing of this socket.
//!
//! Lives in the engine's user namespace and the host's network namespace.
//! Outlives dockerd while there is a container to serve; ends when nobody is
//! connected and nothing is live.

use crate::error::{Context, Error, Result};
use crate::net::client::SOCKET;
use crate::net::control::Control;
use crate::net::protocol::{self, Answer, Call};
use crate::sys::process;
use crate::sys::role::{self, Role};
use crate::sys::{inet, socket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a netd with nothing to do waits for a dockerd that restarts.
const GRACE: Duration = Duration::from_secs(3);
/// After an answer: the asker is about to start a container; leave it the CPU.
const REST: Duration = Duration::from_millis(5);

/// argv[0] of the role.
pub const NAME: &str = "coracle-netd";
/// Its first message to whoever started it.
const READY: &[u8] = b"ready 1";

/// Entry point under [`NAME`]: the exec root as first argument, a socket to the
/// starter on stdin, without which it refuses to run.
pub fn main(args: &[OsString]) -> ExitCode {
    let Role { starter, listener } = match role::begin(args, SOCKET) {
        Ok(role) => role,
        Err(code) => return code,
    };
    process::set_title(c"coracle-netd");
    if socket::send(starter.as_fd(), READY, &[]).is_err() {
        return ExitCode::FAILURE;
    }
    drop(starter);
    run(&listener)
}

fn run(listener: &OwnedFd) -> ExitCode {
    inet::raise_file_limit();
    match Control::new().and_then(|control| serve(control, listener)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            crate::error!(format!("network process: {e}"));
            ExitCode::FAILURE
        }
    }
}

fn serve(mut control: Control, listener: &OwnedFd) -> Result<()> {
    let mut clients: Vec<OwnedFd> = Vec::new();
    let mut idle_since = Instant::now();
    loop {
        let ready = wait(&control, listener, &clients)?;
        if ready.is_empty() {
            control.prepare();
        }
        for n in ready.into_iter().rev() {
            if n == clients.len() {
                clients.extend(socket::accept(listener.as_fd()).ok());
            } else if answer(&mut control, &clients[n]).is_err() {
                clients.remove(n);
            }
        }
        if !clients.is_empty() || control.in_use() {
            idle_since = Instant::now();
        } else if idle_since.elapsed() >= GRACE {
            return Ok(());
        }
    }
}

/// Indices of the clients that speak; `clients.len()` stands for a new one.
fn wait(control: &Control, listener: &OwnedFd, clients: &[OwnedFd]) -> Result<Vec<usize>> {
    let mut fds: Vec<PollFd<'_>> = clients.iter().map(|c| PollFd::new(c.as_fd(), PollFlags::POLLIN)).collect();
    fds.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
    let timeout = match (control.wants_to_prepare(), clients.is_empty()) {
        (true, _) => PollTimeout::from(REST.as_millis() as u8),
        (false, true) if !control.in_use() => PollTimeout::from(1000u16),
        _ => PollTimeout::NONE,
    };
    match poll(&mut fds, timeout) {
        Ok(_) | Err(nix::Error::EINTR) => {}
        Err(e) => return Err(Error::from(e).context("wait for calls")),
    }
    let heard = |fd: &PollFd<'_>| fd.revents().is_some_and(|r| !r.is_empty());
    Ok(fds.iter().enumerate().filter(|(_, fd)| heard(fd)).map(|(n, _)| n).collect())
}

/// Carries out one call. An error means that the client is gone.
fn answer(control: &mut Control, client: &OwnedFd) -> Result<()> {
    let (call, namespace) = protocol::receive_message::<Call>(client)?.ok_or_else(Error::cancelled)?;
    let (answer, fd) = control.handle(call, namespace).unwrap_or_else(|e| (Answer::from(e), None));
    protocol::send_message(client, &answer, fd.as_ref()).context("answer")
}
