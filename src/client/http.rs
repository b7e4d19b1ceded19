//! HTTP/1.1 as a client needs it: one request, the head of its answer, a body
//! that is read as it comes. On any thread of the docker process.
//!
//! Invariant: a connection is used again only when the answer's body was read to
//! its end and neither side asked to close.

use crate::client::hijack::Hijacked;
use crate::client::{Client, kind};
use crate::error::{Error, Result};
use crate::util::json;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// An answer's head may be this long (X-Docker-Container-Path-Stat has a long value).
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;

pub struct Head<'a> {
    pub method: &'static str,
    pub target: &'a str,
    pub host: &'a str,
    pub headers: [&'a [(String, String)]; 3],
}

pub enum Body<'a> {
    Empty,
    Bytes(Vec<u8>),
    Stream(&'a mut (dyn Read + Send)),
}

/// Sends one request and reads the head of the answer.
pub fn exchange(mut socket: UnixStream, head: &Head<'_>, body: &mut Body<'_>) -> io::Result<Reply> {
    let mut out = Vec::with_capacity(512);
    write!(out, "{} {} HTTP/1.1\r\nHost: {}\r\n", head.method, head.target, head.host)?;
    let mut agent = false;
    let mut upgrade = false;
    for (name, value) in head.headers.iter().flat_map(|h| h.iter()) {
        agent |= name.eq_ignore_ascii_case("User-Agent");
        upgrade |= name.eq_ignore_ascii_case("Upgrade");
        write!(out, "{name}: {value}\r\n")?;
    }
    if !agent {
        write!(out, "User-Agent: Docker-Client/{} (linux)\r\n", env!("CARGO_PKG_VERSION"))?;
    }
    if upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
    }
    match body {
        Body::Empty if matches!(head.method, "GET" | "HEAD" | "DELETE") => out.extend_from_slice(b"\r\n"),
        Body::Empty => out.extend_from_slice(b"Content-Length: 0\r\n\r\n"),
        Body::Bytes(bytes) => {
            write!(out, "Content-Length: {}\r\n\r\n", bytes.len())?;
            out.extend_from_slice(bytes);
        }
        Body::Stream(_) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n"),
    }
    socket.write_all(&out)?;
    if let Body::Stream(stream) = body {
        // A daemon that has made up its mind answers early and stops reading:
        // its answer counts then, not the broken pipe.
        if let Err(e) = send_chunks(&mut socket, *stream)
            && !matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
        {
            return Err(e);
        }
    }
    read_head(socket, head.method == "HEAD")
}

fn send_chunks(socket: &mut UnixStream, stream: &mut dyn Read) -> io::Result<()> {
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let n = match stream.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            // The body's own trouble, not the connection's.
            Err(e) => return Err(io::Error::other(e)),
            Ok(n) => n,
        };
        if n == 0 {
            return socket.write_all(b"0\r\n\r\n");
        }
        socket.write_all(format!("{n:x}\r\n").as_bytes())?;
        socket.write_all(&buffer[..n])?;
        socket.write_all(b"\r\n")?;
    }
}

fn read_head(mut socket: UnixStream, no_body: bool) -> io::Result<Reply> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let start = buffer.len();
        buffer.resize(start + 4096, 0);
        let n = loop {
            match socket.read(&mut buffer[start..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        buffer.truncate(start + n);
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "EOF"));
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        match parsed.parse(&buffer).map_err(|e| io::Error::other(format!("malformed HTTP response: {e}")))? {
            httparse::Status::Partial if buffer.len() > MAX_HEAD => {
                return Err(io::Error::other("malformed HTTP response: head too long"));
            }
            httparse::Status::Partial => {}
            httparse::Status::Complete(end) => {
                let status = parsed.code.unwrap_or(0);
                let headers: Vec<(String, String)> = parsed
                    .headers
                    .iter()
                    .map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned()))
                    .collect();
                let leftover = buffer.split_off(end);
                if (100..200).contains(&status) && status != 101 {
                    buffer = leftover;
                    if buffer.is_empty() {
                        continue;
                    }
                    return Err(io::Error::other("malformed HTTP response: data after an interim head"));
                }
                return Ok(Reply::new(status, headers, socket, leftover, no_body));
            }
        }
    }
}

/// How the rest of the body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    /// Bytes left of the current chunk; `None` before a size line.
    Chunked(Option<u64>),
    UntilClose,
    Done,
}

/// An answer; reading it reads the body.
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    socket: Option<UnixStream>,
    leftover: Vec<u8>,
    at: usize,
    framing: Framing,
    keep: Option<Client>,
}

impl Reply {
    fn new(status: u16, headers: Vec<(String, String)>, socket: UnixStream, leftover: Vec<u8>, no_body: bool) -> Self {
        let mut reply =
            Self { status, headers, socket: Some(socket), leftover, at: 0, framing: Framing::UntilClose, keep: None };
        let chunked = reply.header("Transfer-Encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
        let length = reply.header("Content-Length").and_then(|v| v.trim().parse().ok());
        reply.framing = match length {
            _ if no_body || matches!(status, 204 | 304) => Framing::Done,
            _ if status == 101 => Framing::UntilClose,
            _ if chunked => Framing::Chunked(None),
            Some(0) => Framing::Done,
            Some(n) => Framing::Length(n),
            None => Framing::UntilClose,
        };
        reply
    }

    /// Gives the connection back to `client` once the body is read.
    pub(crate) fn keep(mut self, client: &Client) -> Self {
        let close = self.header("Connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        if self.framing != Framing::UntilClose && !close && self.status != 101 {
            self.keep = Some(client.clone());
            self.release();
        }
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The whole body.
    pub fn whole(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The connection while the body is not read to its end, to poll.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Whether there is something to read without asking the connection.
    pub fn buffered(&self) -> bool {
        self.at < self.leftover.len() || self.framing == Framing::Done
    }

    /// The same answer with its body put back.
    pub(crate) fn with_bytes(mut self, bytes: Vec<u8>) -> Self {
        self.framing = Framing::Length(bytes.len() as u64);
        self.leftover = bytes;
        self.at = 0;
        self
    }

    /// The daemon's message in Docker's wording.
    pub(crate) fn into_error(mut self, head: bool) -> Error {
        #[derive(serde::Deserialize)]
        struct Message {
            message: String,
        }
        let status = self.status;
        let bytes = if head { Vec::new() } else { self.whole().unwrap_or_default() };
        let text = match json::from_slice::<Message>(&bytes) {
            Ok(m) => m.message.trim().to_owned(),
            Err(_) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        };
        let text = if text.is_empty() { format!("request returned status {status}") } else { text };
        Error::new(kind(status), format!("Error response from daemon: {text}"))
    }

    /// The connection itself, after a 101.
    pub(crate) fn into_socket(mut self) -> Result<Hijacked> {
        let socket = self.socket.take().ok_or_else(|| Error::system("the daemon closed the connection"))?;
        Ok(Hijacked { socket, leftover: self.leftover.split_off(self.at.min(self.leftover.len())) })
    }

    fn release(&mut self) {
        if self.framing == Framing::Done
            && self.at >= self.leftover.len()
            && let Some(client) = self.keep.take()
        {
            *client.idle() = self.socket.take();
        }
    }

    /// Raw bytes of the connection.
    fn raw(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at < self.leftover.len() {
            let n = buffer.len().min(self.leftover.len() - self.at);
            buffer[..n].copy_from_slice(&self.leftover[self.at..self.at + n]);
            self.at += n;
            return Ok(n);
        }
        match &mut self.socket {
            Some(socket) => socket.read(buffer),
            None => Ok(0),
        }
    }

    /// A line of the chunk framing, without its end.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0u8];
        loop {
            if self.at >= self.leftover.len() {
                let mut more = vec![0u8; 8192];
                let n = match &mut self.socket {
                    Some(socket) => socket.read(&mut more)?,
                    None => 0,
                };
                more.truncate(n);
                self.leftover = more;
                self.at = 0;
            }
            if self.raw(&mut byte)? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"));
            }
            match byte[0] {
                b'\n' => break,
                b'\r' => {}
                b if line.len() < 4096 => line.push(b),
                _ => return Err(io::Error::other("malformed chunked encoding")),
            }
        }
        String::from_utf8(line).map_err(|_| io::Error::other("malformed chunked encoding"))
    }
}

impl Read for Reply {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.framing {
                Framing::Done => return Ok(0),
                Framing::UntilClose => return self.raw(buffer),
                Framing::Length(left) => {
                    let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let n = self.raw(&mut buffer[..want])?;
                    if n == 0 {
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"));
                    }
                    let left = left - n as u64;
                    self.framing = if left == 0 { Framing::Done } else { Framing::Length(left) };
                    self.release();
                    return Ok(n);
                }
                Framing::Chunked(None) => {
                    let line = self.line()?;
                    let digits = line.split(';').next().unwrap_or("").trim();
                    let size =
                        u64::from_str_radix(digits, 16).map_err(|_| io::Error::other("malformed chunked encoding"))?;
                    if size > 0 {
                        self.framing = Framing::Chunked(Some(size));
                        continue;
                    }
                    while !self.line()?.is_empty() {}
                    self.framing = Framing::Done;
                    self.release();
                    return Ok(0);
                }
                Framing::Chunked(Some(left)) => {
                    let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let n = self.raw(&mut buffer[..want])?;
                    if n == 0 {
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"));
                    }
                    let left = left - n as u64;
                    self.framing = Framing::Chunked(Some(left));
                    if left == 0 {
                        self.line()?;
                        self.framing = Framing::Chunked(None);
                    }
                    return Ok(n);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(bytes: &[u8]) -> Reply {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        theirs.write_all(bytes).unwrap();
        drop(theirs);
        read_head(ours, false).unwrap()
    }

    #[test]
    fn bodies() {
        let mut r = reply(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef");
        assert_eq!(r.whole().unwrap(), b"abc");
        let mut r = reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n");
        assert_eq!(r.whole().unwrap(), b"abcde");
        let mut r = reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab");
        assert!(r.whole().is_err());
        let mut r = reply(b"HTTP/1.1 200 OK\r\n\r\nrest");
        assert_eq!(r.whole().unwrap(), b"rest");
    }

    #[test]
    fn refusals() {
        let e = reply(b"HTTP/1.1 404 Not Found\r\nContent-Length: 34\r\n\r\n{\"message\":\"No such container: x\"}\n")
            .into_error(false);
        assert_eq!(e.kind(), crate::error::Kind::NotFound);
        assert_eq!(e.message(), "Error response from daemon: No such container: x");
    }
}
