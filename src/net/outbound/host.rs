//! Changes of the host's own addresses, as the kernel announces them: a socket
//! that left from an address which is gone speaks for nobody. Datagrams begin
//! anew then; streams end by their own timeouts, as behind any router.

use crate::error::{Context, Result};
use crate::net::netlink::message::{Attributes, Messages};
use crate::sys::inet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

const GROUP_IPV4_ADDRESSES: i32 = 5;
const GROUP_IPV6_ADDRESSES: i32 = 9;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// struct ifaddrmsg
const HEADER: usize = 8;

/// Hears what happens to addresses of the calling thread's network namespace.
pub fn listen() -> Result<OwnedFd> {
    let fd = inet::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE).context("open a netlink socket")?;
    inet::bind_netlink(&fd).context("bind a netlink socket")?;
    for group in [GROUP_IPV4_ADDRESSES, GROUP_IPV6_ADDRESSES] {
        inet::set_int(&fd, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group).context("hear of addresses")?;
    }
    Ok(fd)
}

/// Addresses that are gone since the last call.
pub fn gone(fd: &OwnedFd, buffer: &mut [u8]) -> Vec<IpAddr> {
    let mut all = Vec::new();
    while let Ok(n) = inet::receive(fd, buffer) {
        for message in Messages(&buffer[..n]).filter(|m| m.kind == libc::RTM_DELADDR) {
            all.extend(address(message.payload));
        }
    }
    all
}

fn address(payload: &[u8]) -> Option<IpAddr> {
    let attributes = Attributes(payload.get(HEADER..)?);
    let bytes = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?;
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}
