//! Bytes between pairs of connected sockets, moved by splice(2) without being
//! copied into this process. One thread owns a [`Relays`]; it is told of
//! readiness and never blocks.
//!
//! Each direction is: read from one socket into a pipe, write from the pipe to
//! the other. A pipe is lent to a direction only while bytes are in it: an idle
//! connection costs two sockets and some hundred bytes. The user's quota of pipe
//! memory (16,384 pages for an unprivileged user, shared with the processes of
//! his containers) is why few pipes are large: more slots mean fewer wake-ups.
//!
//! What one side does, the other sees: the end of a stream is passed on as a
//! half-close after the last byte, a reset as a reset, and what was received
//! before a reset is still delivered. Urgent data stays in its place in the stream;
//! splice(2) stops in front of it, so that piece is copied.

use crate::error::Result;
use crate::net::reactor::{Key, Registry, Slab, Token};
use crate::net::share::Place;
use crate::sys::inet;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// Bytes of a pipe; the kernel's default, which needs no further call.
const PIPE: usize = 64 * 1024;
/// Bytes of the first few pipes, and how many they are.
const LARGE_PIPE: usize = 256 * 1024;
const LARGE_PIPES: usize = 24;
/// Pipes that are kept for the next direction.
const SPARE: usize = 64;
/// Asked of one splice(2): a pipe is full when its slots are, and a slot can hold
/// more than a page.
const MOST: usize = 1024 * 1024;
/// Bytes one connection may move before others get their turn.
const TURN: usize = 1024 * 1024;

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    large: bool,
}

#[derive(Default)]
struct Pipes {
    spare: Vec<Pipe>,
    /// Large ones, lent or spare.
    large: usize,
}

impl Pipes {
    /// None: the descriptors have run out.
    fn lend(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.spare.pop() {
            return Some(pipe);
        }
        let wanted = if self.large < LARGE_PIPES { LARGE_PIPE } else { PIPE };
        let (read, write, size) = inet::pipe(wanted).ok()?;
        let large = size > PIPE;
        self.large += usize::from(large);
        Some(Pipe { read, write, large })
    }

    /// Takes a pipe back; one with bytes in it is of no further use.
    fn give_back(&mut self, pipe: Pipe, empty: bool) {
        if empty && self.spare.len() < SPARE {
            // Large ones are lent first.
            let at = if pipe.large { self.spare.len() } else { 0 };
            self.spare.insert(at, pipe);
        } else {
            self.large -= usize::from(pipe.large);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// The source sent its last byte.
    Finished,
    /// The source was reset.
    Reset,
}

/// From side `n` to side `1 - n`.
struct Direction {
    pipe: Option<Pipe>,
    buffered: usize,
    end: End,
    /// The end has been passed on, or nobody wants the bytes any more.
    done: bool,
}

struct Side {
    fd: OwnedFd,
    readable: bool,
    writable: bool,
    /// There is urgent data that has not been read.
    urgent: bool,
    /// Writing to it failed, which used its error up: the end of its stream,
    /// when it comes, is a reset.
    failed: bool,
}

/// How often a flow whose container is gone may still move bytes.
const LAST_TURNS: usize = 64;

struct Flow {
    sides: [Side; 2],
    directions: [Direction; 2],
    /// The container's address, to end its flows with it.
    owner: IpAddr,
    /// Which side is the container's.
    inner: usize,
    /// What the owner of the relays calls this flow.
    tag: u64,
    /// Given back with the flow.
    _place: Place,
    queued: bool,
    /// A write failed: the flow will end with a reset.
    broken: bool,
    /// A reset came and all before it is delivered.
    aborted: bool,
}

pub struct Relays {
    registry: Registry,
    flows: Slab<Flow>,
    pipes: Pipes,
    ready: VecDeque<Key>,
    /// Tags of flows that ended since the owner last asked.
    ended: Vec<u64>,
    base: Token,
}

impl Relays {
    /// Tokens from `base` on are ours: `base | side << 62 | key` must not meet
    /// another kind of token of the same loop.
    pub fn new(registry: Registry, base: Token) -> Self {
        let (flows, pipes) = (Slab::default(), Pipes::default());
        Self { registry, flows, pipes, ready: VecDeque::new(), ended: Vec::new(), base }
    }

    fn token(&self, key: Key, side: u64) -> Token {
        self.base | side << 56 | key
    }

    /// Starts relaying between two connected, non-blocking sockets; side `inner` (0, 1) is
    /// the one towards the container `owner`.
    pub fn add(&mut self, [a, b]: [OwnedFd; 2], (owner, inner): (IpAddr, usize), tag: u64, place: Place) -> Result<()> {
        let key = self.flows.next_key();
        for fd in [&a, &b] {
            // A request and its answer should not wait for each other's
            // acknowledgements; urgent data stays in its place in the stream.
            let _ = inet::set_int(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
            let _ = inet::set_int(fd, libc::SOL_SOCKET, libc::SO_OOBINLINE, 1);
            let _ = inet::set_int(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
        }
        self.registry.add(&a, self.token(key, 0))?;
        self.registry.add(&b, self.token(key, 1))?;
        let side = |fd| Side { fd, readable: false, writable: true, urgent: false, failed: false };
        let direction = || Direction { pipe: None, buffered: 0, end: End::Open, done: false };
        self.flows.insert(Flow {
            sides: [side(a), side(b)],
            directions: [direction(), direction()],
            owner,
            inner,
            tag,
            _place: place,
            queued: false,
            broken: false,
            aborted: false,
        });
        Ok(())
    }

    /// An event of one of our tokens.
    pub fn event(&mut self, event: super::reactor::Ready) {
        let side = (event.token >> 56 & 1) as usize;
        let key = event.token & 0x00ff_ffff_ffff_ffff;
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.sides[side].readable |= event.readable;
        flow.sides[side].writable |= event.writable;
        flow.sides[side].urgent |= event.urgent;
        self.queue(key);
    }

    fn queue(&mut self, key: Key) {
        if let Some(flow) = self.flows.get_mut(key)
            && !flow.queued
        {
            flow.queued = true;
            self.ready.push_back(key);
        }
    }

    /// Gives every ready flow one turn; true if some want another.
    pub fn pump(&mut self) -> bool {
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { break };
            let Some(flow) = self.flows.get_mut(key) else { continue };
            flow.queued = false;
            let more = pump(flow, 0, &mut self.pipes) | pump(flow, 1, &mut self.pipes);
            if flow.aborted || flow.directions.iter().all(|d| d.done) {
                self.close(key);
            } else if more {
                self.queue(key);
            }
        }
        !self.ready.is_empty()
    }

    /// Ends a flow: with a reset if either side was reset.
    fn close(&mut self, key: Key) {
        let Some(flow) = self.flows.remove(key) else { return };
        let reset = flow.broken || flow.directions.iter().any(|d| d.end == End::Reset);
        if reset {
            for side in &flow.sides {
                let _ = abort_on_close(&side.fd);
            }
        }
        for direction in flow.directions {
            if let Some(pipe) = direction.pipe {
                self.pipes.give_back(pipe, direction.buffered == 0);
            }
        }
        self.ended.push(flow.tag);
    }

    /// Ends every flow of a container that is gone. What it had sent, and that this was all,
    /// is here already and may only wait for its turn: it is the peer's. The rest is reset.
    pub fn forget(&mut self, owner: IpAddr) {
        for key in self.flows.keys() {
            if let Some(flow) = self.flows.get_mut(key)
                && flow.owner == owner
            {
                for side in &mut flow.sides {
                    (side.readable, side.writable) = (true, true);
                }
                // A peer that does not read ends it too.
                for _ in 0..LAST_TURNS {
                    if !(pump(flow, 0, &mut self.pipes) | pump(flow, 1, &mut self.pipes)) {
                        break;
                    }
                }
                flow.broken |= !flow.directions[flow.inner].done;
                self.close(key);
            }
        }
    }

    /// Resets the flow of this tag.
    pub fn end(&mut self, tag: u64) {
        for key in self.flows.keys() {
            if let Some(flow) = self.flows.get_mut(key)
                && flow.tag == tag
            {
                flow.broken = true;
                self.close(key);
            }
        }
    }

    pub fn take_ended(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.ended)
    }
}

/// Has close(2) send a reset instead of a FIN.
pub fn abort_on_close(fd: &OwnedFd) -> std::io::Result<()> {
    linger(fd, true)
}

/// Takes [`abort_on_close`] back.
pub fn finish_on_close(fd: &OwnedFd) -> std::io::Result<()> {
    linger(fd, false)
}

/// For no time at all, or as the kernel does by itself; socket(7).
fn linger(fd: &OwnedFd, on: bool) -> std::io::Result<()> {
    let mut linger = [0; 8];
    linger[..4].copy_from_slice(&i32::from(on).to_ne_bytes());
    inet::set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

/// One turn of one direction; true if it wants another.
fn pump(flow: &mut Flow, n: usize, pipes: &mut Pipes) -> bool {
    let Flow { sides, directions, broken, aborted, .. } = flow;
    let direction = &mut directions[n];
    let mut moved = 0;
    while moved < TURN && !direction.done {
        match step(sides, direction, n, pipes, broken) {
            Some(bytes) => moved += bytes,
            None => break,
        }
    }
    if direction.buffered == 0
        && let Some(pipe) = direction.pipe.take()
    {
        pipes.give_back(pipe, true);
    }
    *aborted |= direction.done && direction.end == End::Reset;
    !direction.done && moved >= TURN
}

/// One read, one write; none when neither side can go on.
fn step(sides: &mut [Side; 2], d: &mut Direction, n: usize, pipes: &mut Pipes, broken: &mut bool) -> Option<usize> {
    let mut progress = None;
    if d.end == End::Open && sides[n].readable && d.buffered < MOST {
        progress = fill(&mut sides[n], d, pipes);
    }
    if d.buffered > 0 && sides[1 - n].writable {
        match drain(&mut sides[1 - n], d) {
            Ok(Some(bytes)) => progress = Some(progress.unwrap_or(0) + bytes),
            Ok(None) => {}
            Err(()) => {
                // Nobody takes the bytes; what comes the other way still counts.
                d.done = true;
                if let Some(pipe) = d.pipe.take() {
                    pipes.give_back(pipe, false);
                }
                d.buffered = 0;
                *broken = true;
                sides[1 - n].readable = true;
                sides[1 - n].failed = true;
                return Some(0);
            }
        }
    }
    if d.buffered == 0 && d.end != End::Open {
        d.done = true;
        if d.end == End::Finished {
            let _ = inet::shutdown_write(&sides[1 - n].fd);
        }
        return Some(0);
    }
    progress
}

fn fill(source: &mut Side, d: &mut Direction, pipes: &mut Pipes) -> Option<usize> {
    if d.pipe.is_none() {
        d.pipe = pipes.lend();
    }
    // No pipe to be had: try again when the next event comes.
    let pipe = d.pipe.as_ref()?;
    match inet::splice(&source.fd, &pipe.write, MOST - d.buffered) {
        Ok(0) => {
            d.end = if source.failed { End::Reset } else { End::Finished };
            Some(0)
        }
        Ok(bytes) => {
            d.buffered += bytes;
            Some(bytes)
        }
        Err(e) if e.kind() == ErrorKind::WouldBlock => {
            if source.urgent && d.buffered == 0 {
                return past_urgent(source, d);
            }
            // With bytes in the pipe it may be the pipe that is full: its slots
            // run out before its bytes when segments are small.
            if d.buffered == 0 {
                source.readable = false;
            }
            None
        }
        Err(e) if e.kind() == ErrorKind::Interrupted => Some(0),
        Err(_) => {
            d.end = End::Reset;
            Some(0)
        }
    }
}

/// Copies what begins with urgent data into the empty pipe.
fn past_urgent(source: &mut Side, d: &mut Direction) -> Option<usize> {
    let pipe = d.pipe.as_ref()?;
    // A pipe of one page takes that much at once.
    let mut buffer = [0; 4096];
    match inet::receive(&source.fd, &mut buffer) {
        Ok(0) => d.end = End::Finished,
        Ok(n) => {
            d.buffered = nix::unistd::write(&pipe.write, &buffer[..n]).unwrap_or(0);
            return Some(n);
        }
        Err(e) if e.kind() == ErrorKind::WouldBlock => {
            (source.urgent, source.readable) = (false, false);
            return None;
        }
        Err(_) => d.end = End::Reset,
    }
    Some(0)
}

fn drain(sink: &mut Side, d: &mut Direction) -> std::result::Result<Option<usize>, ()> {
    let Some(pipe) = d.pipe.as_ref() else { return Ok(None) };
    match inet::splice(&pipe.read, &sink.fd, d.buffered) {
        Ok(bytes) => {
            d.buffered -= bytes;
            Ok(Some(bytes))
        }
        Err(e) if e.kind() == ErrorKind::WouldBlock => {
            sink.writable = false;
            Ok(None)
        }
        Err(e) if e.kind() == ErrorKind::Interrupted => Ok(Some(0)),
        Err(_) => Err(()),
    }
}
