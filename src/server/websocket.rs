//! The server's side of RFC 6455, as far as `attach/ws` needs it: handshake,
//! frames in both directions, pings, close. The connection's thread stands between
//! the client and a socket that the container's shim takes for a client.
//!
//! Payloads are passed on as they arrive, whatever their declared length, so
//! nothing is buffered beyond one read; each direction stops reading while the
//! other side has not taken what was read before.

use crate::error::{Context, Error, Result};
use crate::server::request::Request;
use base64::Engine;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// RFC 6455, section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const CHUNK: usize = 32 * 1024;
/// How long a client may take to answer our close.
const FAREWELL: Duration = Duration::from_secs(2);

/// The head that accepts a client, or why it is none.
pub fn accept(request: &Request) -> Result<Vec<u8>> {
    let is = |name: &str, word: &str| {
        request.header(name).is_some_and(|v| v.split(',').any(|w| w.trim().eq_ignore_ascii_case(word)))
    };
    let key = request.header("sec-websocket-key").unwrap_or_default();
    if !is("connection", "upgrade") || !is("upgrade", "websocket") || key.is_empty() {
        return Err(Error::invalid("not websocket protocol"));
    }
    if !is("sec-websocket-version", "13") {
        return Err(Error::invalid("missing or bad WebSocket Version"));
    }
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
        answer(key)
    );
    if let Some(one) = request.header("sec-websocket-protocol").filter(|p| !p.contains(',')) {
        head.push_str(&format!("Sec-WebSocket-Protocol: {}\r\n", one.trim()));
    }
    head.push_str("\r\n");
    Ok(head.into_bytes())
}

fn answer(key: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest.as_ref())
}

/// A whole frame of ours: final and unmasked.
fn frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        n @ 0..=125 => out.push(n as u8),
        n @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// Takes the client's frames apart.
#[derive(Default)]
pub struct Reader {
    /// The part of a head that has arrived.
    head: Vec<u8>,
    opcode: u8,
    mask: [u8; 4],
    at: usize,
    /// Payload still to come; meaningful while `open`.
    left: u64,
    open: bool,
    control: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Ping(Vec<u8>),
    Close(Vec<u8>),
}

impl Reader {
    /// Data goes to `out`; the first control frame ends the call with the number
    /// of bytes used. Err: the client breaks the rules.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(usize, Option<Told>), &'static str> {
        let mut used = 0;
        while used < bytes.len() || (self.open && self.left == 0) {
            if !self.open {
                self.head.push(bytes[used]);
                used += 1;
                self.begin()?;
                continue;
            }
            let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - used);
            let to = if self.opcode >= CLOSE { &mut self.control } else { &mut *out };
            for b in &bytes[used..used + n] {
                to.push(b ^ self.mask[self.at & 3]);
                self.at += 1;
            }
            used += n;
            self.left -= n as u64;
            if self.left == 0 {
                self.open = false;
                let payload = std::mem::take(&mut self.control);
                match self.opcode {
                    PING => return Ok((used, Some(Told::Ping(payload)))),
                    CLOSE => return Ok((used, Some(Told::Close(payload)))),
                    _ => {}
                }
            }
        }
        Ok((used, None))
    }

    /// Reads the head if it is whole.
    fn begin(&mut self) -> Result<(), &'static str> {
        let [first, second, ..] = self.head[..] else { return Ok(()) };
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if second & 0x80 == 0 {
            return Err("a frame of a client must be masked");
        }
        if first & 0x70 != 0 {
            return Err("no extension was agreed on");
        }
        if self.head.len() < 2 + extended + 4 {
            return Ok(());
        }
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
        self.opcode = first & 0x0f;
        self.left = if extended == 0 { u64::from(second & 0x7f) } else { number(&self.head[2..2 + extended]) };
        self.mask.copy_from_slice(&self.head[2 + extended..]);
        self.head.clear();
        (self.at, self.open) = (0, true);
        match self.opcode {
            0..=BINARY => Ok(()),
            CLOSE | PING | PONG if first & 0x80 != 0 && self.left <= 125 => Ok(()),
            CLOSE | PING | PONG => Err("a control frame must be short and whole"),
            _ => Err("unknown opcode"),
        }
    }
}

/// Bytes on their way to one side.
#[derive(Default)]
struct Way {
    bytes: Vec<u8>,
    sent: usize,
}

impl Way {
    fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// False when the other side is gone.
    fn push(&mut self, to: &OwnedFd) -> bool {
        while !self.is_empty() {
            match crate::sys::socket::try_write(to.as_fd(), &self.bytes[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(Errno::EAGAIN) => return true,
                Err(_) => return false,
            }
        }
        self.bytes.clear();
        self.sent = 0;
        true
    }
}

/// Carries bytes until either side ends. `inner` is the container's side.
pub fn relay(client: &OwnedFd, leftover: &[u8], inner: &OwnedFd) -> Result<()> {
    let mut relay = Relay { input: leftover.to_vec(), buffer: vec![0; CHUNK], ..Relay::default() };
    loop {
        let closing = relay.take_apart(inner);
        let alive = relay.to_client.push(client);
        let left = relay.farewell.map(|at| FAREWELL.saturating_sub(at.elapsed()));
        if closing || !alive || left.is_some_and(|l| l.is_zero()) {
            return Ok(());
        }
        let (theirs, ours) = relay.wait(client, inner, left)?;
        if theirs.contains(PollFlags::POLLIN) {
            match crate::sys::socket::try_read(client.as_fd(), &mut relay.buffer) {
                Ok(n) if n > 0 => relay.input.extend_from_slice(&relay.buffer[..n]),
                Err(Errno::EAGAIN) => {}
                Ok(_) | Err(_) => return Ok(()),
            }
        } else if theirs.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            return Ok(());
        }
        if relay.farewell.is_none() && !ours.is_empty() {
            relay.serve(inner);
        }
    }
}

#[derive(Default)]
struct Relay {
    reader: Reader,
    to_client: Way,
    to_inner: Way,
    /// Of the client, not taken apart yet.
    input: Vec<u8>,
    buffer: Vec<u8>,
    /// Set by our close: until then the client may still answer.
    farewell: Option<Instant>,
}

impl Relay {
    /// Hands on what the client's frames carry. True if one ends the connection.
    fn take_apart(&mut self, inner: &OwnedFd) -> bool {
        while !self.input.is_empty() && self.to_inner.is_empty() {
            let Ok((used, told)) = self.reader.feed(&self.input, &mut self.to_inner.bytes) else {
                // 1002: a protocol error.
                frame(CLOSE, &1002u16.to_be_bytes(), &mut self.to_client.bytes);
                return true;
            };
            self.input.drain(..used);
            match told {
                Some(Told::Ping(payload)) => frame(PONG, &payload, &mut self.to_client.bytes),
                Some(Told::Close(payload)) => {
                    if self.farewell.is_none() {
                        frame(CLOSE, &payload[..payload.len().min(2)], &mut self.to_client.bytes);
                    }
                    return true;
                }
                None => {}
            }
            if !self.to_inner.push(inner) {
                break;
            }
        }
        false
    }

    /// What has come of the two sides, at the latest after `left`.
    fn wait(&self, client: &OwnedFd, inner: &OwnedFd, left: Option<Duration>) -> Result<(PollFlags, PollFlags)> {
        let flags = |read: bool, write: bool| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, read);
            flags.set(PollFlags::POLLOUT, write);
            flags
        };
        let (to_client, to_inner) = (!self.to_client.is_empty(), !self.to_inner.is_empty());
        let mut fds = [
            PollFd::new(client.as_fd(), flags(self.input.is_empty(), to_client)),
            PollFd::new(inner.as_fd(), flags(!to_client && self.farewell.is_none(), to_inner)),
        ];
        let timeout = left.map_or(PollTimeout::NONE, |l| PollTimeout::try_from(l).unwrap_or(PollTimeout::ZERO));
        // After the end of the container's side its hang-up is no news.
        let count = if self.farewell.is_some() { 1 } else { 2 };
        crate::sys::retry(|| poll(&mut fds[..count], timeout)).context("poll")?;
        let ready = |fd: &PollFd<'_>| fd.revents().unwrap_or_else(PollFlags::empty);
        Ok((ready(&fds[0]), ready(&fds[1])))
    }

    /// The container's side takes or gives.
    fn serve(&mut self, inner: &OwnedFd) {
        if !self.to_inner.push(inner) {
            self.to_inner = Way::default();
        }
        if !self.to_client.is_empty() {
            return;
        }
        match crate::sys::socket::try_read(inner.as_fd(), &mut self.buffer) {
            Ok(n) if n > 0 => frame(BINARY, &self.buffer[..n], &mut self.to_client.bytes),
            Err(Errno::EAGAIN) => {}
            Ok(_) | Err(_) => {
                frame(CLOSE, &1000u16.to_be_bytes(), &mut self.to_client.bytes);
                self.farewell = Some(Instant::now());
            }
        }
    }
}

/// Nothing more comes from us.
pub fn end(client: &OwnedFd) {
    let _ = nix::sys::socket::shutdown(client.as_raw_fd(), nix::sys::socket::Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![if fin { 0x80 | opcode } else { opcode }];
        match payload.len() {
            n @ 0..=125 => out.push(0x80 | n as u8),
            n => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(n as u16).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        out.extend_from_slice(&mask);
        out.extend(payload.iter().enumerate().map(|(i, b)| b ^ mask[i & 3]));
        out
    }

    #[test]
    fn the_key_of_the_rfc() {
        assert_eq!(answer("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_arrive_in_any_pieces() {
        let long = vec![b'x'; 300];
        let stream = [
            masked(1, false, b"he"),
            masked(PING, true, b"p"),
            masked(0, true, b"llo"),
            masked(BINARY, true, b""),
            masked(BINARY, true, &long),
            masked(CLOSE, true, &[3, 232]),
        ]
        .concat();
        for size in [1, 2, 7, stream.len()] {
            let mut reader = Reader::default();
            let (mut out, mut told) = (Vec::new(), Vec::new());
            for piece in stream.chunks(size) {
                let mut rest = piece;
                while !rest.is_empty() {
                    let (used, event) = reader.feed(rest, &mut out).unwrap();
                    rest = &rest[used..];
                    told.extend(event);
                }
            }
            assert_eq!(out, [b"hello".as_slice(), &long].concat(), "pieces of {size}");
            assert_eq!(told, [Told::Ping(b"p".to_vec()), Told::Close(vec![3, 232])]);
        }
    }

    #[test]
    fn broken_frames_are_refused() {
        let feed = |bytes: &[u8]| Reader::default().feed(bytes, &mut Vec::new()).err();
        assert_eq!(feed(&[0x82, 1, b'x']), Some("a frame of a client must be masked"));
        assert_eq!(feed(&[0xc2, 0x80, 0, 0, 0, 0]), Some("no extension was agreed on"));
        assert_eq!(feed(&masked(3, true, b"")), Some("unknown opcode"));
        assert_eq!(feed(&masked(PING, false, b"")), Some("a control frame must be short and whole"));
        assert_eq!(feed(&masked(PING, true, &[0; 126])), Some("a control frame must be short and whole"));
    }

    #[test]
    fn lengths_of_ours() {
        for (n, head) in [(5, 2), (126, 4), (70_000, 10)] {
            let mut out = Vec::new();
            frame(BINARY, &vec![0; n], &mut out);
            assert_eq!((out.len(), out[0]), (n + head, 0x82));
        }
    }
}
