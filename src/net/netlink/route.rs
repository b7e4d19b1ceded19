//! Requests about routes and policy rules. Pure builders, except the one that waits.

use super::message::Request;
use super::socket::Netlink;
use std::net::IpAddr;
use std::time::Duration;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_IP_PROTO: u16 = 22;
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_BLACKHOLE: u8 = 6;
const RTPROT_BOOT: u8 = 3;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_HOST: u8 = 254;

/// struct rtmsg
fn rtmsg(family: i32, prefix: u8, scope: u8, kind: u8) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[0] = family as u8;
    bytes[1] = prefix;
    bytes[4] = libc::RT_TABLE_UNSPEC;
    bytes[5] = RTPROT_BOOT;
    bytes[6] = scope;
    bytes[7] = kind;
    bytes
}

const ADD: i32 = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;

fn family_of(address: IpAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

pub fn add_default(gateway: IpAddr, interface: u32) -> Request {
    Request::new(libc::RTM_NEWROUTE, ADD)
        .body(&rtmsg(family_of(gateway), 0, SCOPE_UNIVERSE, libc::RTN_UNICAST))
        .attr_u32(RTA_TABLE, u32::from(libc::RT_TABLE_MAIN))
        .attr_address(RTA_GATEWAY, gateway)
        .attr_u32(RTA_OIF, interface)
}

pub fn delete_default(family: i32) -> Request {
    Request::new(libc::RTM_DELROUTE, 0)
        .body(&rtmsg(family, 0, SCOPE_UNIVERSE, libc::RTN_UNICAST))
        .attr_u32(RTA_TABLE, u32::from(libc::RT_TABLE_MAIN))
}

/// AnyIP: every address is ours (`local default dev lo`).
pub fn local_everything(family: i32, table: u32, loopback: u32) -> Request {
    Request::new(libc::RTM_NEWROUTE, ADD)
        .body(&rtmsg(family, 0, SCOPE_HOST, libc::RTN_LOCAL))
        .attr_u32(RTA_TABLE, table)
        .attr_u32(RTA_OIF, loopback)
}

/// Everything is dropped without a word.
pub fn blackhole_everything(family: i32, table: u32, loopback: u32) -> Request {
    let request = Request::new(libc::RTM_NEWROUTE, ADD)
        .body(&rtmsg(family, 0, SCOPE_UNIVERSE, libc::RTN_BLACKHOLE))
        .attr_u32(RTA_TABLE, table);
    if family == libc::AF_INET6 { request.attr_u32(RTA_OIF, loopback) } else { request }
}

/// A route to a host or network straight out of an interface.
pub fn add_on_link(destination: IpAddr, prefix: u8, interface: u32) -> Request {
    Request::new(libc::RTM_NEWROUTE, ADD)
        .body(&rtmsg(family_of(destination), prefix, SCOPE_UNIVERSE, libc::RTN_UNICAST))
        .attr_u32(RTA_TABLE, u32::from(libc::RT_TABLE_MAIN))
        .attr_address(RTA_DST, destination)
        .attr_u32(RTA_OIF, interface)
}

/// Waits until what is sent to an address of this namespace arrives. For a new one of
/// IPv6 the kernel adds the way, and listens for neighbours that look for it, from a
/// work queue; on a busy machine that takes its time, and datagrams before it are lost.
pub fn await_local(netlink: &mut Netlink, address: IpAddr) {
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    for _ in 0..4000 {
        let mut kind = None;
        let request = Request::new(libc::RTM_GETROUTE, 0)
            .body(&rtmsg(family_of(address), prefix, SCOPE_UNIVERSE, 0))
            .attr_address(RTA_DST, address);
        // An error is no way at all.
        let _ = netlink.query(request, |_, payload| kind = payload.get(7).copied());
        if kind == Some(libc::RTN_LOCAL) {
            return;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    crate::warn!(format!("the kernel has not taken {address} into use yet"));
}

/// What a policy rule selects and does. `table` none = drop.
#[derive(Debug, Clone, Default)]
pub struct Rule<'a> {
    pub priority: u32,
    pub table: Option<u32>,
    pub input: Option<&'a str>,
    pub protocol: Option<u8>,
    pub mark: Option<u32>,
    pub source: Option<(IpAddr, u8)>,
    pub destination: Option<(IpAddr, u8)>,
}

impl Rule<'_> {
    fn request(&self, kind: u16, flags: i32, family: i32) -> Request {
        let mut header = [0; 12];
        header[0] = family as u8;
        header[1] = self.destination.map_or(0, |d| d.1);
        header[2] = self.source.map_or(0, |s| s.1);
        header[7] = if self.table.is_some() { FR_ACT_TO_TBL } else { FR_ACT_BLACKHOLE };
        let mut request = Request::new(kind, flags).body(&header).attr_u32(FRA_PRIORITY, self.priority);
        if let Some(table) = self.table {
            request = request.attr_u32(FRA_TABLE, table);
        }
        if let Some(input) = self.input {
            request = request.attr_str(FRA_IIFNAME, input);
        }
        if let Some(protocol) = self.protocol {
            request = request.attr_u8(FRA_IP_PROTO, protocol);
        }
        if let Some(mark) = self.mark {
            request = request.attr_u32(FRA_FWMARK, mark).attr_u32(FRA_FWMASK, u32::MAX);
        }
        if let Some((source, _)) = self.source {
            request = request.attr_address(FRA_SRC, source);
        }
        if let Some((destination, _)) = self.destination {
            request = request.attr_address(FRA_DST, destination);
        }
        request
    }

    pub fn add(&self, family: i32) -> Request {
        self.request(libc::RTM_NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, family)
    }
}
