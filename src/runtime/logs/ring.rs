//! Non-blocking mode: the container never waits for its log. Records wait in a
//! bounded buffer of the shim; a process of its own, forked from the shim, takes
//! them from there and writes the files, so that a stuck disk stops that process
//! alone. A record that finds the buffer full is dropped, as Docker drops it.
//!
//! Invariant: records are dropped or kept whole; what is in front of the buffer
//! (the socket's own) holds at most a few records more.

use super::file::Rotating;
use crate::sys::process::{self, Forked, Who};
use crate::sys::{fd, memory, socket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the end of a container waits for its log to be written out.
const PATIENCE: Duration = Duration::from_secs(10);
/// The kernel doubles this and counts its own bookkeeping.
const IN_FLIGHT: usize = 16 * 1024;

pub struct Ring {
    socket: Option<OwnedFd>,
    writer: OwnedFd,
    limit: usize,
    waiting: Vec<u8>,
    /// Sent part of `waiting`.
    sent: usize,
}

impl Ring {
    /// Forks the writing process; `limit` is `max-buffer-size`.
    pub fn start(file: Rotating, limit: u64) -> nix::Result<Self> {
        let (ours, theirs) = socket::stream_pair()?;
        nix::sys::socket::setsockopt(&ours, nix::sys::socket::sockopt::SndBuf, &IN_FLIGHT)?;
        match process::clone(0, None)? {
            Forked::Child => {
                drop(ours);
                serve(file, theirs)
            }
            Forked::Parent { pidfd, .. } => Ok(Self {
                socket: Some(ours),
                writer: pidfd,
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
                waiting: Vec::new(),
                sent: 0,
            }),
        }
    }

    fn pending(&self) -> usize {
        self.waiting.len() - self.sent
    }

    /// Takes one record, or drops it.
    pub fn push(&mut self, record: &[u8]) {
        let full = self.pending() + record.len() > self.limit;
        if self.socket.is_none() || (full && self.pending() > 0) {
            return;
        }
        self.waiting.extend_from_slice(&(record.len() as u32).to_le_bytes());
        self.waiting.extend_from_slice(record);
    }

    /// What to poll for room, while something waits.
    pub fn wants(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().filter(|_| self.pending() > 0).map(AsFd::as_fd)
    }

    /// Sends what the writing process takes now.
    pub fn send(&mut self) {
        let Some(socket) = &self.socket else { return };
        while self.sent < self.waiting.len() {
            match socket::try_write(socket.as_fd(), &self.waiting[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(nix::errno::Errno::EAGAIN) => break,
                // It was killed: the log ends here, the container goes on.
                Err(_) => {
                    self.socket = None;
                    self.sent = self.waiting.len();
                    break;
                }
            }
        }
        if self.pending() == 0 {
            self.waiting = Vec::new();
            self.sent = 0;
        } else if self.sent > IN_FLIGHT {
            self.waiting.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Writes everything out and ends the process, but does not wait for ever.
    pub fn close(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let left =
            || PollTimeout::try_from(deadline.saturating_duration_since(Instant::now())).unwrap_or(PollTimeout::ZERO);
        while let Some(socket) = self.wants() {
            let mut room = [PollFd::new(socket, PollFlags::POLLOUT)];
            if !matches!(poll(&mut room, left()), Ok(n) if n > 0) {
                break;
            }
            self.send();
        }
        self.socket = None;
        let mut ended = [PollFd::new(self.writer.as_fd(), PollFlags::POLLIN)];
        if matches!(poll(&mut ended, left()), Ok(n) if n > 0) {
            let _ = process::wait(Who::Pidfd(self.writer.as_fd()), false);
        }
    }
}

/// The writing process: to the end of what the shim sends.
fn serve(mut file: Rotating, source: OwnedFd) -> ! {
    let _ = fd::close_all_except(&[source.as_fd(), file.as_fd()]);
    process::set_title(c"coracle-log");
    memory::trim();
    let mut source = std::fs::File::from(source);
    let mut length = [0; 4];
    while source.read_exact(&mut length).is_ok() {
        let mut record = vec![0; u32::from_le_bytes(length) as usize];
        if source.read_exact(&mut record).is_err() {
            break;
        }
        if file.full(0) {
            file.rotate();
        }
        file.flush(&mut record);
    }
    process::exit_now(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring whose writing process never reads.
    fn stuck(limit: usize) -> (Ring, OwnedFd) {
        let (ours, theirs) = socket::stream_pair().unwrap();
        nix::sys::socket::setsockopt(&ours, nix::sys::socket::sockopt::SndBuf, &IN_FLIGHT).unwrap();
        let writer = process::pidfd_open(std::process::id() as i32).unwrap();
        (Ring { socket: Some(ours), writer, limit, waiting: Vec::new(), sent: 0 }, theirs)
    }

    #[test]
    fn a_stuck_log_costs_the_buffer_and_no_more() {
        let (mut ring, theirs) = stuck(64 * 1024);
        for n in 0..20_000u32 {
            ring.push(format!("record {n:06}\n").as_bytes());
            ring.send();
        }
        assert!(ring.pending() <= 64 * 1024 + 18 && ring.waiting.len() < 128 * 1024);
        // What was kept is the beginning, whole and in order.
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            std::fs::File::from(theirs).read_to_end(&mut bytes).unwrap();
            bytes
        });
        while ring.wants().is_some() {
            ring.send();
        }
        ring.socket = None;
        let bytes = reader.join().unwrap();
        let records = bytes.chunks(4 + 14);
        assert!(records.len() > 1000 && records.len() < 20_000);
        for (n, record) in records.enumerate() {
            assert_eq!(&record[4..], format!("record {n:06}\n").as_bytes());
        }
    }

    #[test]
    fn a_record_larger_than_the_buffer_still_passes_when_nothing_waits() {
        let (mut ring, _theirs) = stuck(10);
        ring.push(&[b'x'; 100]);
        assert_eq!(ring.pending(), 104);
        ring.push(b"y");
        assert_eq!(ring.pending(), 104);
    }
}
