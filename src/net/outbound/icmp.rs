//! Ping: echo requests of containers, sent by the host's unprivileged ping
//! sockets where `net.ipv4.ping_group_range` allows them. Where it does not, a
//! request vanishes, as behind many a firewall; `Status::ping` says so.

use super::{ECHO, From, Sender, Uplink};
use crate::error::{Error, Result};
use crate::net::packet::{Echo, Packet, build};
use crate::net::reactor::{Key, Registry, Slab};
use crate::net::share::{Kind, Place, Table};
use crate::sys::inet;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// Container, destination as it calls it, identifier.
type Id = (IpAddr, IpAddr, u16);

struct Flow {
    fd: OwnedFd,
    from: From,
    id: Id,
    last: Instant,
    place: Place,
}

pub struct Echoes {
    registry: Registry,
    flows: Slab<Flow>,
    by_id: HashMap<Id, Key>,
    places: Table,
    next_id: u32,
}

fn open(v4: bool) -> std::io::Result<OwnedFd> {
    match v4 {
        true => inet::socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
        false => inet::socket(libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6),
    }
}

/// Whether the host lets us ping.
pub fn allowed() -> bool {
    open(true).is_ok()
}

impl Echoes {
    pub fn new(registry: Registry) -> Self {
        let places = Table::new(Kind::Pings);
        Self { registry, flows: Slab::default(), by_id: HashMap::new(), places, next_id: 1 }
    }

    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    pub fn request(&mut self, sender: Sender<'_>, packet: &Packet<'_>, echo: &Echo<'_>, target: IpAddr) {
        let id = (packet.source, packet.destination, echo.identifier);
        let key = match self.by_id.get(&id) {
            Some(key) => *key,
            None => match self.begin(sender, id, target) {
                Ok(key) => key,
                Err(_) => return,
            },
        };
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.last = Instant::now();
        // The kernel puts its own identifier and checksum in.
        let mut message = vec![if target.is_ipv4() { 8 } else { 128 }, 0, 0, 0, 0, 0];
        message.extend_from_slice(&echo.sequence.to_be_bytes());
        message.extend_from_slice(echo.data);
        let _ = inet::send(&flow.fd, &message);
    }

    fn begin(&mut self, sender: Sender<'_>, id: Id, target: IpAddr) -> Result<Key> {
        let Sender { from, owner, .. } = sender;
        let place = self.places.take(owner).or_else(|| {
            self.end_where(|f| f.place.owner.is(owner));
            self.places.take(owner)
        });
        let place = place.ok_or_else(|| Error::unavailable("no room for another ping"))?;
        let fd = open(target.is_ipv4())?;
        inet::connect(&fd, &SocketAddr::new(target, 0))?;
        let key = self.flows.next_key();
        self.registry.add_reader(&fd, ECHO | key)?;
        self.flows.insert(Flow { fd, from, id, last: Instant::now(), place });
        self.by_id.insert(id, key);
        Ok(key)
    }

    /// An answer came to the host.
    pub fn reply(&mut self, key: Key, uplinks: &HashMap<u64, Uplink>, buffer: &mut [u8]) {
        while let Some(flow) = self.flows.get_mut(key) {
            let Ok(n) = inet::receive(&flow.fd, buffer) else { return };
            let (Some(uplink), Some(message)) = (uplinks.get(&flow.from.uplink), buffer[..n].get(..)) else { return };
            let (guest, remote, identifier) = flow.id;
            if let [0 | 129, 0, _, _, _, _, high, low, data @ ..] = message {
                let sequence = u16::from_be_bytes([*high, *low]);
                let peer = uplink.peer(flow.from.mac);
                self.next_id = self.next_id.wrapping_add(1);
                for frame in build::echo_reply(&peer, remote, guest, (identifier, sequence), data, self.next_id) {
                    uplink.send(&frame);
                }
            }
        }
    }

    pub fn forget(&mut self, address: IpAddr) {
        self.end_where(|f| f.id.0 == address);
    }

    /// The host has this address no more.
    pub fn host_lost(&mut self, address: IpAddr) {
        self.end_where(|f| inet::local_address(&f.fd).is_ok_and(|a| a.ip() == address));
    }

    pub fn sweep(&mut self) {
        self.end_where(|f| f.last.elapsed() >= PATIENCE);
    }

    fn end_where(&mut self, over: impl Fn(&Flow) -> bool) {
        for key in self.flows.keys() {
            if self.flows.get_mut(key).is_some_and(|f| over(f))
                && let Some(flow) = self.flows.remove(key)
            {
                self.by_id.remove(&flow.id);
            }
        }
    }
}
