//! What leaves the networks: one thread of netd, in the host's network
//! namespace, that turns packets of containers into sockets of the host.
//!
//! # How TCP leaves
//!
//! A container's SYN reaches its bridge. Routing there calls every address local
//! (`engine_ns`), no socket matches, and the kernel stays silent; a packet socket
//! on the bridge has seen the SYN. We connect upstream with an ordinary socket
//! of the host. What comes of it is what the container is told:
//!
//! ```text
//!   SYN ──▶ connect() ──┬─ connected ──▶ a socket in the destination's place, SYN-ACK ──▶ relay
//!                       ├─ refused ────▶ RST
//!                       ├─ unreachable ▶ ICMP destination unreachable
//!                       └─ timeout ────▶ nothing, as on the wire
//! ```
//!
//! The container's half is a real socket of the engine's namespace, bound to the
//! destination's address; `opening` has the two ways in which it is made. From
//! then on the kernel does TCP on both sides and `relay` splices. No netfilter, no
//! TAP, and nothing is accepted before upstream has accepted.
//!
//! # UDP and ping
//!
//! Datagrams and echo requests are taken from the same packet socket, sent by
//! host sockets (one per pair of addresses, forgotten after a while), and what
//! comes back is sent as frames. Published UDP ports are the same thing begun
//! from the other side.
//!
//! # What is never carried
//!
//! The host's loopback under any of its names, multicast, other networks of
//! this engine, and whatever comes with a source address that is not of the
//! bridge's subnet. 169.254.1.2 is the host's loopback for containers that asked
//! for `host-gateway`.

pub mod host;
pub mod icmp;
pub mod listen;
pub mod opening;
pub mod repair;
pub mod tcp;
pub mod udp;

use crate::error::{Context, Result};
use crate::net::packet::build::{self, Peer, Unreachable};
use crate::net::packet::fragments::{FRAGMENT, Fragments};
use crate::net::packet::{Echo, ICMP, ICMPV6, Mac, Packet, TCP, Tcp, UDP, Udp};
use crate::net::protocol::HOST_GATEWAY;
use crate::net::reactor::{Handler, Reactor, Ready, Registry, Remote, Ticker, Token};
use crate::net::share::{Owner, Table};
use crate::net::stock::Stock;
use crate::net::subnet::{Subnet, is_forbidden};
use crate::sys::inet;
use crate::util::thread;
use opening::Way;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Kinds of tokens, in the bits above a relay's side bit.
pub const KIND: u32 = 58;
const PACKETS: Token = 1 << KIND;
pub const PENDING: Token = 2 << KIND;
pub const RELAY: Token = 3 << KIND;
pub const DATAGRAMS: Token = 4 << KIND;
pub const ECHO: Token = 5 << KIND;
pub const PUBLISHED: Token = 6 << KIND;
pub const OPENING: Token = 7 << KIND;
const HOST: Token = 8 << KIND;
const KEY: u64 = 0x00ff_ffff_ffff_ffff;

/// Frames read in one go before other sockets get their turn.
const BURST: usize = 128;

/// A bridge whose containers may leave.
#[derive(Debug)]
pub struct Uplink {
    pub network: String,
    pub socket: OwnedFd,
    pub mac: Mac,
    pub mtu: usize,
    pub subnets: Vec<Subnet>,
    /// Who says that something is unreachable.
    pub gateways: Vec<IpAddr>,
    /// Nothing leaves; only answers to published ports do.
    pub internal: bool,
}

impl Uplink {
    fn peer(&self, theirs: Mac) -> Peer {
        Peer { ours: self.mac, theirs, mtu: self.mtu }
    }

    /// Frames that do not fit the queue are lost, as on any wire.
    pub fn send(&self, frame: &[u8]) {
        let _ = inet::send(&self.socket, frame);
    }

    /// Tells a container that its packet `original` reached nobody.
    fn unreachable(&self, mac: Mac, to: IpAddr, why: Unreachable, original: &[u8]) {
        if let Some(gateway) = self.gateways.iter().find(|g| g.is_ipv4() == to.is_ipv4()) {
            self.send(&build::unreachable(&self.peer(mac), *gateway, to, why, original));
        }
    }
}

/// Where a packet came from.
#[derive(Debug, Clone, Copy)]
pub struct From {
    pub uplink: u64,
    pub mac: Mac,
}

/// Who sent it, and whose share it takes from.
#[derive(Clone, Copy)]
pub struct Sender<'a> {
    pub from: From,
    pub uplink: &'a Uplink,
    pub owner: &'a Owner,
}

pub struct Outbound {
    pub registry: Registry,
    uplinks: HashMap<u64, Uplink>,
    next_uplink: u64,
    /// Every subnet of the engine, also of networks that nothing leaves.
    ours: Vec<Subnet>,
    /// Containers that asked for the host's loopback.
    host_users: HashSet<IpAddr>,
    /// Whose an address is, with the hardware address that belongs to it.
    owners: HashMap<IpAddr, (Mac, Owner)>,
    /// All who send from an address that is not theirs.
    strangers: Owner,
    pub tcp: tcp::Connections,
    pub udp: udp::Datagrams,
    pub icmp: icmp::Echoes,
    fragments: Fragments,
    /// Says when the host loses an address.
    addresses: Option<OwnedFd>,
    buffer: Vec<u8>,
    sweep: Ticker,
}

/// Starts the thread.
pub fn start(stock: Stock, way: Way, streams: Table) -> Result<Remote<Outbound>> {
    let (reactor, remote) = Reactor::new()?;
    let registry = reactor.registry();
    let state = Outbound {
        registry: registry.clone(),
        uplinks: HashMap::new(),
        next_uplink: 0,
        ours: Vec::new(),
        host_users: HashSet::new(),
        owners: HashMap::new(),
        strangers: Owner::default(),
        tcp: tcp::Connections::new(registry.clone(), way.build(registry.clone(), stock), streams),
        udp: udp::Datagrams::new(registry.clone()),
        icmp: icmp::Echoes::new(registry.clone()),
        fragments: Fragments::default(),
        addresses: watched_addresses(&registry),
        buffer: vec![0; 128 * 1024],
        sweep: Ticker::new(Duration::from_secs(2)),
    };
    let body = move || reactor.run(state);
    thread::start("outbound", 256 * 1024, body).context("start a thread")?;
    Ok(remote)
}

/// Without it datagrams that left from a lost address wait for their flow's end.
fn watched_addresses(registry: &Registry) -> Option<OwnedFd> {
    let watched = host::listen().and_then(|fd| registry.add_reader(&fd, HOST).map(|()| fd));
    watched.map_err(|e| crate::warn!(format!("follow the host's addresses: {e}"))).ok()
}

impl Outbound {
    pub fn add_uplink(&mut self, uplink: Uplink) {
        let number = self.next_uplink;
        self.next_uplink += 1;
        if let Err(e) = self.registry.add_reader(&uplink.socket, PACKETS | number) {
            crate::error!(format!("watch the bridge of network {}: {e}", uplink.network));
            return;
        }
        self.uplinks.insert(number, uplink);
    }

    pub fn remove_uplink(&mut self, network: &str) {
        self.uplinks.retain(|_, u| u.network != network);
    }

    pub fn set_subnets(&mut self, ours: Vec<Subnet>) {
        self.ours = ours;
    }

    /// A container that may reach the host's loopback.
    pub fn allow_host(&mut self, address: IpAddr) {
        self.host_users.insert(address);
    }

    /// A container that counts for what these addresses have open.
    pub fn own(&mut self, addresses: &[IpAddr], mac: Mac, owner: &Owner) {
        self.owners.extend(addresses.iter().map(|a| (*a, (mac, owner.clone()))));
    }

    /// A container is gone: end what it had open.
    pub fn forget(&mut self, address: IpAddr) {
        self.owners.remove(&address);
        self.host_users.remove(&address);
        self.tcp.forget(address);
        self.udp.forget(address);
        self.icmp.forget(address);
    }

    /// Where the host is to send what a container addressed to `destination`:
    /// none if nowhere. Errors mean "tell it that nobody is there".
    fn target(&self, uplink: &Uplink, source: IpAddr, destination: IpAddr) -> Option<Result<IpAddr, ()>> {
        if !uplink.subnets.iter().any(|s| s.contains(source)) || self.ours.iter().any(|s| s.contains(destination)) {
            return None;
        }
        if destination == HOST_GATEWAY {
            let allowed = self.host_users.contains(&source);
            return Some(if allowed { Ok(Ipv4Addr::LOCALHOST.into()) } else { Err(()) });
        }
        if uplink.internal || is_forbidden(destination) {
            return None;
        }
        Some(Ok(destination))
    }

    fn packets(&mut self, number: u64) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..BURST {
            let Some(uplink) = self.uplinks.get(&number) else { break };
            let Ok(n) = inet::receive(&uplink.socket, &mut buffer) else { break };
            let Some(packet) = Packet::parse(&buffer[..n]) else { continue };
            if packet.protocol != FRAGMENT {
                self.packet(number, &packet);
            } else if uplink.subnets.iter().any(|s| s.contains(packet.source))
                && let Some(whole) = self.fragments.add(&buffer[..n], &packet, Instant::now())
                && let Some(packet) = Packet::parse(&whole)
            {
                self.packet(number, &packet);
            }
        }
        self.buffer = buffer;
    }

    fn host_changed(&mut self) {
        let Some(fd) = &self.addresses else { return };
        for address in host::gone(fd, &mut self.buffer) {
            self.udp.host_lost(address);
            self.icmp.host_lost(address);
        }
    }

    fn packet(&mut self, number: u64, packet: &Packet<'_>) {
        let Some(uplink) = self.uplinks.get(&number) else { return };
        let from = From { uplink: number, mac: packet.source_mac };
        let owner = match self.owners.get(&packet.source) {
            Some((mac, owner)) if *mac == from.mac => owner,
            _ => &self.strangers,
        };
        let sender = Sender { from, uplink, owner };
        if packet.protocol == UDP {
            let Some(udp) = Udp::parse(packet.payload, packet.segment.is_some()) else { return };
            let guest = SocketAddr::new(packet.source, udp.source);
            let remote = SocketAddr::new(packet.destination, udp.destination);
            // Answers of published ports come first: their clients may be anybody.
            if self.udp.answer(guest, remote, udp.data, packet.segment) {
                return;
            }
            match self.target(uplink, packet.source, packet.destination) {
                Some(Ok(target)) => self.udp.outgoing(sender, (guest, remote), target, &udp, packet),
                Some(Err(())) => uplink.unreachable(from.mac, packet.source, Unreachable::Port, packet.ip),
                None => {}
            }
            return;
        }
        let Some(target) = self.target(uplink, packet.source, packet.destination) else { return };
        match packet.protocol {
            TCP => {
                if let Some(syn) = Tcp::parse(packet.payload) {
                    self.tcp.syn(sender, packet, &syn, target);
                }
            }
            ICMP | ICMPV6 => {
                if let (Some(echo), Ok(target)) = (Echo::parse(packet.protocol, packet.payload), target) {
                    self.icmp.request(sender, packet, &echo, target);
                }
            }
            _ => {}
        }
    }
}

impl Handler for Outbound {
    fn ready(&mut self, event: Ready) {
        let key = event.token & KEY;
        match event.token >> KIND << KIND {
            PACKETS => self.packets(key),
            PENDING => self.tcp.connected(key, &self.uplinks),
            OPENING => self.tcp.opened(key),
            RELAY => self.tcp.relays.event(event),
            DATAGRAMS => self.udp.incoming(key, &self.uplinks, &mut self.buffer),
            PUBLISHED => self.udp.published(key, &self.uplinks, &self.ours, &mut self.buffer),
            HOST => self.host_changed(),
            ECHO => self.icmp.reply(key, &self.uplinks, &mut self.buffer),
            _ => {}
        }
    }

    fn settle(&mut self) -> Option<Duration> {
        let busy = self.tcp.settle();
        if self.sweep.due() {
            self.udp.sweep();
            self.icmp.sweep();
            self.tcp.sweep();
        }
        if busy {
            return Some(Duration::ZERO);
        }
        let idle = self.udp.is_empty() && self.icmp.is_empty() && self.tcp.none_pending();
        if idle { None } else { Some(self.sweep.left()) }
    }
}
