//! Outbound TCP: the held SYN, the connection upstream, the repaired socket.
//! State machine in `outbound`'s essay.

use super::{From, PENDING, RELAY, Uplink};
use crate::error::{Context, Result};
use crate::net::packet::build::{self, Segment, Unreachable};
use crate::net::packet::{ACK, Packet, SYN, Tcp};
use crate::net::reactor::{Key, Registry, Slab};
use crate::net::relay::{Relays, abort_on_close};
use crate::net::stock::Stock;
use crate::sys::inet;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Connections and attempts at once; beyond that a SYN is lost, as on a router
/// whose table is full.
const MOST: usize = 16 * 1024;
/// The kernel gives up connecting after some 130 s; nobody waits longer.
const PATIENCE: Duration = Duration::from_secs(150);
/// Our side's window scale: up to 8 MiB in flight.
const WINDOW_SCALE: u8 = 7;

const REPAIR_OFF_NO_PROBE: i32 = -1;
const RECEIVE_QUEUE: i32 = 1;
const SEND_QUEUE: i32 = 2;
const OPTION_MSS: u32 = 2;
const OPTION_WINDOW: u32 = 3;
const OPTION_SACK: u32 = 4;

/// (container, destination as it calls it)
type Pair = (SocketAddr, SocketAddr);

/// What is needed to answer a SYN.
#[derive(Debug, Clone, Copy)]
struct Held {
    from: From,
    pair: Pair,
    syn: Tcp,
}

struct Pending {
    held: Held,
    upstream: OwnedFd,
    since: Instant,
    /// Headers of the SYN, for an ICMP error.
    original: Vec<u8>,
}

enum Entry {
    Pending { key: Key, sequence: u32 },
    Open { tag: u64, sequence: u32, answer: Vec<u8> },
}

pub struct Connections {
    registry: Registry,
    stock: Stock,
    pub relays: Relays,
    pending: Slab<Pending>,
    entries: HashMap<Pair, Entry>,
    tags: HashMap<u64, Pair>,
    next_tag: u64,
}

impl Connections {
    pub fn new(registry: Registry, stock: Stock) -> Self {
        Self {
            relays: Relays::new(registry.clone(), RELAY),
            registry,
            stock,
            pending: Slab::default(),
            entries: HashMap::new(),
            tags: HashMap::new(),
            next_tag: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn none_pending(&self) -> bool {
        self.pending.is_empty()
    }

    /// A container wants to connect; `target` is the host's view of the
    /// destination, or an error if nobody may answer there.
    pub fn syn(&mut self, from: From, uplink: &Uplink, packet: &Packet<'_>, syn: &Tcp, target: Result<IpAddr, ()>) {
        let pair = (SocketAddr::new(packet.source, syn.source), SocketAddr::new(packet.destination, syn.destination));
        match self.entries.get(&pair) {
            Some(Entry::Pending { sequence, .. }) if *sequence == syn.sequence => return,
            Some(Entry::Open { sequence, answer, .. }) if *sequence == syn.sequence => {
                uplink.send(answer);
                return;
            }
            // The same ports for another connection: the old one is over.
            Some(_) => self.drop_pair(&pair),
            None => {}
        }
        let held = Held { from, pair, syn: *syn };
        let Ok(target) = target else {
            refuse(uplink, &held);
            return;
        };
        if self.entries.len() >= MOST {
            return;
        }
        let original = packet.ip[..packet.ip.len().min(128)].to_vec();
        match dial(SocketAddr::new(target, syn.destination)) {
            Ok(upstream) => {
                let key = self.pending.next_key();
                if self.registry.add(&upstream, PENDING | key).is_err() {
                    return;
                }
                self.pending.insert(Pending { held, upstream, since: Instant::now(), original });
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
        let held = pending.held;
        self.entries.remove(&held.pair);
        let Some(uplink) = uplinks.get(&held.from.uplink) else { return };
        if let Err(e) = result {
            tell(uplink, &held, &e, &pending.original);
            return;
        }
        self.registry.remove(&pending.upstream);
        if let Err(e) = self.open(uplink, held, pending.upstream) {
            crate::warn!(format!("open a connection of {} to {}: {e}", held.pair.0, held.pair.1));
            refuse(uplink, &held);
        }
    }

    /// Upstream has accepted: so do we.
    fn open(&mut self, uplink: &Uplink, held: Held, upstream: OwnedFd) -> Result<()> {
        let guest = self.stock.take(held.pair.0.is_ipv4())?;
        let mut first = [0; 4];
        crate::util::id::fill(&mut first);
        let first = u32::from_ne_bytes(first);
        let window = repair(&guest, &held, first).context("repair a socket")?;
        let answer = accept_frame(uplink, &held, first, window);
        uplink.send(&answer);
        let tag = self.next_tag;
        self.next_tag += 1;
        self.relays.add(guest, upstream, held.pair.0.ip(), tag)?;
        self.tags.insert(tag, held.pair);
        self.entries.insert(held.pair, Entry::Open { tag, sequence: held.syn.sequence, answer });
        Ok(())
    }

    fn drop_pair(&mut self, pair: &Pair) {
        match self.entries.remove(pair) {
            Some(Entry::Pending { key, .. }) => drop(self.pending.remove(key)),
            Some(Entry::Open { tag, .. }) => {
                self.tags.remove(&tag);
                self.relays.end(tag);
            }
            None => {}
        }
    }

    /// Ends everything of a container.
    pub fn forget(&mut self, address: IpAddr) {
        let gone: Vec<Pair> = self.entries.keys().filter(|(guest, _)| guest.ip() == address).copied().collect();
        for pair in gone {
            self.drop_pair(&pair);
        }
        self.relays.forget(address);
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
            let old = self.pending.get_mut(key).is_some_and(|p| p.since.elapsed() > PATIENCE);
            if old && let Some(pending) = self.pending.remove(key) {
                self.entries.remove(&pending.held.pair);
            }
        }
    }
}

/// Begins to connect from the host.
fn dial(target: SocketAddr) -> io::Result<OwnedFd> {
    let fd = inet::socket(inet::domain_of(&target), libc::SOCK_STREAM, 0)?;
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

/// The SYN-ACK that belongs to a repaired socket.
fn accept_frame(uplink: &Uplink, held: &Held, first: u32, window: u32) -> Vec<u8> {
    let (guest, destination) = held.pair;
    let headers = if guest.is_ipv4() { 40 } else { 60 };
    let mss = (uplink.mtu.saturating_sub(headers) as u16).to_be_bytes();
    let mut options = vec![2, 4, mss[0], mss[1]];
    if held.syn.sack {
        options.extend_from_slice(&[1, 1, 4, 2]);
    }
    if held.syn.window_scale.is_some() {
        options.extend_from_slice(&[1, 3, 3, WINDOW_SCALE]);
    }
    let segment = Segment {
        sequence: first,
        acknowledgement: held.syn.sequence.wrapping_add(1),
        flags: SYN | ACK,
        window: u16::try_from(window).unwrap_or(u16::MAX),
        options: &options,
    };
    build::tcp(&uplink.peer(held.from.mac), destination, guest, &segment)
}

/// Puts a fresh socket into the state that it would have after our SYN-ACK was
/// acknowledged; returns its receive window.
fn repair(fd: &OwnedFd, held: &Held, first: u32) -> io::Result<u32> {
    let tcp = |name, value| inet::set_int(fd, libc::IPPROTO_TCP, name, value);
    let (guest, destination) = held.pair;
    let theirs = held.syn.sequence.wrapping_add(1);
    tcp(libc::TCP_REPAIR, 1)?;
    inet::bind(fd, &destination)?;
    tcp(libc::TCP_REPAIR_QUEUE, SEND_QUEUE)?;
    tcp(libc::TCP_QUEUE_SEQ, first.wrapping_add(1) as i32)?;
    tcp(libc::TCP_REPAIR_QUEUE, RECEIVE_QUEUE)?;
    tcp(libc::TCP_QUEUE_SEQ, theirs as i32)?;
    inet::connect(fd, &guest)?;
    let mut options: Vec<u32> = vec![OPTION_MSS, u32::from(held.syn.mss.unwrap_or(536))];
    if held.syn.sack {
        options.extend([OPTION_SACK, 0]);
    }
    if let Some(scale) = held.syn.window_scale {
        options.extend([OPTION_WINDOW, u32::from(scale) | u32::from(WINDOW_SCALE) << 16]);
    }
    inet::set_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_OPTIONS, &words(&options))?;
    let mut window = [0; 20];
    inet::get_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &mut window)?;
    let ours = u32::from_ne_bytes([window[12], window[13], window[14], window[15]]);
    // Without scaling the first window is all that can ever be said.
    let ours = if held.syn.window_scale.is_some() { ours } else { ours.min(65535) };
    let granted = u32::from(held.syn.window);
    let window = [held.syn.sequence, granted, granted, ours, theirs];
    inet::set_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &words(&window))?;
    tcp(libc::TCP_REPAIR, REPAIR_OFF_NO_PROBE)?;
    Ok(ours)
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

/// Tries the one privilege that everything hangs on, with a socket of the
/// engine's namespace.
pub fn probe(fd: &OwnedFd) -> io::Result<()> {
    inet::set_int(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, 1)?;
    inet::set_int(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, 0)?;
    abort_on_close(fd)
}
