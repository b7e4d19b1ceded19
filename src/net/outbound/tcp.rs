//! Outbound TCP: the held SYN, the connection upstream, and what is answered.
//! State machine in `outbound`'s essay; how our half is made is `opening`'s.
//!
//! Invariants: a pair has at most one entry, no half is asked for before its
//! upstream has accepted, and an upstream whose half never came is reset, however
//! it is dropped.

use super::opening::{Held, Opened, Opening, Pair};
use super::{PENDING, RELAY, Sender, Uplink};
use crate::error::Result;
use crate::net::packet::build::{self, Unreachable};
use crate::net::packet::{Packet, Tcp};
use crate::net::reactor::{Key, Registry, Slab};
use crate::net::relay::{Relays, abort_on_close, finish_on_close};
use crate::net::share::{Place, Table};
use crate::sys::inet;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// The kernel gives up connecting after some 130 s; nobody waits longer.
const PATIENCE: Duration = Duration::from_secs(150);
/// A container that still wants to connect sends its SYN again after a second (three in old
/// systems), then each time after at most twice the last wait.
const FIRST_WAIT: Duration = Duration::from_secs(3);
const SLACK: Duration = Duration::from_secs(1);
/// For the container's answer to our SYN-ACK, in the ways that wait for it: the
/// kernel's first four transmissions.
const ANSWER: Duration = Duration::from_secs(16);

struct Pending {
    held: Held,
    upstream: OwnedFd,
    since: Instant,
    /// When the SYN came last, and how long after the one before.
    last: Instant,
    wait: Duration,
    /// Headers of the SYN, for an ICMP error.
    original: Vec<u8>,
    place: Place,
}

impl Pending {
    fn new(held: Held, upstream: OwnedFd, original: Vec<u8>, place: Place) -> Self {
        let now = Instant::now();
        Self { held, upstream, since: now, last: now, wait: FIRST_WAIT / 2, original, place }
    }

    /// The SYN came again.
    fn repeated(&mut self) {
        let now = Instant::now();
        self.wait = (now - self.last).max(FIRST_WAIT / 2);
        self.last = now;
    }

    /// Nobody waits any more: the container's socket is gone, and says so by silence only.
    /// If it was a loss after all, the next SYN begins anew.
    fn is_abandoned(&self) -> bool {
        self.since.elapsed() > PATIENCE || self.last.elapsed() > self.wait * 2 + SLACK
    }
}

enum Entry {
    Pending {
        key: Key,
        sequence: u32,
    },
    /// Upstream has accepted, our half is on its way.
    Opening(Box<Pending>),
    /// `answer` is what to send when the SYN comes again, if that is ours to do.
    Open {
        tag: u64,
        sequence: u32,
        answer: Vec<u8>,
    },
}

pub struct Connections {
    registry: Registry,
    /// None: this host lets us make no half at all.
    way: Option<Box<dyn Opening>>,
    pub relays: Relays,
    places: Table,
    pending: Slab<Pending>,
    entries: HashMap<Pair, Entry>,
    tags: HashMap<u64, Pair>,
    next_tag: u64,
    /// How many entries are opening.
    opening: usize,
}

impl Connections {
    pub fn new(registry: Registry, way: Option<Box<dyn Opening>>, places: Table) -> Self {
        Self {
            relays: Relays::new(registry.clone(), RELAY),
            registry,
            way,
            places,
            pending: Slab::default(),
            entries: HashMap::new(),
            tags: HashMap::new(),
            next_tag: 0,
            opening: 0,
        }
    }

    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Nothing here waits for a sweep.
    pub fn none_pending(&self) -> bool {
        self.pending.is_empty() && self.opening == 0
    }

    /// A container wants to connect; `target` is the host's view of the
    /// destination, or an error if nobody may answer there. Beyond the owner's share
    /// a SYN is lost, as on a router whose table is full.
    pub fn syn(&mut self, sender: Sender<'_>, packet: &Packet<'_>, syn: &Tcp, target: Result<IpAddr, ()>) {
        let Sender { from, uplink, owner } = sender;
        let pair = (SocketAddr::new(packet.source, syn.source), SocketAddr::new(packet.destination, syn.destination));
        match self.entries.get(&pair) {
            Some(Entry::Pending { key, sequence }) if *sequence == syn.sequence => {
                if let Some(pending) = self.pending.get_mut(*key) {
                    pending.repeated();
                }
                return;
            }
            Some(Entry::Opening(pending)) if pending.held.syn.sequence == syn.sequence => {
                if let Some(way) = &mut self.way {
                    way.again(&pending.held);
                }
                return;
            }
            Some(Entry::Open { sequence, answer, .. }) if *sequence == syn.sequence => {
                if !answer.is_empty() {
                    uplink.send(answer);
                }
                return;
            }
            // The same ports for another connection: the old one is over.
            Some(_) => self.drop_pair(&pair),
            None => {}
        }
        let held = Held { from, pair, syn: *syn, options: Tcp::options(packet.payload).to_vec() };
        let Ok(target) = target else {
            refuse(uplink, &held);
            return;
        };
        let original = packet.ip[..packet.ip.len().min(128)].to_vec();
        if self.way.is_none() {
            return uplink.unreachable(from.mac, packet.source, Unreachable::Prohibited, &original);
        }
        let Some(place) = self.places.take(owner) else { return };
        match dial(SocketAddr::new(target, syn.destination)) {
            Ok(upstream) => {
                let key = self.pending.next_key();
                if self.registry.add(&upstream, PENDING | key).is_err() {
                    return;
                }
                self.pending.insert(Pending::new(held, upstream, original, place));
                self.entries.insert(pair, Entry::Pending { key, sequence: syn.sequence });
            }
            Err(e) => tell(uplink, &held, &e, &original),
        }
    }

    /// A connection attempt has come to something.
    pub fn connected(&mut self, key: Key, uplinks: &HashMap<u64, Uplink>) {
        // The first event may be the hang-up of a socket that is not connecting
        // yet; only SO_ERROR and the peer's address tell.
        let Some(pending) = self.pending.get_mut(key) else { return };
        let result = inet::take_error(&pending.upstream);
        let Some(pending) = self.pending.remove(key) else { return };
        self.entries.remove(&pending.held.pair);
        let Some(uplink) = uplinks.get(&pending.held.from.uplink) else { return };
        if let Err(e) = result {
            tell(uplink, &pending.held, &e, &pending.original);
            return;
        }
        self.registry.remove(&pending.upstream);
        self.accept(uplink, pending);
    }

    /// Upstream has accepted: so do we.
    fn accept(&mut self, uplink: &Uplink, pending: Pending) {
        let Some(way) = &mut self.way else { return };
        let Held { pair, syn, .. } = pending.held;
        let opened = match way.open(uplink, &pending.held) {
            Ok(Opened::Now { half, answer }) => self.relay(pair, syn.sequence, half, pending, answer),
            Ok(Opened::Soon) => {
                self.opening += 1;
                self.entries.insert(pair, Entry::Opening(Box::new(Pending { since: Instant::now(), ..pending })));
                return;
            }
            Err(e) => {
                refuse(uplink, &pending.held);
                Err(e)
            }
        };
        if let Err(e) = opened {
            crate::warn!(format!("open a connection of {} to {}: {e}", pair.0, pair.1));
        }
    }

    /// Halves that were on their way have arrived.
    pub fn opened(&mut self, key: Key) {
        let Some(way) = &mut self.way else { return };
        for (pair, half) in way.ready(key) {
            // One that nobody waits for any more was reset by the way itself.
            let Some(Entry::Opening(_)) = self.entries.get(&pair) else { continue };
            let Some(Entry::Opening(pending)) = self.entries.remove(&pair) else { continue };
            self.opening -= 1;
            let sequence = pending.held.syn.sequence;
            if let Err(e) = self.relay(pair, sequence, half, *pending, Vec::new()) {
                crate::warn!(format!("open a connection of {} to {}: {e}", pair.0, pair.1));
            }
        }
    }

    fn relay(&mut self, pair: Pair, sequence: u32, half: OwnedFd, pending: Pending, answer: Vec<u8>) -> Result<()> {
        let tag = self.next_tag;
        self.next_tag += 1;
        finish_on_close(&pending.upstream)?;
        self.relays.add([half, pending.upstream], (pair.0.ip(), 0), tag, pending.place)?;
        self.tags.insert(tag, pair);
        self.entries.insert(pair, Entry::Open { tag, sequence, answer });
        Ok(())
    }

    fn drop_pair(&mut self, pair: &Pair) {
        match self.entries.remove(pair) {
            Some(Entry::Pending { key, .. }) => drop(self.pending.remove(key)),
            Some(Entry::Opening(_)) => {
                self.opening -= 1;
                if let Some(way) = &mut self.way {
                    way.give_up(pair);
                }
            }
            Some(Entry::Open { tag, .. }) => {
                self.tags.remove(&tag);
                self.relays.end(tag);
            }
            None => {}
        }
    }

    /// Ends everything of a container.
    pub fn forget(&mut self, address: IpAddr) {
        self.relays.forget(address);
        let gone: Vec<Pair> = self.entries.keys().filter(|(guest, _)| guest.ip() == address).copied().collect();
        for pair in gone {
            self.drop_pair(&pair);
        }
    }

    /// Moves bytes; true if there is more to move at once.
    pub fn settle(&mut self) -> bool {
        let busy = self.relays.pump();
        for tag in self.relays.take_ended() {
            if let Some(pair) = self.tags.remove(&tag) {
                self.entries.remove(&pair);
            }
        }
        busy
    }

    pub fn sweep(&mut self) {
        for key in self.pending.keys() {
            let over = self.pending.get_mut(key).is_some_and(|p| p.is_abandoned());
            if over && let Some(pending) = self.pending.remove(key) {
                self.entries.remove(&pending.held.pair);
            }
        }
        if self.opening == 0 {
            return;
        }
        let late = |e: &Entry| matches!(e, Entry::Opening(p) if p.since.elapsed() > ANSWER);
        let gone: Vec<Pair> = self.entries.iter().filter(|(_, e)| late(e)).map(|(pair, _)| *pair).collect();
        gone.iter().for_each(|pair| self.drop_pair(pair));
    }
}

/// Begins to connect from the host. Until the container's half is there, a close is a reset:
/// a FIN would tell the server that somebody had come and gone in peace.
fn dial(target: SocketAddr) -> io::Result<OwnedFd> {
    let fd = inet::socket(inet::domain_of(&target), libc::SOCK_STREAM, 0)?;
    abort_on_close(&fd)?;
    match inet::connect(&fd, &target) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
        _ => Ok(fd),
    }
}

fn refuse(uplink: &Uplink, held: &Held) {
    let (guest, destination) = held.pair;
    uplink.send(&build::refuse(&uplink.peer(held.from.mac), destination, guest, held.syn.sequence));
}

/// Says why upstream could not be reached, in the network's own words.
fn tell(uplink: &Uplink, held: &Held, why: &io::Error, original: &[u8]) {
    let unreachable = match why.raw_os_error() {
        // The container's own retries and timeout are the truth here.
        Some(libc::ETIMEDOUT) => return,
        Some(libc::ENETUNREACH) => Unreachable::Network,
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => Unreachable::Host,
        Some(libc::EACCES | libc::EPERM) => Unreachable::Prohibited,
        _ => return refuse(uplink, held),
    };
    uplink.unreachable(held.from.mac, held.pair.0.ip(), unreachable, original);
}
