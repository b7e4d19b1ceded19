//! Requests about interfaces and their addresses. Pure builders, except the
//! queries, which take a socket.

use super::message::{Attributes, Request};
use super::socket::Netlink;
use crate::error::{Error, Result};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_OPERSTATE: u16 = 16;
const OPERSTATE_UP: u8 = 6;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 2;

pub type Mac = [u8; 6];

/// struct ifinfomsg: family, index, and whether to bring it up.
fn ifinfo(family: i32, index: u32, up: bool) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = family as u8;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        let flag = (libc::IFF_UP as u32).to_ne_bytes();
        bytes[8..12].copy_from_slice(&flag);
        bytes[12..16].copy_from_slice(&flag);
    }
    bytes
}

/// A bridge, up, with no spanning tree and no multicast snooping (snooping
/// without a querier on the wire loses neighbour discovery).
pub fn create_bridge(name: &str, mac: Mac, mtu: u32) -> Request {
    Request::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .body(&ifinfo(0, 0, true))
        .attr_str(IFLA_IFNAME, name)
        .attr(IFLA_ADDRESS, &mac)
        .attr_u32(IFLA_MTU, mtu)
        .nest(IFLA_LINKINFO, |r| {
            r.attr(IFLA_INFO_KIND, b"bridge").nest(IFLA_INFO_DATA, |r| r.attr_u8(IFLA_BR_MCAST_SNOOPING, 0))
        })
}

/// The far end of a veth pair: born in the container's namespace, down (a veth
/// cannot be up before it has its peer, which is made last).
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    pub name: &'a str,
    pub mac: Mac,
    pub namespace: BorrowedFd<'a>,
}

/// A veth pair in one request: our end up and on the bridge, the peer inside.
pub fn create_veth(name: &str, bridge: u32, mtu: u32, peer: Peer<'_>) -> Request {
    Request::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .body(&ifinfo(0, 0, true))
        .attr_str(IFLA_IFNAME, name)
        .attr_u32(IFLA_MASTER, bridge)
        .attr_u32(IFLA_MTU, mtu)
        .nest(IFLA_LINKINFO, |r| {
            r.attr(IFLA_INFO_KIND, b"veth").nest(IFLA_INFO_DATA, |r| {
                r.nest(VETH_INFO_PEER, |r| {
                    r.body(&ifinfo(0, 0, false))
                        .attr_str(IFLA_IFNAME, peer.name)
                        .attr(IFLA_ADDRESS, &peer.mac)
                        .attr_u32(IFLA_MTU, mtu)
                        .attr_u32(IFLA_NET_NS_FD, peer.namespace.as_raw_fd() as u32)
                })
            })
        })
}

/// A veth pair with both ends here and up.
pub fn create_wire(names: [&str; 2], macs: [Mac; 2]) -> Request {
    Request::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .body(&ifinfo(0, 0, true))
        .attr_str(IFLA_IFNAME, names[0])
        .attr(IFLA_ADDRESS, &macs[0])
        .nest(IFLA_LINKINFO, |r| {
            r.attr(IFLA_INFO_KIND, b"veth").nest(IFLA_INFO_DATA, |r| {
                r.nest(VETH_INFO_PEER, |r| {
                    r.body(&ifinfo(0, 0, false)).attr_str(IFLA_IFNAME, names[1]).attr(IFLA_ADDRESS, &macs[1])
                })
            })
        })
}

pub fn delete(index: u32) -> Request {
    Request::new(libc::RTM_DELLINK, 0).body(&ifinfo(0, index, false))
}

pub fn set_up(index: u32) -> Request {
    Request::new(libc::RTM_NEWLINK, 0).body(&ifinfo(0, index, true))
}

/// A bridge port that reaches the bridge but no other isolated port (icc=false).
pub fn isolate(index: u32) -> Request {
    Request::new(libc::RTM_SETLINK, 0)
        .body(&ifinfo(libc::AF_BRIDGE, index, false))
        .nest(IFLA_PROTINFO, |r| r.attr_u8(IFLA_BRPORT_ISOLATED, 1))
}

/// An address, usable at once (no duplicate address detection: IPAM is the only
/// one who hands them out).
pub fn add_address(index: u32, address: IpAddr, prefix: u8) -> Request {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut body = [0; 8];
    body[0] = family as u8;
    body[1] = prefix;
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    let request = Request::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE)
        .body(&body)
        .attr_address(IFA_LOCAL, address)
        .attr_address(IFA_ADDRESS, address)
        .attr_u32(IFA_FLAGS, IFA_F_NODAD);
    match address {
        IpAddr::V4(a) if prefix < 31 => {
            let broadcast = u32::from(a) | (u32::MAX >> prefix);
            request.attr_address(IFA_BROADCAST, std::net::Ipv4Addr::from(broadcast).into())
        }
        _ => request,
    }
}

pub fn delete_address(index: u32, address: IpAddr, prefix: u8) -> Request {
    let mut body = [0; 8];
    body[0] = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
    body[1] = prefix;
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    Request::new(libc::RTM_DELADDR, 0).body(&body).attr_address(IFA_LOCAL, address)
}

/// What we want to know about an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: Mac,
    /// Frames pass (RFC 2863's "up").
    pub operational: bool,
}

fn decode(payload: &[u8]) -> Option<Link> {
    let index = u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    let attributes = Attributes(payload.get(16..)?);
    let name = attributes.find(IFLA_IFNAME)?;
    let name = String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(name)).into_owned();
    let mac = attributes.find(IFLA_ADDRESS).and_then(|a| a.first_chunk()).copied().unwrap_or_default();
    let operational = attributes.find(IFLA_OPERSTATE) == Some(&[OPERSTATE_UP]);
    Some(Link { index, name, mac, operational })
}

/// The interface of this name.
pub fn find(netlink: &mut Netlink, name: &str) -> Result<Link> {
    let mut found = None;
    let request = Request::new(libc::RTM_GETLINK, 0).body(&ifinfo(0, 0, false)).attr_str(IFLA_IFNAME, name);
    netlink
        .query(request, |_, payload| found = decode(payload))
        .map_err(|e| e.context(format!("look up interface {name}")))?;
    found.ok_or_else(|| Error::system(format!("look up interface {name}: the kernel gave no answer")))
}

/// Waits until frames pass. The kernel tells the bridge of a new carrier from a
/// work queue, some time; a frame before that is lost, and the next ARP request
/// is a second away. Since Linux 6.14 asking has the queue run first.
pub fn await_operational(netlink: &mut Netlink, name: &str) -> Result<()> {
    for _ in 0..100 {
        if find(netlink, name)?.operational {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
    Ok(())
}

pub fn list(netlink: &mut Netlink) -> Result<Vec<Link>> {
    let mut all = Vec::new();
    let request = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP).body(&ifinfo(0, 0, false));
    netlink.query(request, |_, payload| all.extend(decode(payload))).map_err(|e| e.context("list interfaces"))?;
    Ok(all)
}
