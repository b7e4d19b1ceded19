//! Second way of [`Opening`], where TCP_REPAIR is refused: once upstream has
//! accepted, a listener is bound to the destination's own address and the held
//! SYN is received a second time, from a veth pair of our own. The kernel does
//! the handshake, and nobody waits for the container's next try.
//!
//! ```text
//!   SYN from the bridge ──▶ held      upstream accepted ──▶ bind, listen, SYN through the wire
//!                                                             │
//!   container ◀── SYN-ACK of the kernel ◀── listener ◀────────┘ (wire0 ─▶ wire1)
//!   container ──▶ ACK by the bridge ──▶ listener ──▶ accept ──▶ relay; the last one out closes
//! ```
//!
//! Several containers may be on their way to one destination, and only some of
//! their upstreams may have accepted. So the listener's filter takes a SYN only
//! from the wire: what comes straight from a bridge finds nobody, as before.
//! Nothing is accepted here that upstream has not accepted.

use super::opening::{Held, Opened, Opening, Pair};
use super::{OPENING, Uplink};
use crate::error::{Context, Result};
use crate::net::engine_ns::{self, EngineNs};
use crate::net::netlink::link;
use crate::net::ns;
use crate::net::packet::build::{self, Peer, Segment};
use crate::net::packet::filter;
use crate::net::reactor::{Key, Registry, Slab};
use crate::net::relay::abort_on_close;
use crate::net::stock::Stock;
use crate::sys::inet;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Of the engine's namespace; frames go in at the first and come out at the second.
const NAMES: [&str; 2] = ["wire0", "wire1"];
/// Handshakes of one destination at once. What does not fit is sent again.
const BACKLOG: i32 = 1024;

/// A veth pair whose one end we speak into and whose other end the kernel hears.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    peer: Peer,
    /// The hearing end.
    interface: u32,
}

impl Wire {
    /// Makes it, and tries what else this way needs.
    pub fn open(ns: &mut EngineNs) -> Result<Self> {
        let macs = [engine_ns::random_mac(), engine_ns::random_mac()];
        ns.netlink.send(link::create_wire(NAMES, macs)).context("create a veth pair")?;
        let [speaks, hears] = NAMES.map(|name| link::find(&mut ns.netlink, name));
        let (speaks, hears) = (speaks?, hears?);
        ns.netlink.send(link::set_up(hears.index)).context("bring a veth pair up")?;
        let interface = hears.index;
        let socket = ns.agent.run(move || {
            let _ = ns::sysctl(&format!("net.ipv6.conf.{}.disable_ipv6", NAMES[1]), "0");
            let listener = crate::net::stock::transparent(true)?;
            inet::attach_filter(&listener, &filter::syn_only_from(interface))?;
            inet::bind(&listener, &SocketAddr::from(([192, 0, 2, 1], 1)))?;
            inet::listen(&listener, 1)?;
            engine_ns::open_speaking_socket(speaks.index)
        })?;
        let socket = socket.context("listen in the place of a foreign address")?;
        Ok(Self { socket, peer: Peer { ours: macs[0], theirs: macs[1], mtu: 1500 }, interface })
    }
}

struct Listener {
    fd: OwnedFd,
    destination: SocketAddr,
    /// Containers whose handshake is under way.
    awaited: HashSet<SocketAddr>,
}

pub struct Listen {
    registry: Registry,
    stock: Stock,
    wire: Wire,
    listeners: Slab<Listener>,
    by_destination: HashMap<SocketAddr, Key>,
}

impl Listen {
    pub fn new(registry: Registry, stock: Stock, wire: Wire) -> Self {
        Self { registry, stock, wire, listeners: Slab::default(), by_destination: HashMap::new() }
    }

    fn listener(&mut self, destination: SocketAddr) -> Result<&mut Listener> {
        let key = match self.by_destination.get(&destination) {
            Some(key) => *key,
            None => {
                let fd = self.stock.take(destination.is_ipv4())?;
                inet::attach_filter(&fd, &filter::syn_only_from(self.wire.interface))?;
                inet::bind(&fd, &destination).with_context(|| format!("stand for {destination}"))?;
                inet::listen(&fd, BACKLOG).with_context(|| format!("stand for {destination}"))?;
                self.registry.add_reader(&fd, OPENING | self.listeners.next_key())?;
                let key = self.listeners.insert(Listener { fd, destination, awaited: HashSet::new() });
                self.by_destination.insert(destination, key);
                key
            }
        };
        self.listeners.get_mut(key).ok_or_else(|| crate::error::Error::system("a listener is not where it was put"))
    }

    fn close_if_done(&mut self, key: Key) {
        if let Some(listener) = self.listeners.get_mut(key)
            && listener.awaited.is_empty()
        {
            self.by_destination.remove(&listener.destination);
            self.listeners.remove(key);
        }
    }
}

impl Opening for Listen {
    fn open(&mut self, _: &Uplink, held: &Held) -> Result<Opened> {
        self.listener(held.pair.1)?.awaited.insert(held.pair.0);
        self.again(held);
        Ok(Opened::Soon)
    }

    fn again(&mut self, held: &Held) {
        let syn = Segment {
            sequence: held.syn.sequence,
            acknowledgement: 0,
            flags: held.syn.flags,
            window: held.syn.window,
            options: &held.options,
        };
        let _ = inet::send(&self.wire.socket, &build::tcp(&self.wire.peer, held.pair.0, held.pair.1, &syn));
    }

    fn ready(&mut self, key: Key) -> Vec<(Pair, OwnedFd)> {
        let mut halves = Vec::new();
        while let Some(listener) = self.listeners.get_mut(key) {
            let Ok((half, from)) = inet::accept(&listener.fd) else { break };
            if listener.awaited.remove(&from) {
                // Inherited; a look at each segment that is of no use any more.
                let _ = inet::set_int(&half, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0);
                halves.push(((from, listener.destination), half));
            } else {
                let _ = abort_on_close(&half);
            }
        }
        self.close_if_done(key);
        halves
    }

    fn give_up(&mut self, pair: &Pair) {
        if let Some(key) = self.by_destination.get(&pair.1).copied()
            && let Some(listener) = self.listeners.get_mut(key)
        {
            listener.awaited.remove(&pair.0);
            self.close_if_done(key);
        }
    }
}
