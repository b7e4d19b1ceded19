//! The reading half of a connection: buffered bytes, heads with an absolute
//! deadline, bodies that end where they were declared to. Connection's thread,
//! or the thread a handler gave the body to.
//!
//! Invariant: never reads past the end of a body, so that what follows is either
//! the next head or, after a hijack, the client's own bytes.

use super::MAX_HEAD;
use super::head::{self, Framing, Head, Refusal};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One socket, shared by the two halves of a connection.
pub struct Socket {
    fd: OwnedFd,
    /// The head of the answer is out: `100 Continue` would come too late.
    answered: AtomicBool,
}

impl Socket {
    pub fn new(fd: OwnedFd) -> Arc<Self> {
        Arc::new(Self { fd, answered: AtomicBool::new(false) })
    }
    pub fn set_answered(&self, answered: bool) {
        self.answered.store(answered, Ordering::Release);
    }
    /// Ends both directions; whoever reads or writes wakes up.
    pub fn shut(&self) {
        let _ = nix::sys::socket::shutdown(std::os::fd::AsRawFd::as_raw_fd(&self.fd), nix::sys::socket::Shutdown::Both);
    }
    /// Waits for something to read. False at the deadline.
    fn readable(&self, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            let timeout = match deadline {
                None => PollTimeout::NONE,
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(false);
                    }
                    PollTimeout::try_from(left.as_millis().min(60_000) as i32 + 1).unwrap_or(PollTimeout::MAX)
                }
            };
            match nix::poll::poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(e) => return Err(e.into()),
            }
        }
    }
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match nix::unistd::read(&self.fd, buffer) {
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::ECONNRESET) => return Ok(0),
                other => return other.map_err(Into::into),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Writes to the socket; SIGPIPE is ignored by the daemon.
impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match nix::unistd::write(&self.fd, bytes) {
                Err(nix::Error::EINTR) => {}
                other => return other.map_err(Into::into),
            }
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the current body stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Done,
    Left(u64),
    ChunkSize,
    /// Bytes left in the current chunk.
    ChunkLeft(u64),
    ChunkEnd,
    Trailers,
    /// The peer broke the framing or the connection: nothing more can be believed.
    Broken,
}

pub struct Inbound {
    pub socket: Arc<Socket>,
    buffer: Vec<u8>,
    at: usize,
    body: Body,
    expect_continue: bool,
    /// Longest silence inside a body; `None` where the peer is this very user.
    stall: Option<Duration>,
}

/// What came instead of a head.
pub enum NoHead {
    /// The peer closed, or was silent for too long between requests.
    Closed,
    Refused(Refusal),
}

impl Inbound {
    pub fn new(socket: Arc<Socket>, stall: Option<Duration>) -> Self {
        Self { socket, buffer: Vec::new(), at: 0, body: Body::Done, expect_continue: false, stall }
    }

    /// True if the next head may lie in the buffer already.
    pub fn has_bytes(&self) -> bool {
        self.at < self.buffer.len()
    }

    /// Waits for the first byte until `idle`, then for the whole head within
    /// `limit`, however slowly it drips.
    pub fn head(&mut self, idle: Duration, limit: Duration) -> Result<Head, NoHead> {
        self.compact();
        let mut deadline = Instant::now() + if self.has_bytes() { limit } else { idle };
        let mut seen = self.at;
        loop {
            // Go and nginx skip empty lines before a request; robustness costs nothing here.
            while self.buffer[self.at..].starts_with(b"\r\n") {
                self.at += 2;
            }
            let empty = !self.has_bytes();
            // Without a new line end there is no new verdict: a head that drips
            // byte by byte must not cost the square of its length.
            let fresh = &self.buffer[seen.min(self.buffer.len())..];
            if !empty && (seen <= self.at || fresh.contains(&b'\n') || self.buffer.len() >= MAX_HEAD) {
                match head::parse(&self.buffer[self.at..]) {
                    Ok(Some((head, length))) => {
                        self.at += length;
                        self.begin(&head);
                        return Ok(head);
                    }
                    Ok(None) => {}
                    Err(refusal) => return Err(NoHead::Refused(refusal)),
                }
            }
            if !self.socket.readable(Some(deadline)).unwrap_or(false) {
                return Err(if empty {
                    NoHead::Closed
                } else {
                    NoHead::Refused(Refusal { status: 408, text: "408 Request Timeout" })
                });
            }
            let before = self.buffer.len() - self.at;
            if self.fill().unwrap_or(0) == 0 {
                return Err(NoHead::Closed);
            }
            seen = before;
            if empty {
                deadline = Instant::now() + limit;
            }
        }
    }

    fn begin(&mut self, head: &Head) {
        self.expect_continue = head.expect_continue;
        self.body = match head.framing {
            Framing::None | Framing::Length(0) => Body::Done,
            Framing::Length(n) => Body::Left(n),
            Framing::Chunked => Body::ChunkSize,
        };
    }

    /// An idle connection keeps no buffer.
    fn compact(&mut self) {
        if self.at == self.buffer.len() {
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..self.at);
        }
        self.at = 0;
    }

    fn fill(&mut self) -> io::Result<usize> {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        let start = self.buffer.len();
        let step = if start < 8192 { 4096 } else { 16 * 1024 };
        self.buffer.resize((start + step).min(MAX_HEAD.max(start + 1)), 0);
        let got = self.socket.receive(&mut self.buffer[start..]);
        self.buffer.truncate(start + *got.as_ref().unwrap_or(&0));
        got
    }

    /// True if the body was read to its end, so that another head may follow.
    pub fn finished(&self) -> bool {
        self.body == Body::Done
    }

    /// Reads what a handler left over; a client that still waits for `100
    /// Continue`, or has much to say, loses its connection instead.
    pub fn drain(&mut self, limit: u64) -> bool {
        if self.body == Body::Done {
            return true;
        }
        if self.expect_continue {
            return false;
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut left = limit;
        let mut scratch = [0u8; 4096];
        while self.body != Body::Done {
            if left == 0 || (!self.has_bytes() && !self.socket.readable(Some(deadline)).unwrap_or(false)) {
                return false;
            }
            match self.read(&mut scratch) {
                Ok(n) => left = left.saturating_sub(n as u64),
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads and drops what comes until the peer closes, is silent or was read
    /// `limit` bytes of.
    pub fn discard(&mut self, limit: usize) {
        let mut scratch = [0u8; 4096];
        let mut seen = 0;
        while seen < limit && self.wait().is_ok() {
            match self.socket.receive(&mut scratch) {
                Ok(0) | Err(_) => return,
                Ok(n) => seen += n,
            }
        }
    }

    /// What was read past the body.
    pub fn take_leftover(&mut self) -> Vec<u8> {
        let leftover = self.buffer.split_off(self.at);
        self.buffer.clear();
        self.at = 0;
        leftover
    }

    fn wait(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.expect_continue) && !self.socket.answered.load(Ordering::Acquire) {
            (&*self.socket).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if let Some(stall) = self.stall
            && !self.socket.readable(Some(Instant::now() + stall))?
        {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client sent nothing for too long"));
        }
        Ok(())
    }

    fn broken<T>(&mut self, why: &'static str) -> io::Result<T> {
        self.body = Body::Broken;
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))
    }

    /// One line of the chunk framing, without its end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(end) = rest.iter().position(|b| *b == b'\n') {
                if end == 0 || rest[end - 1] != b'\r' {
                    return self.broken("malformed chunked encoding");
                }
                let line = rest[..end - 1].to_vec();
                self.at += end + 1;
                return Ok(line);
            }
            if rest.len() > 4096 {
                return self.broken("header line too long");
            }
            self.wait()?;
            if self.fill()? == 0 {
                return self.broken("unexpected EOF");
            }
        }
    }

    fn payload(&mut self, out: &mut [u8], left: u64) -> io::Result<usize> {
        let want = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let buffered = self.buffer.len() - self.at;
        if buffered > 0 {
            let n = want.min(buffered);
            out[..n].copy_from_slice(&self.buffer[self.at..self.at + n]);
            self.at += n;
            return Ok(n);
        }
        self.wait()?;
        match self.socket.receive(&mut out[..want])? {
            0 => self.broken("unexpected EOF"),
            n => Ok(n),
        }
    }
}

impl Read for Inbound {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match self.body {
                Body::Done => return Ok(0),
                Body::Broken => return self.broken("unexpected EOF"),
                Body::Left(left) => {
                    let n = self.payload(out, left)?;
                    self.body = if left == n as u64 { Body::Done } else { Body::Left(left - n as u64) };
                    return Ok(n);
                }
                Body::ChunkSize => {
                    let line = self.line()?;
                    self.body = match chunk_size(&line) {
                        None => return self.broken("malformed chunked encoding"),
                        Some(0) => Body::Trailers,
                        Some(n) => Body::ChunkLeft(n),
                    };
                }
                Body::ChunkLeft(left) => {
                    let n = self.payload(out, left)?;
                    self.body = if left == n as u64 { Body::ChunkEnd } else { Body::ChunkLeft(left - n as u64) };
                    return Ok(n);
                }
                Body::ChunkEnd => {
                    if !self.line()?.is_empty() {
                        return self.broken("malformed chunked encoding");
                    }
                    self.body = Body::ChunkSize;
                }
                Body::Trailers => {
                    // Trailers carry nothing that we use; endless ones are cut off.
                    for _ in 0..super::MAX_HEADERS {
                        if self.line()?.is_empty() {
                            self.body = Body::Done;
                            return Ok(0);
                        }
                    }
                    return self.broken("too many trailers");
                }
            }
        }
    }
}

/// Hex digits, then possibly an extension, which is ignored.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|b| *b == b';').unwrap_or(line.len());
    let digits = line[..end].trim_ascii_end();
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn inbound(bytes: &[u8]) -> Inbound {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        Inbound::new(Socket::new(server.into()), None)
    }
    fn next(inbound: &mut Inbound) -> Result<Head, NoHead> {
        inbound.head(Duration::from_secs(5), Duration::from_secs(5))
    }

    #[test]
    fn pipelined_requests_with_bodies() {
        let mut i = inbound(
            b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcPOST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nde\r\n0001\r\nf\r\n0\r\nT: r\r\n\r\nrest",
        );
        let mut body = String::new();
        assert!(next(&mut i).is_ok_and(|h| h.target == "/a"));
        i.read_to_string(&mut body).unwrap();
        assert!(next(&mut i).is_ok_and(|h| h.target == "/b"));
        i.read_to_string(&mut body).unwrap();
        assert_eq!(body, "abcdef");
        assert_eq!(i.take_leftover(), b"rest");
    }

    #[test]
    fn broken_bodies_are_errors_and_end_the_connection() {
        for bad in ["Content-Length: 9\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"] {
            let mut i = inbound(format!("POST / HTTP/1.1\r\nHost: x\r\n{bad}").as_bytes());
            assert!(next(&mut i).is_ok());
            assert!(i.read_to_end(&mut Vec::new()).is_err());
            assert!(!i.finished() && !i.drain(1000));
        }
        for bad in ["-1\r\n", "\r\n", "3\nabc\n", "3\r\nabcd\r\n", "0x3\r\nabc\r\n", " 3\r\nabc\r\n"] {
            let mut i =
                inbound(format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{bad}").as_bytes());
            assert!(next(&mut i).is_ok());
            assert!(i.read_to_end(&mut Vec::new()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_huge_length_allocates_nothing() {
        let mut i = inbound(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 922337203685477580\r\n\r\n");
        assert!(next(&mut i).is_ok());
        assert!(!i.drain(65536));
    }

    #[test]
    fn a_dripping_head_meets_its_deadline() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"GET / HT").unwrap();
        let mut i = Inbound::new(Socket::new(server.into()), None);
        let result = i.head(Duration::from_millis(20), Duration::from_millis(20));
        assert!(matches!(result, Err(NoHead::Refused(r)) if r.status == 408));
    }
}
