//! The name server inside every container of a user network: 127.0.0.11. One
//! thread of netd serves all of them on sockets that were bound inside; it needs
//! no dockerd, so answers keep coming while that restarts.
//!
//! Own names first: whatever the container shares a network with, by name,
//! alias, short id or hostname, plus its links. A name that exists but not in the
//! asked family is answered with nothing, not with "no such name", or a resolver
//! would give up on both. Everything else is asked upstream, from the host, so
//! that the host's loopback servers work too; on internal networks it is not.

pub mod message;
pub mod sockets;
pub mod upstream;

use crate::error::{Context, Result};
use crate::net::reactor::{Handler, Key, Reactor, Ready, Registry, Remote, Slab, Ticker, Token};
use crate::net::share::{Kind, Owner, Place, Table};
use crate::sys::inet;
use crate::util::thread;
use message::{NO_SUCH_NAME, Question, SERVER_FAILURE};
use sockets::Sockets;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use upstream::Upstream;

const KIND: u32 = 58;
const UDP: Token = 1 << KIND;
const LISTENER: Token = 2 << KIND;
const STREAM: Token = 3 << KIND;
const ASKED: Token = 4 << KIND;
const KEY: u64 = 0x00ff_ffff_ffff_ffff;
const BURST: usize = 64;
/// Streams of one container at once, and how long one may stay silent.
const STREAMS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(10);
/// No honest question is longer.
const LONGEST: usize = 4096;
/// Bytes that one stream may have on their way, to us in one turn and from us at all.
/// Whoever sends more, or does not read, is cut off: this thread serves everybody.
const BACKLOG: usize = 256 << 10;

/// What one container may resolve, as the control thread sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Lower-case name to addresses.
    pub names: HashMap<String, Vec<IpAddr>>,
    /// Address to name with its network.
    pub pointers: HashMap<IpAddr, String>,
    /// Empty = the host's, as they are now.
    pub servers: Vec<IpAddr>,
    /// All its networks are internal.
    pub closed: bool,
}

struct Client {
    container: String,
    sockets: Sockets,
    view: View,
    owner: Owner,
}

/// Who waits for an upstream answer.
#[derive(Debug)]
pub struct Asker {
    client: Key,
    via: Via,
    question: Question,
    message: Vec<u8>,
    /// One of the questions that may be on their way; given back with the answer.
    _place: Place,
}

#[derive(Debug, Clone, Copy)]
enum Via {
    Udp(SocketAddr),
    Stream(Key),
}

struct Stream {
    fd: OwnedFd,
    client: Key,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    last: Instant,
}

pub struct Server {
    registry: Registry,
    clients: Slab<Client>,
    streams: Slab<Stream>,
    upstream: Upstream,
    places: Table,
    sweep: Ticker,
    buffer: Vec<u8>,
    turn: usize,
}

pub fn start() -> Result<Remote<Server>> {
    let (reactor, remote) = Reactor::new()?;
    let registry = reactor.registry();
    let state = Server {
        upstream: Upstream::new(registry.clone(), ASKED),
        places: Table::new(Kind::Questions),
        registry,
        clients: Slab::default(),
        streams: Slab::default(),
        sweep: Ticker::new(Duration::from_millis(500)),
        buffer: vec![0; 65536],
        turn: 0,
    };
    let body = move || reactor.run(state);
    thread::start("dns", 256 * 1024, body).context("start a thread")?;
    Ok(remote)
}

impl Server {
    pub fn add(&mut self, container: String, sockets: Sockets, view: View) {
        let key = self.clients.next_key();
        let watched = self
            .registry
            .add_reader(&sockets.udp, UDP | key)
            .and_then(|()| self.registry.add_reader(&sockets.tcp, LISTENER | key));
        match watched {
            Ok(()) => drop(self.clients.insert(Client { container, sockets, view, owner: Owner::default() })),
            Err(e) => crate::error!(format!("serve names: {e}"), "container" = container),
        }
    }

    /// New views of containers whose networks changed.
    pub fn update(&mut self, mut views: HashMap<String, View>) {
        for key in self.clients.keys() {
            if let Some(client) = self.clients.get_mut(key)
                && let Some(view) = views.remove(&client.container)
            {
                client.view = view;
            }
        }
    }

    /// Closing the sockets lets go of the container's namespace.
    pub fn remove(&mut self, container: &str) {
        for key in self.clients.keys() {
            if self.clients.get_mut(key).is_some_and(|c| c.container == container) {
                self.clients.remove(key);
                for stream in self.streams.keys() {
                    if self.streams.get_mut(stream).is_some_and(|s| s.client == key) {
                        self.streams.remove(stream);
                    }
                }
            }
        }
    }

    fn datagrams(&mut self, key: Key) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..BURST {
            let Some(client) = self.clients.get_mut(key) else { break };
            let Ok((n, from)) = inet::receive_from(&client.sockets.udp, &mut buffer) else { break };
            self.question(key, Via::Udp(from), &buffer[..n]);
        }
        self.buffer = buffer;
    }

    fn question(&mut self, key: Key, via: Via, message: &[u8]) {
        let Some(question) = Question::parse(message).filter(|_| message.len() <= LONGEST) else { return };
        let Some(client) = self.clients.get_mut(key) else { return };
        let room = match via {
            Via::Udp(_) => question.room,
            Via::Stream(_) => 65535,
        };
        self.turn = self.turn.wrapping_add(1);
        if let Some(answer) = own_answer(&client.view, &question, message, room, self.turn) {
            return self.answer(key, via, &answer);
        }
        let servers = client.view.servers.clone();
        let closed = client.view.closed;
        // Beyond its share it is told to try elsewhere.
        let Some(place) = self.places.take(&client.owner).filter(|_| !closed) else {
            let nobody = closed && !question.name.contains('.');
            let failure = question.failure(message, if nobody { NO_SUCH_NAME } else { SERVER_FAILURE });
            return self.answer(key, via, &failure);
        };
        let asker = Asker { client: key, via, question, message: message.to_vec(), _place: place };
        let stream = matches!(via, Via::Stream(_));
        if let Some(asker) = self.upstream.ask(servers, asker, stream) {
            self.fail(asker);
        }
    }

    fn fail(&mut self, asker: Asker) {
        let failure = asker.question.failure(&asker.message, SERVER_FAILURE);
        self.answer(asker.client, asker.via, &failure);
    }

    fn answer(&mut self, key: Key, via: Via, message: &[u8]) {
        match via {
            Via::Udp(to) => {
                if let Some(client) = self.clients.get_mut(key) {
                    let _ = inet::send_to(&client.sockets.udp, message, &to);
                }
            }
            Via::Stream(stream) => {
                if let Some(s) = self.streams.get_mut(stream) {
                    s.outgoing.extend_from_slice(&(message.len() as u16).to_be_bytes());
                    s.outgoing.extend_from_slice(message);
                    flush(s);
                    if s.outgoing.len() > BACKLOG {
                        self.streams.remove(stream);
                    }
                }
            }
        }
    }

    fn accept(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Ok((fd, _)) = inet::accept(&client.sockets.tcp) else { return };
        if self.streams.iter().filter(|s| s.client == key).count() >= STREAMS {
            return;
        }
        let stream = self.streams.next_key();
        if self.registry.add(&fd, STREAM | stream).is_ok() {
            let (incoming, outgoing) = (Vec::new(), Vec::new());
            self.streams.insert(Stream { fd, client: key, incoming, outgoing, last: Instant::now() });
        }
    }

    fn stream(&mut self, key: Key) {
        let mut questions = Vec::new();
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.last = Instant::now();
        let mut over = false;
        let mut taken = 0;
        let mut buffer = [0; 4096];
        loop {
            match inet::receive(&stream.fd, &mut buffer) {
                Ok(0) => over = true,
                Ok(n) => {
                    stream.incoming.extend_from_slice(&buffer[..n]);
                    while let Some(length) = stream.incoming.first_chunk::<2>() {
                        let end = 2 + usize::from(u16::from_be_bytes(*length));
                        let Some(message) = stream.incoming.get(2..end) else { break };
                        questions.push(message.to_vec());
                        stream.incoming.drain(..end);
                    }
                    taken += n;
                    over = taken > BACKLOG;
                    if !over {
                        continue;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => over = true,
            }
            break;
        }
        flush(stream);
        let client = stream.client;
        for message in questions {
            self.question(client, Via::Stream(key), &message);
        }
        // Whoever closes before the answer does not want it.
        if over {
            self.streams.remove(key);
        }
    }
}

fn flush(stream: &mut Stream) {
    while !stream.outgoing.is_empty() {
        match inet::send(&stream.fd, &stream.outgoing) {
            Ok(n) => drop(stream.outgoing.drain(..n)),
            Err(_) => return,
        }
    }
}

/// The answer from the container's own networks; none if they do not know.
fn own_answer(view: &View, question: &Question, message: &[u8], room: usize, turn: usize) -> Option<Vec<u8>> {
    if let Some(address) = question.reverse() {
        return view.pointers.get(&address).map(|name| question.pointer(message, name, room));
    }
    let all = view.names.get(&question.name)?;
    let mut fitting: Vec<IpAddr> = all.iter().filter(|a| question.wants(a)).copied().collect();
    if !fitting.is_empty() {
        let by = turn % fitting.len();
        fitting.rotate_left(by);
    }
    Some(question.addresses(message, &fitting, room))
}

impl Handler for Server {
    fn ready(&mut self, event: Ready) {
        let key = event.token & KEY;
        match event.token >> KIND << KIND {
            UDP => self.datagrams(key),
            LISTENER => self.accept(key),
            STREAM => self.stream(key),
            ASKED => {
                for (asker, reply) in self.upstream.event(key, event.writable) {
                    match reply {
                        Some(reply) => self.answer(asker.client, asker.via, &reply),
                        None => self.fail(asker),
                    }
                }
            }
            _ => {}
        }
    }

    fn settle(&mut self) -> Option<Duration> {
        if self.sweep.due() {
            for (asker, reply) in self.upstream.sweep() {
                match reply {
                    Some(reply) => self.answer(asker.client, asker.via, &reply),
                    None => self.fail(asker),
                }
            }
            for key in self.streams.keys() {
                if self.streams.get_mut(key).is_some_and(|s| s.last.elapsed() > PATIENCE) {
                    self.streams.remove(key);
                }
            }
        }
        match self.upstream.is_empty() && self.streams.is_empty() {
            true => None,
            false => Some(self.sweep.left()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn serve() -> (Remote<Server>, SocketAddr) {
        let (udp, tcp) = (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let at = tcp.local_addr().unwrap();
        let many = (0..200u8).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        let view = View { names: HashMap::from([("many".to_owned(), many)]), closed: true, ..View::default() };
        let remote = start().unwrap();
        let sockets = Sockets { udp: udp.into(), tcp: tcp.into() };
        remote.ask(move |s| s.add("box".into(), sockets, view)).unwrap();
        (remote, at)
    }

    fn question() -> Vec<u8> {
        let question = crate::util::dns::question(7, "many", crate::util::dns::Type::A).unwrap();
        [&(question.len() as u16).to_be_bytes(), question.as_slice()].concat()
    }

    /// A container that asks and asks and reads nothing.
    #[test]
    fn who_does_not_read_is_cut_off() {
        let (remote, at) = serve();
        let mut honest = TcpStream::connect(at).unwrap();
        let mut greedy = TcpStream::connect(at).unwrap();
        let many = question().repeat(1000);
        // 3 KB of answer for 22 bytes: the socket's buffers are full long before the end.
        let end = (0..10_000).find(|_| greedy.write_all(&many).is_err());
        assert!(end.is_some());
        honest.write_all(&question()).unwrap();
        let mut length = [0; 2];
        honest.read_exact(&mut length).unwrap();
        assert!(u16::from_be_bytes(length) > 3000);
        let held = remote.ask(|s| s.streams.iter().map(|s| s.outgoing.len() + s.incoming.len()).sum::<usize>());
        assert!(held.unwrap() <= BACKLOG + 65_537);
    }
}
