//! Datagrams: one host socket per pair of addresses for what containers begin,
//! one host socket per published port for what others begin.

use super::{DATAGRAMS, From, PUBLISHED, Sender, Uplink};
use crate::error::{Error, Result};
use crate::net::packet::build::{self, Unreachable};
use crate::net::packet::{ETHERNET, Mac, Packet, Udp, VNET};
use crate::net::protocol::HOST_GATEWAY;
use crate::net::reactor::{Key, Registry, Slab};
use crate::net::share::{Kind, Owner, Place, Table};
use crate::net::subnet::Subnet;
use crate::sys::inet;
use crate::util::order;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// No answer yet.
const ONE_WAY: Duration = Duration::from_secs(60);
const BOTH_WAYS: Duration = Duration::from_secs(180);
/// A name server has answered: that was it.
const DNS: Duration = Duration::from_secs(10);
const BURST: usize = 64;

/// (container, the other end as the container calls it)
type Pair = (SocketAddr, SocketAddr);

struct Flow {
    fd: OwnedFd,
    from: From,
    pair: Pair,
    last: Instant,
    answered: bool,
    place: Place,
}

impl Flow {
    fn patience(&self) -> Duration {
        match (self.answered, self.pair.1.port()) {
            (true, 53) => DNS,
            (true, _) => BOTH_WAYS,
            (false, _) => ONE_WAY,
        }
    }
}

/// A published port.
#[derive(Debug)]
pub struct Port {
    pub fd: OwnedFd,
    pub network: String,
    /// The container's address and port.
    pub inside: SocketAddr,
    pub mac: Mac,
    /// Who stands for clients whose own address cannot be shown.
    pub gateway: Option<IpAddr>,
    /// To be found again when it is withdrawn.
    pub container: String,
    /// Whose share its clients take from.
    pub owner: Owner,
}

struct Session {
    port: Key,
    client: SocketAddr,
    /// The host's address that the client knows; answers come from there.
    local: Option<IpAddr>,
    last: Instant,
    place: Place,
}

pub struct Datagrams {
    registry: Registry,
    flows: Slab<Flow>,
    by_pair: HashMap<Pair, Key>,
    ports: Slab<Port>,
    /// By (container, client as the container sees it).
    sessions: HashMap<Pair, Session>,
    places: Table,
    clients: Table,
    next_id: u32,
}

impl Datagrams {
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            flows: Slab::default(),
            by_pair: HashMap::new(),
            ports: Slab::default(),
            sessions: HashMap::new(),
            places: Table::new(Kind::Datagrams),
            clients: Table::new(Kind::Clients),
            next_id: 1,
        }
    }

    pub fn len(&self) -> usize {
        self.flows.len() + self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A container's datagram to the outside.
    pub fn outgoing(&mut self, sender: Sender<'_>, pair: Pair, target: IpAddr, udp: &Udp<'_>, packet: &Packet<'_>) {
        let Sender { from, uplink, .. } = sender;
        let key = match self.by_pair.get(&pair) {
            Some(key) => *key,
            None => match self.begin(sender, pair, target) {
                Ok(key) => key,
                Err(_) => return uplink.unreachable(from.mac, pair.0.ip(), Unreachable::Host, packet.ip),
            },
        };
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.last = Instant::now();
        flow.from = from;
        let size = packet.segment.unwrap_or(udp.data.len()).max(1);
        let mut pieces = udp.data.chunks(size);
        // An empty datagram is a datagram.
        let first = pieces.next().unwrap_or_default();
        let refused = send_error(inet::send(&flow.fd, first));
        for piece in pieces {
            let _ = inet::send(&flow.fd, piece);
        }
        if let Some(why) = refused {
            uplink.unreachable(from.mac, pair.0.ip(), why, packet.ip);
        }
    }

    fn begin(&mut self, sender: Sender<'_>, pair: Pair, target: IpAddr) -> Result<Key> {
        let Sender { from, owner, .. } = sender;
        let place = self.places.take(owner).or_else(|| {
            self.evict(owner);
            self.places.take(owner)
        });
        let place = place.ok_or_else(|| Error::unavailable("no room for another flow"))?;
        let target = SocketAddr::new(target, pair.1.port());
        let fd = inet::socket(inet::domain_of(&target), libc::SOCK_DGRAM, 0)?;
        inet::connect(&fd, &target)?;
        let key = self.flows.next_key();
        self.registry.add_reader(&fd, DATAGRAMS | key)?;
        self.flows.insert(Flow { fd, from, pair, last: Instant::now(), answered: false, place });
        self.by_pair.insert(pair, key);
        Ok(key)
    }

    /// Makes room for an owner among its own: the quarter that was idle longest goes.
    fn evict(&mut self, owner: &Owner) {
        let mut ages: Vec<(Instant, Key)> = Vec::new();
        for key in self.flows.keys() {
            ages.extend(self.flows.get_mut(key).filter(|f| f.place.owner.is(owner)).map(|f| (f.last, key)));
        }
        order::sort(&mut ages);
        let quarter = ages.len().div_ceil(4);
        for (_, key) in ages.into_iter().take(quarter) {
            self.end(key);
        }
    }

    fn end(&mut self, key: Key) {
        if let Some(flow) = self.flows.remove(key) {
            self.by_pair.remove(&flow.pair);
        }
    }

    /// A host socket of a flow has something.
    pub fn incoming(&mut self, key: Key, uplinks: &HashMap<u64, Uplink>, buffer: &mut [u8]) {
        for _ in 0..BURST {
            let Some(flow) = self.flows.get_mut(key) else { return };
            let Some(uplink) = uplinks.get(&flow.from.uplink) else { return };
            let peer = uplink.peer(flow.from.mac);
            match inet::receive(&flow.fd, buffer) {
                Ok(n) => {
                    flow.last = Instant::now();
                    flow.answered = true;
                    self.next_id = self.next_id.wrapping_add(1);
                    for frame in build::udp(&peer, flow.pair.1, flow.pair.0, &buffer[..n], self.next_id) {
                        uplink.send(&frame);
                    }
                }
                Err(e) => {
                    if let Some(why) = send_error(Err(e)) {
                        let original = quote(&peer, flow.pair);
                        uplink.unreachable(flow.from.mac, flow.pair.0.ip(), why, &original);
                    }
                    return;
                }
            }
        }
    }

    pub fn publish(&mut self, port: Port) -> Result<()> {
        let key = self.ports.next_key();
        self.registry.add_reader(&port.fd, PUBLISHED | key)?;
        self.ports.insert(port);
        Ok(())
    }

    pub fn withdraw(&mut self, container: &str) {
        for key in self.ports.keys() {
            if self.ports.get_mut(key).is_some_and(|p| p.container == container) {
                if let Some(port) = self.ports.remove(key) {
                    // Closing is not enough where the socket is kept open for the next container.
                    self.registry.remove(&port.fd);
                }
                self.sessions.retain(|_, s| s.port != key);
            }
        }
    }

    /// A client's datagram on a published port.
    pub fn published(&mut self, key: Key, uplinks: &HashMap<u64, Uplink>, ours: &[Subnet], buffer: &mut [u8]) {
        for _ in 0..BURST {
            let Some(port) = self.ports.get_mut(key) else { return };
            let Ok((n, client, local)) = inet::receive_local(&port.fd, buffer) else { return };
            let Some(uplink) = uplinks.values().find(|u| u.network == port.network) else { continue };
            let Some(shown) = shown_as(client, port, ours) else { continue };
            let pair = (port.inside, shown);
            let place = match self.sessions.remove(&pair) {
                Some(session) => Some(session.place),
                None => self.clients.take(&port.owner),
            };
            let Some(place) = place else { continue };
            self.sessions.insert(pair, Session { port: key, client, local, last: Instant::now(), place });
            self.next_id = self.next_id.wrapping_add(1);
            let peer = uplink.peer(port.mac);
            for frame in build::udp(&peer, shown, port.inside, &buffer[..n], self.next_id) {
                uplink.send(&frame);
            }
        }
    }

    /// A container's datagram, if it answers one that came by a published port.
    pub fn answer(&mut self, guest: SocketAddr, client: SocketAddr, data: &[u8], segment: Option<usize>) -> bool {
        let Some(session) = self.sessions.get_mut(&(guest, client)) else { return false };
        let Some(port) = self.ports.get_mut(session.port) else { return false };
        session.last = Instant::now();
        let send = |piece: &[u8]| match session.local {
            Some(local) => inet::send_from(&port.fd, piece, &session.client, local),
            None => inet::send_to(&port.fd, piece, &session.client),
        };
        let size = segment.unwrap_or(data.len()).max(1);
        let mut pieces = data.chunks(size);
        let _ = send(pieces.next().unwrap_or_default());
        for piece in pieces {
            let _ = send(piece);
        }
        true
    }

    pub fn forget(&mut self, address: IpAddr) {
        self.end_where(|f| f.pair.0.ip() == address);
        self.sessions.retain(|(guest, _), _| guest.ip() != address);
    }

    /// The host has this address no more: what left from it begins anew.
    pub fn host_lost(&mut self, address: IpAddr) {
        self.end_where(|f| inet::local_address(&f.fd).is_ok_and(|a| a.ip() == address));
    }

    pub fn sweep(&mut self) {
        self.end_where(|f| f.last.elapsed() > f.patience());
        self.sessions.retain(|_, s| s.last.elapsed() <= BOTH_WAYS);
    }

    fn end_where(&mut self, over: impl Fn(&Flow) -> bool) {
        for key in self.flows.keys() {
            if self.flows.get_mut(key).is_some_and(|f| over(f)) {
                self.end(key);
            }
        }
    }
}

/// The source address that a container sees for a client: its own, unless that
/// means something else to the container (loopback, one of our networks) or is
/// of another family.
fn shown_as(client: SocketAddr, port: &Port, ours: &[Subnet]) -> Option<SocketAddr> {
    let same_family = client.is_ipv4() == port.inside.is_ipv4();
    let ip = client.ip();
    if same_family && !ip.is_loopback() && !ours.iter().any(|s| s.contains(ip)) {
        return Some(client);
    }
    // Not the bridge's own address: the kernel would answer for it.
    let stand_in = if port.inside.is_ipv4() { Some(HOST_GATEWAY) } else { port.gateway };
    Some(SocketAddr::new(stand_in?, client.port()))
}

fn send_error(result: std::io::Result<usize>) -> Option<Unreachable> {
    match result.err()?.raw_os_error()? {
        libc::ECONNREFUSED => Some(Unreachable::Port),
        libc::ENETUNREACH => Some(Unreachable::Network),
        libc::EHOSTUNREACH | libc::EHOSTDOWN => Some(Unreachable::Host),
        libc::EACCES | libc::EPERM => Some(Unreachable::Prohibited),
        _ => None,
    }
}

/// The headers of a datagram that the container once sent.
fn quote(peer: &build::Peer, pair: Pair) -> Vec<u8> {
    let frames = build::udp(peer, pair.0, pair.1, &[], 0);
    frames.first().and_then(|f| f.get(VNET + ETHERNET..)).unwrap_or_default().to_vec()
}
