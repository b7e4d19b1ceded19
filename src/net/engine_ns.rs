//! The engine's own network namespace: bridges, one end of every veth, and the
//! routing policy that lets our sockets stand for every address of the world.
//! Made by netd at its start; used by netd's control thread.
//!
//! Routing of what comes from a bridge: our own addresses as usual (table
//! local); TCP to anywhere is local too, so that sockets bound to foreign
//! addresses get their segments; all else is dropped without a word, because the
//! packet socket on the bridge has already seen it. Nothing is ever forwarded:
//! that is what isolates networks from each other.

use crate::error::{Context, Result};
use crate::net::netlink::link::{self, Link};
use crate::net::netlink::route::{self, Rule};
use crate::net::netlink::{Netlink, Request};
use crate::net::ns::{self, Agent};
use crate::net::packet::{TCP, filter};
use crate::net::protocol::NetworkSpec;
use crate::sys::inet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

const TABLE_LOCAL_EVERYTHING: u32 = 100;
const TABLE_DROP: u32 = 101;
/// Mark of sockets that speak for foreign addresses. A segment for which there
/// is no socket would be answered with a reset that carries no mark.
pub const MARK: i32 = 0x0c0a;
/// Congestion control where both ends are sockets of this kernel: nothing is lost
/// between them and the peer's window says it all. The host's choice may be one
/// that paces (BBR): a timer per segment, half of the throughput. This one is in
/// every kernel and free to every namespace.
pub const CONGESTION: &str = "reno";
const LOOPBACK: u32 = 1;
const ETH_P_ALL: u16 = 3;

#[derive(Debug)]
pub struct EngineNs {
    pub agent: Agent,
    pub netlink: Netlink,
    /// Keeps the namespace.
    _namespace: OwnedFd,
}

impl EngineNs {
    pub fn new() -> Result<Self> {
        let (agent, namespace) = Agent::fresh("engine-ns")?;
        let mut netlink = agent.run(|| {
            settle();
            Netlink::open()
        })??;
        routing(&mut netlink)?;
        Ok(Self { agent, netlink, _namespace: namespace })
    }

    /// Makes the bridge, or finds it.
    pub fn bridge(&mut self, spec: &NetworkSpec) -> Result<Link> {
        if let Ok(link) = link::find(&mut self.netlink, &spec.bridge) {
            return Ok(link);
        }
        let wants_v6 = spec.pools.iter().any(|p| !p.subnet.is_ipv4());
        let create = link::create_bridge(&spec.bridge, random_mac(), spec.mtu);
        self.netlink.send(create).with_context(|| format!("create bridge {}", spec.bridge))?;
        let name = spec.bridge.clone();
        self.agent.run(move || {
            let _ = ns::sysctl(&format!("net.ipv6.conf.{name}.disable_ipv6"), if wants_v6 { "0" } else { "1" });
        })?;
        let link = link::find(&mut self.netlink, &spec.bridge)?;
        let mut requests = Vec::new();
        for pool in &spec.pools {
            if let Some(gateway) = pool.gateway {
                requests.push(link::add_address(link.index, gateway, pool.subnet.prefix));
            } else {
                requests.push(route::add_on_link(pool.subnet.address, pool.subnet.prefix, link.index));
            }
        }
        if let Err(e) = self.netlink.send_all(requests) {
            let _ = self.netlink.send(link::delete(link.index));
            return Err(e).with_context(|| format!("set up bridge {}", spec.bridge));
        }
        for gateway in spec.pools.iter().filter_map(|p| p.gateway).filter(IpAddr::is_ipv6) {
            route::await_local(&mut self.netlink, gateway);
        }
        Ok(link)
    }

    /// A packet socket that hears what a bridge hears and speaks as the bridge.
    pub fn packet_socket(&self, interface: u32) -> Result<OwnedFd> {
        self.agent.run(move || open_packet_socket(interface))?.context("open a packet socket")
    }
}

fn open_packet_socket(interface: u32) -> std::io::Result<OwnedFd> {
    // Protocol 0 until it is set up: nothing may queue up unfiltered.
    let fd = inet::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    inet::attach_filter(&fd, filter::PROGRAM)?;
    inet::set_int(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
    const PACKET_IGNORE_OUTGOING: i32 = 23;
    inet::set_int(&fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
    // Room for a burst of datagrams; the kernel cuts it to rmem_max.
    let _ = inet::set_int(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, 4 << 20);
    let _ = inet::set_int(&fd, libc::SOL_SOCKET, libc::SO_SNDBUF, 4 << 20);
    inet::bind_packet(&fd, interface, ETH_P_ALL)?;
    // A fanout group of one has IPv4 fragments put together by the kernel.
    const PACKET_FANOUT_FLAG_DEFRAG: u32 = 0x8000;
    let group = (interface & 0xffff) | PACKET_FANOUT_FLAG_DEFRAG << 16;
    let _ = inet::set_int(&fd, libc::SOL_PACKET, libc::PACKET_FANOUT, group as i32);
    Ok(fd)
}

/// A packet socket that hears nothing and whose frames leave by `interface`.
pub fn open_speaking_socket(interface: u32) -> std::io::Result<OwnedFd> {
    let fd = inet::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    inet::set_int(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
    inet::bind_packet(&fd, interface, 0)?;
    Ok(fd)
}

/// Settings of the fresh namespace; each is missing on some kernel.
fn settle() {
    for (name, value) in [
        // With bridge netfilter, bridged packets would take a detour through
        // the host's idea of iptables.
        ("net.bridge.bridge-nf-call-iptables", "0"),
        ("net.bridge.bridge-nf-call-ip6tables", "0"),
        ("net.bridge.bridge-nf-call-arptables", "0"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
        // A socket here that waits in TIME_WAIT would hold the four-tuple of a
        // stranger's connection; the veth loses and reorders nothing.
        ("net.ipv4.tcp_max_tw_buckets", "0"),
        ("net.ipv6.conf.default.accept_dad", "0"),
        ("net.ipv6.conf.default.accept_ra", "0"),
        ("net.ipv4.icmp_ratelimit", "0"),
        ("net.ipv4.tcp_congestion_control", CONGESTION),
    ] {
        let _ = ns::sysctl(name, value);
    }
}

fn routing(netlink: &mut Netlink) -> Result<()> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        let result = netlink.send_all(policy(family));
        match result {
            Ok(()) => {}
            // No IPv6 in this kernel.
            Err(_) if family == libc::AF_INET6 => {}
            // No policy routing in this kernel: one table has to do.
            Err(_) => netlink
                .send(route::local_everything(family, u32::from(libc::RT_TABLE_MAIN), LOOPBACK))
                .context("set up routing of the engine's network namespace")?,
        }
    }
    Ok(())
}

fn policy(family: i32) -> Vec<Request> {
    let own = Rule { priority: 10, table: Some(u32::from(libc::RT_TABLE_MAIN)), input: Some("lo"), ..Rule::default() };
    let tcp = Rule { priority: 20, table: Some(TABLE_LOCAL_EVERYTHING), protocol: Some(TCP), ..Rule::default() };
    let rest = Rule { priority: 21, table: Some(TABLE_DROP), ..Rule::default() };
    let mut requests = vec![
        route::local_everything(family, TABLE_LOCAL_EVERYTHING, LOOPBACK),
        route::blackhole_everything(family, TABLE_DROP, LOOPBACK),
    ];
    // IPv4 does not answer from an address that is not its own unless a socket
    // is allowed to; IPv6 does: there only marked segments may leave.
    if family == libc::AF_INET6 {
        requests.push(
            Rule {
                priority: 8,
                table: Some(u32::from(libc::RT_TABLE_MAIN)),
                input: Some("lo"),
                mark: Some(MARK as u32),
                ..Rule::default()
            }
            .add(family),
        );
        let silence = Rule { priority: 9, input: Some("lo"), protocol: Some(TCP), ..Rule::default() };
        requests.push(silence.add(family));
    }
    requests.extend([own.add(family), tcp.add(family), rest.add(family)]);
    requests
}

/// Locally administered, unicast.
pub fn random_mac() -> link::Mac {
    let mut mac = [0; 6];
    crate::util::id::fill(&mut mac);
    mac[0] = mac[0] & 0xfc | 2;
    mac
}

/// "02:42:ac:11:00:02", any case.
pub fn parse_mac(text: &str) -> Option<link::Mac> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

pub fn format_mac(mac: &link::Mac) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// The gateway of `family` among a network's pools.
pub fn gateway(spec: &NetworkSpec, v4: bool) -> Option<(IpAddr, u8)> {
    let pool = spec.pools.iter().find(|p| p.subnet.is_ipv4() == v4)?;
    Some((pool.gateway?, pool.subnet.prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses() {
        let mac = parse_mac("02:42:AC:11:00:0f").unwrap();
        assert_eq!(format_mac(&mac), "02:42:ac:11:00:0f");
        for bad in ["", "02:42:ac:11:00", "02:42:ac:11:00:0f:1", "2:42:ac:11:00:0f", "02:42:ac:11:00:+f"] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
        assert_eq!(random_mac()[0] & 3, 2);
    }
}
