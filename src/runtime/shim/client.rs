//! One attached client: its socket, what it asked for, and what it has not
//! taken yet. Runs in the shim.
//!
//! Invariant: the socket's flags are never changed (its description may be
//! shared); nothing here waits.

use super::keys::Scanner;
use crate::runtime::logs::Stream;
use crate::runtime::wire::AttachMeta;
use crate::sys::socket;
use nix::errno::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// More than this unsent makes the shim stop reading the container: a slow
/// client slows its container down instead of filling our memory.
const HIGH_WATER: usize = 64 * 1024;

pub struct Client {
    pub socket: OwnedFd,
    stdout: bool,
    stderr: bool,
    framed: bool,
    /// Whether its stdin is still to be read.
    pub stdin: bool,
    pub keys: Scanner,
    unsent: Vec<u8>,
    /// Sent part of `unsent`.
    sent: usize,
    /// Close it once everything is sent.
    pub closing: bool,
    pub dead: bool,
}

impl Client {
    pub fn new(socket: OwnedFd, meta: &AttachMeta, tty: bool) -> Self {
        Self {
            socket,
            stdout: meta.stdout,
            stderr: meta.stderr,
            framed: meta.framed,
            stdin: meta.stdin,
            keys: Scanner::new(if tty { meta.detach_keys.clone() } else { Vec::new() }),
            unsent: Vec::new(),
            sent: 0,
            closing: false,
            dead: false,
        }
    }

    pub fn pending(&self) -> usize {
        self.unsent.len() - self.sent
    }

    pub fn congested(&self) -> bool {
        !self.dead && self.pending() >= HIGH_WATER
    }

    /// Output of the container, if the client wants that stream.
    pub fn output(&mut self, stream: Stream, data: &[u8]) {
        let wanted = match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        if !wanted || self.dead || self.closing || data.is_empty() {
            return;
        }
        let header = [stream.number(), 0, 0, 0];
        let length = (data.len() as u32).to_be_bytes();
        if self.pending() == 0 && !self.framed {
            // The common case sends without a copy.
            match socket::try_write(self.socket.as_fd(), data) {
                Ok(n) => self.unsent.extend_from_slice(&data[n..]),
                Err(Errno::EAGAIN) => self.unsent.extend_from_slice(data),
                Err(_) => self.dead = true,
            }
            return;
        }
        if self.framed {
            self.unsent.extend_from_slice(&header);
            self.unsent.extend_from_slice(&length);
        }
        self.unsent.extend_from_slice(data);
        self.flush();
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self) {
        while self.pending() > 0 && !self.dead {
            match socket::try_write(self.socket.as_fd(), &self.unsent[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(Errno::EAGAIN) => break,
                Err(_) => self.dead = true,
            }
        }
        if self.pending() == 0 || self.dead {
            self.unsent = Vec::new();
            self.sent = 0;
        } else if self.sent > HIGH_WATER {
            self.unsent.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// stdin bytes into `out`. `More`: still open.
    pub fn input(&mut self, out: &mut Vec<u8>) -> Input {
        let mut buffer = [0; 4096];
        match socket::try_read(self.socket.as_fd(), &mut buffer) {
            Ok(0) => Input::End,
            Ok(n) if self.keys.feed(&buffer[..n], out) => Input::Detach,
            Ok(_) | Err(Errno::EAGAIN) => Input::More,
            Err(_) => {
                self.dead = true;
                Input::End
            }
        }
    }

    /// Orderly end: a socket closed with unread input would reset the connection
    /// and may lose output that is still on its way.
    pub fn close(&self) {
        let _ = nix::sys::socket::shutdown(raw(&self.socket), nix::sys::socket::Shutdown::Write);
        let mut buffer = [0; 4096];
        while matches!(socket::try_read(self.socket.as_fd(), &mut buffer), Ok(n) if n > 0) {}
    }
}

fn raw(fd: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd;
    fd.as_raw_fd()
}

#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    More,
    End,
    Detach,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(framed: bool) -> (Client, OwnedFd) {
        let (a, b) = socket::stream_pair().unwrap();
        let meta = AttachMeta {
            stdin: true,
            stdout: true,
            stderr: false,
            framed,
            detach_keys: vec![16],
            leftover: Vec::new(),
        };
        (Client::new(a, &meta, true), b)
    }

    #[test]
    fn frames_and_chooses_streams() {
        let (mut c, peer) = client(true);
        c.output(Stream::Stdout, b"hi");
        c.output(Stream::Stderr, b"no");
        let mut buffer = [0; 64];
        let n = socket::try_read(peer.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"\x01\0\0\0\0\0\0\x02hi");
    }

    #[test]
    fn a_slow_client_is_congested_and_a_gone_one_dead() {
        let (mut c, peer) = client(false);
        while !c.congested() {
            c.output(Stream::Stdout, &[0; 8192]);
        }
        drop(peer);
        c.flush();
        assert!(c.dead && !c.congested());
    }

    #[test]
    fn input_ends_or_detaches() {
        let (mut c, peer) = client(false);
        let mut out = Vec::new();
        socket::try_write(peer.as_fd(), b"ab").unwrap();
        assert_eq!(c.input(&mut out), Input::More);
        socket::try_write(peer.as_fd(), b"\x10").unwrap();
        assert_eq!(c.input(&mut out), Input::Detach);
        drop(peer);
        assert_eq!((c.input(&mut out), out.as_slice()), (Input::End, &b"ab"[..]));
    }
}
