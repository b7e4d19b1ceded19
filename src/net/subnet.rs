//! An address with a prefix length, and which addresses nobody behind us may
//! reach through the host. Pure.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network: host bits are zero unless it was parsed with [`Subnet::parse_host`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Subnet {
    pub address: IpAddr,
    pub prefix: u8,
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address as a number; families must not be mixed by the caller.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

pub fn from_number(number: u128, v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::from(number as u32).into() } else { Ipv6Addr::from(number).into() }
}

impl Subnet {
    /// None if the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= width(address)).then(|| Self { address, prefix }.masked())
    }

    /// "10.0.0.5/24" with its host bits kept.
    pub fn parse_host(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix = prefix.bytes().all(|b| b.is_ascii_digit()).then(|| prefix.parse().ok()).flatten()?;
        (prefix <= width(address)).then_some(Self { address, prefix })
    }

    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// How many addresses it has, less one.
    fn span(&self) -> u128 {
        let bits = u32::from(width(self.address) - self.prefix);
        if bits == 128 { u128::MAX } else { (1 << bits) - 1 }
    }

    pub fn masked(self) -> Self {
        let start = number(self.address) & !self.span();
        Self { address: from_number(start, self.is_ipv4()), prefix: self.prefix }
    }

    pub fn first(&self) -> u128 {
        number(self.address) & !self.span()
    }

    pub fn last(&self) -> u128 {
        self.first() | self.span()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && (self.first()..=self.last()).contains(&number(address))
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_ipv4() == other.is_ipv4() && self.first() <= other.last() && other.first() <= self.last()
    }

    /// Every address of `other` is in `self`.
    pub fn covers(&self, other: &Self) -> bool {
        self.is_ipv4() == other.is_ipv4() && self.first() <= other.first() && other.last() <= self.last()
    }

    /// The n-th address from the start, if it is inside.
    pub fn nth(&self, n: u128) -> Option<IpAddr> {
        let at = self.first().checked_add(n)?;
        (at <= self.last()).then(|| from_number(at, self.is_ipv4()))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse_host(text).map(Self::masked).ok_or_else(|| format!("invalid CIDR {text}"))
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

/// Addresses that mean "this machine" or "everybody" to the host's kernel.
/// Nothing from a container may be carried there: the host's loopback is not
/// part of the network, and 0.0.0.0 is another name for it.
pub fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            a.is_loopback() || a.is_multicast() || a.is_broadcast() || a.octets()[0] == 0 || a.octets()[0] >= 240
        }
        IpAddr::V6(a) => {
            let link_local = a.segments()[0] & 0xffc0 == 0xfe80;
            let hidden = a.to_ipv4().map(IpAddr::V4).is_some_and(is_forbidden);
            a.is_loopback() || a.is_multicast() || a.is_unspecified() || link_local || hidden
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_of_a_subnet() {
        let s: Subnet = "172.17.5.9/16".parse().unwrap();
        assert_eq!(s.to_string(), "172.17.0.0/16");
        assert_eq!(s.nth(1).unwrap().to_string(), "172.17.0.1");
        assert_eq!(s.nth(65536), None);
        assert!(s.contains("172.17.255.255".parse().unwrap()) && !s.contains("172.18.0.0".parse().unwrap()));
        assert!(!s.contains("::1".parse().unwrap()));
        assert!(s.overlaps(&"172.17.3.0/24".parse().unwrap()) && !s.overlaps(&"172.16.0.0/16".parse().unwrap()));
        assert_eq!(Subnet::parse_host("10.0.0.5/24").unwrap().to_string(), "10.0.0.5/24");
        assert_eq!(Subnet::parse_host("::/0").unwrap().last(), u128::MAX);
        for bad in ["", "x", "1.2.3.4", "1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/+1", "::/129", "1.2.3/8"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_hosts_loopback_has_many_names() {
        for a in [
            "127.0.0.1", "0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1", "::1", "::", "::ffff:127.0.0.1",
            "::127.0.0.1", "fe80::1", "ff02::1",
        ] {
            assert!(is_forbidden(a.parse().unwrap()), "{a}");
        }
        for a in ["10.0.0.1", "169.254.169.254", "8.8.8.8", "2001:db8::1", "fd00::1"] {
            assert!(!is_forbidden(a.parse().unwrap()), "{a}");
        }
    }
}
