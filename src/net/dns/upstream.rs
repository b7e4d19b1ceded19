//! Questions that the embedded server passes on: over UDP from a fresh socket
//! and port each (nobody can guess where the answer is expected), over TCP when
//! the asker came by TCP. A server that is silent, refuses or fails is skipped;
//! one that was silent lately is asked last.

use super::Asker;
use super::message::{REFUSED, SERVER_FAILURE, response, with_id};
use crate::net::reactor::{Key, Registry, Slab, Token};
use crate::sys::inet;
use crate::util::order;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

/// One server's time.
const WAIT: Duration = Duration::from_millis(2500);
/// How long a silent server goes to the end of the row.
const SULK: Duration = Duration::from_secs(30);
const RESOLV_CONF: &str = "/etc/resolv.conf";

pub struct Upstream {
    registry: Registry,
    base: Token,
    asked: Slab<Asked>,
    silent: HashMap<IpAddr, Instant>,
    host: Vec<IpAddr>,
    host_read: Option<(Instant, Option<SystemTime>)>,
}

struct Asked {
    asker: Asker,
    id: u16,
    fd: OwnedFd,
    server: IpAddr,
    /// Not asked yet.
    left: Vec<IpAddr>,
    since: Instant,
    stream: Option<Stream>,
    /// The best of the failures, if all fail.
    failure: Option<Vec<u8>>,
}

/// Over TCP: what is still to be written, what was read.
#[derive(Default)]
struct Stream {
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

type Replies = Vec<(Asker, Option<Vec<u8>>)>;

impl Upstream {
    pub fn new(registry: Registry, base: Token) -> Self {
        Self { registry, base, asked: Slab::default(), silent: HashMap::new(), host: Vec::new(), host_read: None }
    }

    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Starts to ask. Gives the asker back if nobody can be asked.
    pub fn ask(&mut self, servers: Vec<IpAddr>, asker: Asker, stream: bool) -> Option<Asker> {
        let mut left = if servers.is_empty() { self.host_servers() } else { servers };
        self.silent.retain(|_, since| since.elapsed() < SULK);
        order::sort_by_key(&mut left, |s| self.silent.contains_key(s));
        self.next(asker, left, stream, None).map(|(asker, _)| asker)
    }

    /// The host's servers, re-read when the file changed.
    fn host_servers(&mut self) -> Vec<IpAddr> {
        let fresh = self.host_read.is_some_and(|(read, _)| read.elapsed() < Duration::from_secs(1));
        if !fresh {
            let changed = std::fs::metadata(RESOLV_CONF).and_then(|m| m.modified()).ok();
            if self.host_read.is_none_or(|(_, was)| was != changed) {
                let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
                self.host = text.lines().filter_map(server_of).collect();
                // resolv.conf(5): without a line it is this machine.
                if self.host.is_empty() {
                    self.host.push(Ipv4Addr::LOCALHOST.into());
                }
            }
            self.host_read = Some((Instant::now(), changed));
        }
        self.host.clone()
    }

    /// Asks the next of the row; gives the asker back if there is none.
    fn next(
        &mut self,
        asker: Asker,
        mut left: Vec<IpAddr>,
        stream: bool,
        failure: Option<Vec<u8>>,
    ) -> Option<(Asker, Option<Vec<u8>>)> {
        while !left.is_empty() {
            let server = left.remove(0);
            let mut id = [0; 2];
            crate::util::id::fill(&mut id);
            let id = u16::from_ne_bytes(id);
            let question = with_id(&asker.message, id);
            let key = self.asked.next_key();
            if let Ok((fd, state)) = self.send(key, server, &question, stream) {
                let since = Instant::now();
                self.asked.insert(Asked { asker, id, fd, server, left, since, stream: state, failure });
                return None;
            }
        }
        Some((asker, failure))
    }

    fn send(&self, key: Key, server: IpAddr, question: &[u8], stream: bool) -> io::Result<(OwnedFd, Option<Stream>)> {
        let at = SocketAddr::new(server, 53);
        let kind = if stream { libc::SOCK_STREAM } else { libc::SOCK_DGRAM };
        let fd = inet::socket(inet::domain_of(&at), kind, 0)?;
        match inet::connect(&fd, &at) {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return Err(e),
            _ => {}
        }
        let watched = |e: crate::error::Error| io::Error::other(e.to_string());
        if stream {
            self.registry.add(&fd, self.base | key).map_err(watched)?;
            let mut outgoing = (question.len() as u16).to_be_bytes().to_vec();
            outgoing.extend_from_slice(question);
            return Ok((fd, Some(Stream { outgoing, ..Stream::default() })));
        }
        self.registry.add_reader(&fd, self.base | key).map_err(watched)?;
        inet::send(&fd, question)?;
        Ok((fd, None))
    }

    /// A socket has something; finished questions with their replies.
    pub fn event(&mut self, key: Key, writable: bool) -> Replies {
        let Some(asked) = self.asked.get_mut(key) else { return Vec::new() };
        let result = match &mut asked.stream {
            None => read_datagram(&asked.fd, asked.id),
            Some(stream) => read_stream(&asked.fd, stream, asked.id, writable),
        };
        match result {
            Ok(None) => Vec::new(),
            Ok(Some(reply)) => {
                let failed = matches!(reply.get(3).map(|b| b & 15), Some(SERVER_FAILURE | REFUSED));
                if failed { self.go_on(key, Some(reply)) } else { self.finish(key, Some(reply)) }
            }
            Err(_) => self.go_on(key, None),
        }
    }

    fn finish(&mut self, key: Key, reply: Option<Vec<u8>>) -> Replies {
        let Some(asked) = self.asked.remove(key) else { return Vec::new() };
        let id = asked.asker.question.id;
        vec![(asked.asker, reply.map(|r| with_id(&r, id)))]
    }

    /// This server was of no use: the next.
    fn go_on(&mut self, key: Key, failure: Option<Vec<u8>>) -> Replies {
        let Some(asked) = self.asked.remove(key) else { return Vec::new() };
        let id = asked.asker.question.id;
        let failure = failure.or(asked.failure);
        match self.next(asked.asker, asked.left, asked.stream.is_some(), failure) {
            None => Vec::new(),
            Some((asker, failure)) => vec![(asker, failure.map(|f| with_id(&f, id)))],
        }
    }

    /// Gives up on servers that stay silent.
    pub fn sweep(&mut self) -> Replies {
        let mut replies = Vec::new();
        for key in self.asked.keys() {
            let Some(asked) = self.asked.get_mut(key).filter(|a| a.since.elapsed() > WAIT) else { continue };
            let server = asked.server;
            self.silent.insert(server, Instant::now());
            replies.extend(self.go_on(key, None));
        }
        replies
    }
}

/// "nameserver ADDRESS", with or without a zone.
fn server_of(line: &str) -> Option<IpAddr> {
    let mut words = line.split(['#', ';']).next()?.split_ascii_whitespace();
    if words.next()? != "nameserver" {
        return None;
    }
    words.next()?.split('%').next()?.parse().ok()
}

/// None while nothing that fits has come.
fn read_datagram(fd: &OwnedFd, id: u16) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; 65536];
    match inet::receive(fd, &mut buffer) {
        Ok(n) => {
            buffer.truncate(n);
            Ok(response(&buffer, id).map(|_| buffer))
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}

fn read_stream(fd: &OwnedFd, stream: &mut Stream, id: u16, writable: bool) -> io::Result<Option<Vec<u8>>> {
    if writable && !stream.outgoing.is_empty() {
        match inet::send(fd, &stream.outgoing) {
            Ok(n) => drop(stream.outgoing.drain(..n)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    let mut buffer = [0; 8192];
    let mut ended = false;
    loop {
        match inet::receive(fd, &mut buffer) {
            // Servers may close right behind the answer.
            Ok(0) => {
                ended = true;
                break;
            }
            Ok(n) => stream.incoming.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            // Not connected yet.
            Err(e) if e.kind() == io::ErrorKind::NotConnected => break,
            Err(e) => return Err(e),
        }
    }
    let length = stream.incoming.first_chunk::<2>().map(|l| usize::from(u16::from_be_bytes(*l)));
    let Some(message) = length.and_then(|l| stream.incoming.get(2..2 + l)) else {
        return if ended { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
    };
    match response(message, id) {
        Some(_) => Ok(Some(message.to_vec())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_a_resolv_conf() {
        assert_eq!(server_of("nameserver 10.0.0.1 # x"), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(server_of("\tnameserver\tfe80::1%eth0"), Some("fe80::1".parse().unwrap()));
        for line in ["", "# nameserver 1.1.1.1", "nameserver", "nameserver x", "search a"] {
            assert_eq!(server_of(line), None, "{line}");
        }
    }
}
