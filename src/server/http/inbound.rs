//! The reading half of a connection: buffered bytes, heads with an absolute
//! deadline, bodies that end where they were declared to. Connection's thread,
//! or the thread a handler gave the body to; between requests the accepting thread.
//!
//! Invariant: never reads past the end of a body, so that what follows is either
//! the next head or, after a hijack, the client's own bytes.

use super::MAX_HEAD;
use super::head::{self, Framing, Head, Refusal};
use super::socket::Socket;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// Bytes of the incomplete head that were looked at.
    seen: usize,
    body: Body,
    expect_continue: bool,
    /// Longest silence inside a body; `None` where the peer is this very user.
    stall: Option<Duration>,
}

/// The head did not end in time.
pub const LATE: Refusal = Refusal { status: 408, text: "408 Request Timeout" };

/// What came instead of a head.
pub enum NoHead {
    /// The peer closed, or was silent for too long between requests.
    Closed,
    Refused(Refusal),
}

impl Inbound {
    pub fn new(socket: Arc<Socket>, stall: Option<Duration>) -> Self {
        Self { socket, buffer: Vec::new(), at: 0, seen: 0, body: Body::Done, expect_continue: false, stall }
    }

    /// What is here of the next head, in bytes.
    pub fn held(&self) -> usize {
        self.buffer.len() - self.at
    }

    fn has_bytes(&self) -> bool {
        self.held() > 0
    }

    /// The next head if all of it has arrived. Never waits.
    pub fn step(&mut self) -> Result<Option<Head>, NoHead> {
        let mut taken = 0;
        loop {
            if let Some(head) = self.parsed().map_err(NoHead::Refused)? {
                return Ok(Some(head));
            }
            // So many empty lines are no robustness any more.
            if taken > MAX_HEAD {
                return Err(NoHead::Refused(head::BAD));
            }
            match self.fill(true) {
                Ok(Some(0)) | Err(_) => return Err(NoHead::Closed),
                Ok(Some(n)) => taken += n,
                Ok(None) => {
                    self.compact();
                    return Ok(None);
                }
            }
        }
    }

    fn parsed(&mut self) -> Result<Option<Head>, Refusal> {
        // Go and nginx skip empty lines before a request; robustness costs nothing here.
        while self.buffer[self.at..].starts_with(b"\r\n") {
            self.at += 2;
        }
        // Without a new line end there is no new verdict: a head that drips byte by
        // byte must not cost the square of its length.
        let from = self.at.max(self.seen);
        let first = self.seen <= self.at;
        self.seen = self.buffer.len();
        let fresh = &self.buffer[from..];
        if fresh.is_empty() || !(first || fresh.contains(&b'\n') || self.held() >= MAX_HEAD) {
            return Ok(None);
        }
        let Some((head, length)) = head::parse(&self.buffer[self.at..])? else { return Ok(None) };
        self.at += length;
        self.seen = 0;
        self.begin(&head);
        Ok(Some(head))
    }

    /// Waits for the first byte until `idle`, then for the whole head within
    /// `limit`, however slowly it drips.
    pub fn head(&mut self, idle: Duration, limit: Duration) -> Result<Head, NoHead> {
        let mut empty = !self.has_bytes();
        let mut deadline = Instant::now() + if empty { idle } else { limit };
        loop {
            if let Some(head) = self.step()? {
                return Ok(head);
            }
            if empty && self.has_bytes() {
                empty = false;
                deadline = Instant::now() + limit;
            }
            if !self.socket.readable(Some(deadline)).unwrap_or(false) {
                return Err(if empty { NoHead::Closed } else { NoHead::Refused(LATE) });
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

    /// An idle connection keeps no buffer, one that drips no more than it said.
    fn compact(&mut self) {
        self.forget();
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        } else {
            self.buffer.shrink_to(self.buffer.len());
        }
    }

    /// Drops what was read already.
    fn forget(&mut self) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.seen = self.seen.saturating_sub(self.at);
            self.at = 0;
        }
    }

    /// More bytes, 0 at the end; `None` if `now` and there are none yet.
    fn fill(&mut self, now: bool) -> io::Result<Option<usize>> {
        self.forget();
        let start = self.buffer.len();
        let step = if start < 8192 { 4096 } else { 16 * 1024 };
        self.buffer.resize((start + step).min(MAX_HEAD.max(start + 1)), 0);
        let room = &mut self.buffer[start..];
        let got = if now { self.socket.receive_now(room) } else { self.socket.receive(room).map(Some) };
        self.buffer.truncate(start + got.as_ref().ok().copied().flatten().unwrap_or(0));
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

    /// What was read past the body.
    pub fn take_leftover(&mut self) -> Vec<u8> {
        let leftover = self.buffer.split_off(self.at);
        self.buffer = Vec::new();
        self.at = 0;
        self.seen = 0;
        leftover
    }

    fn wait(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.expect_continue) && !self.socket.answered() {
            (&*self.socket).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if let Some(stall) = self.stall
            && !self.socket.while_waiting(|socket| socket.readable(Some(Instant::now() + stall)))?
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
            if self.fill(false)? == Some(0) {
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
