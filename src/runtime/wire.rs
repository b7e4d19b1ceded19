//! The messages between dockerd, spawner and shims: one seqpacket each, JSON
//! with an optional binary tail, descriptors beside it.
//!
//! Invariant: every message is versioned by the hello of its connection; both
//! ends may be of different builds (a daemon that was upgraded while containers
//! ran), so fields are only ever added, with defaults.

use crate::runtime::handle::ExitRecord;
use crate::runtime::spec::{ExecSpec, Spec};
use crate::util::json;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::fd::{BorrowedFd, OwnedFd};

/// dockerd → spawner. Descriptors: the shim's control socket, a memory file
/// with a [`Work`], then whatever `Work` counts.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spawn {
    pub id: String,
    pub run_dir: std::path::PathBuf,
    /// Base name of socket, state and exit record in `run_dir`; see [`Names`].
    pub exec: bool,
}

/// What a new shim is to do. Descriptors beside it: `fds` for the spec, then
/// for an exec the pidfd of the container's init, then one per attach.
#[derive(Debug, Serialize, Deserialize)]
pub struct Work {
    pub job: Job,
    pub fds: usize,
    pub attaches: Vec<AttachMeta>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Job {
    Container(Box<Spec>),
    Exec(Box<ExecSpec>),
}

/// An attach without its descriptor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttachMeta {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub framed: bool,
    pub detach_keys: Vec<u8>,
    /// In [`Work`] only; a later attach carries it as the message's tail.
    #[serde(default)]
    pub leftover: Vec<u8>,
}

/// dockerd → shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToShim {
    /// One descriptor; the tail is what was already read from it.
    Attach(AttachMeta),
    Resize {
        rows: u16,
        cols: u16,
    },
}

/// shim → dockerd.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromShim {
    /// The command runs; one descriptor, its pidfd. Also the first word to a
    /// daemon that connects later.
    Started {
        pid: i32,
    },
    /// The start failed with this sentence; `status` is the API's error class.
    Failed {
        message: String,
        invalid: bool,
    },
    Exited(ExitRecord),
    Detached,
    Oom,
}

/// Written by the shim beside its socket, for the time after its death.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    pub pid: i32,
    /// Field 22 of /proc/PID/stat: tells the process from a later one with its pid.
    pub start_time: u64,
    /// Its user namespace lies below the engine's.
    #[serde(default)]
    pub nested: bool,
}

/// File names of one shim in its run directory.
#[derive(Debug, Clone)]
pub struct Names {
    pub socket: String,
    pub state: String,
    pub exit: String,
}

impl Names {
    pub fn of(id: &str, exec: bool) -> Self {
        if exec {
            Self {
                socket: format!("exec-{id}.sock"),
                state: format!("exec-{id}.state"),
                exit: format!("exec-{id}.exit"),
            }
        } else {
            Self { socket: "shim.sock".into(), state: "state.json".into(), exit: "exit.json".into() }
        }
    }
}

/// Enough for any message; the big things travel as memory files.
pub const MAX_MESSAGE: usize = 96 * 1024;

/// Sends `message` and `tail`. Waits if the peer is slow, unless `wait` is false.
pub fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    tail: &[u8],
    fds: &[BorrowedFd<'_>],
    wait: bool,
) -> nix::Result<()> {
    let json = json::to_vec(message).map_err(|_| nix::errno::Errno::EINVAL)?;
    let mut packet = Vec::with_capacity(4 + json.len() + tail.len());
    packet.extend_from_slice(&(json.len() as u32).to_le_bytes());
    packet.extend_from_slice(&json);
    packet.extend_from_slice(tail);
    if packet.len() > MAX_MESSAGE {
        return Err(nix::errno::Errno::EMSGSIZE);
    }
    if wait {
        crate::sys::socket::send(socket, &packet, fds)
    } else {
        crate::sys::socket::try_send(socket, &packet, fds)
    }
}

/// A message with the bytes and descriptors that came beside it.
pub type Packet<T> = (T, Vec<u8>, Vec<OwnedFd>);

/// One message. None: the peer is gone. Garbage is EBADMSG.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>, wait: bool) -> nix::Result<Option<Packet<T>>> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let (n, fds) = crate::sys::socket::receive(socket, &mut buffer, wait)?;
    if n == 0 {
        return Ok(None);
    }
    buffer.truncate(n);
    let (json, tail) = split(&buffer).ok_or(nix::errno::Errno::EBADMSG)?;
    let message = json::from_slice(json).map_err(|_| nix::errno::Errno::EBADMSG)?;
    Ok(Some((message, tail.to_vec(), fds)))
}

fn split(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = packet.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn messages_arrive_whole() {
        let (a, b) = crate::sys::socket::pair().unwrap();
        send(a.as_fd(), &ToShim::Resize { rows: 3, cols: 4 }, b"tail", &[b.as_fd()], true).unwrap();
        let (message, tail, fds) = receive::<ToShim>(b.as_fd(), true).unwrap().unwrap();
        assert!(matches!(message, ToShim::Resize { rows: 3, cols: 4 }));
        assert_eq!((tail.as_slice(), fds.len()), (&b"tail"[..], 1));
        crate::sys::socket::send(a.as_fd(), b"\xff\xff\xff\xffxx", &[]).unwrap();
        assert_eq!(receive::<ToShim>(b.as_fd(), true).unwrap_err(), nix::errno::Errno::EBADMSG);
        drop((a, fds));
        assert!(receive::<ToShim>(b.as_fd(), true).unwrap().is_none());
    }
}
