//! Subnets for networks: checking what was asked, choosing what was not. Pure.

use crate::api::network::{Ipam, IpamConfig};
use crate::error::{Error, Result};
use crate::net::subnet::Subnet;
use std::net::IpAddr;

fn family(v4: bool) -> u8 {
    if v4 { 4 } else { 6 }
}

/// Docker's checks of a create request's IPAM, all complaints in one.
pub fn validate(ipam: &Ipam, enable_ipv6: bool) -> Result<()> {
    let mut complaints = Vec::new();
    for config in ipam.config.iter().flatten() {
        let Some(raw) = Subnet::parse_host(&config.subnet) else {
            complaints.push(format!("invalid subnet {}: invalid CIDR block notation", config.subnet));
            continue;
        };
        if !raw.is_ipv4() && !enable_ipv6 {
            continue;
        }
        let subnet = raw.masked();
        if raw != subnet {
            complaints.push(format!("invalid subnet {raw}: it should be {subnet}"));
        }
        complaints.extend(check_range(&config.ip_range, &subnet));
        if let Some(why) = check_address(&config.gateway, &subnet) {
            complaints.push(format!("invalid gateway {}: {why}", config.gateway));
        }
        for (name, address) in config.auxiliary_addresses.iter().flatten() {
            if let Some(why) = check_address(address, &subnet) {
                complaints.push(format!("invalid auxiliary address {name}: {why}"));
            }
        }
    }
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(Error::invalid(format!("invalid network config:\n{}", complaints.join("\n")))),
    }
}

fn check_range(range: &str, subnet: &Subnet) -> Vec<String> {
    if range.is_empty() {
        return Vec::new();
    }
    let Some(raw) = Subnet::parse_host(range) else {
        return vec![format!("invalid ip-range {range}: invalid CIDR block notation")];
    };
    if raw.is_ipv4() != subnet.is_ipv4() {
        return vec![format!("invalid ip-range {range}: parent subnet is an IPv{} block", family(subnet.is_ipv4()))];
    }
    let mut complaints = Vec::new();
    if raw.prefix < subnet.prefix {
        complaints.push(format!("invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}"));
    }
    if raw != raw.masked() {
        complaints.push(format!("invalid ip-range {range}: it should be {}", raw.masked()));
    }
    if !subnet.overlaps(&raw) {
        complaints.push(format!("invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"));
    }
    complaints
}

fn check_address(address: &str, subnet: &Subnet) -> Option<String> {
    if address.is_empty() {
        return None;
    }
    let Ok(ip) = address.parse::<IpAddr>() else { return Some("invalid address".into()) };
    if ip.is_ipv4() != subnet.is_ipv4() {
        return Some(format!("parent subnet is an IPv{} block", family(subnet.is_ipv4())));
    }
    if !subnet.contains(ip) {
        return Some(format!("parent subnet {subnet} doesn't contain this address"));
    }
    None
}

/// The default pools in Docker's order: (base, prefix length of each network).
pub fn default_pools() -> Vec<(Subnet, u8)> {
    let mut pools: Vec<(String, u8)> = (17..32).map(|n| (format!("172.{n}.0.0/16"), 16)).collect();
    pools.push(("192.168.0.0/16".into(), 20));
    pools.iter().filter_map(|(base, size)| Some((base.parse().ok()?, *size))).collect()
}

/// The first subnet of the pools that overlaps nothing in `used`.
pub fn choose(pools: &[(Subnet, u8)], used: &[Subnet]) -> Result<Subnet> {
    for (base, size) in pools {
        let count = 1u128 << size.saturating_sub(base.prefix).min(24);
        let step = 1u128 << (if base.is_ipv4() { 32 } else { 128 } - u32::from(*size)).min(127);
        for n in 0..count {
            let Some(candidate) = base.nth(n * step).and_then(|a| Subnet::new(a, *size)) else { break };
            if !used.iter().any(|u| u.overlaps(&candidate)) {
                return Ok(candidate);
            }
        }
    }
    Err(Error::forbidden("all predefined address pools have been fully subnetted"))
}

/// A /64 of a random unique local /48 (RFC 4193).
pub fn choose_v6(used: &[Subnet]) -> Result<Subnet> {
    for _ in 0..16 {
        let mut bytes = [0; 16];
        crate::util::id::fill(&mut bytes[1..6]);
        bytes[0] = 0xfd;
        let candidate = Subnet::new(std::net::Ipv6Addr::from(bytes).into(), 64);
        if let Some(candidate) = candidate.filter(|c| !used.iter().any(|u| u.overlaps(c))) {
            return Ok(candidate);
        }
    }
    Err(Error::forbidden("no free IPv6 subnet was found"))
}

/// Docker's text for two networks that want the same addresses.
pub fn check_overlap(wanted: &Subnet, used: &[Subnet]) -> Result<()> {
    match used.iter().any(|u| u.overlaps(wanted)) {
        true => Err(Error::forbidden("invalid pool request: Pool overlaps with other one on this address space")),
        false => Ok(()),
    }
}

/// A config with its gateway filled in: the first address of the range or subnet.
pub fn complete(mut config: IpamConfig, subnet: &Subnet) -> IpamConfig {
    config.subnet = subnet.to_string();
    if config.gateway.is_empty() {
        let taken: Vec<&String> = config.auxiliary_addresses.iter().flatten().map(|(_, a)| a).collect();
        let free = (1..=256).filter_map(|n| subnet.nth(n)).find(|a| !taken.iter().any(|t| **t == a.to_string()));
        config.gateway = free.or_else(|| subnet.nth(0)).map(|a| a.to_string()).unwrap_or_default();
    }
    config
}

/// Subnets that the host has routes to: a container's network over one of them
/// would hide it from the container.
pub fn host_routes() -> Vec<Subnet> {
    let text = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    text.lines().skip(1).filter_map(parse_route).filter(|s| s.prefix > 0).collect()
}

fn parse_route(line: &str) -> Option<Subnet> {
    let mut words = line.split_ascii_whitespace();
    let number = |word: Option<&str>| Some(u32::from_be(u32::from_str_radix(word?, 16).ok()?));
    let destination = number(words.nth(1))?;
    let mask = number(words.nth(5))?;
    Subnet::new(std::net::Ipv4Addr::from(destination).into(), mask.leading_ones() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipam(subnet: &str, range: &str, gateway: &str) -> Ipam {
        let config = IpamConfig {
            subnet: subnet.into(),
            ip_range: range.into(),
            gateway: gateway.into(),
            ..IpamConfig::default()
        };
        Ipam { config: Some(vec![config]), ..Ipam::default() }
    }

    #[test]
    fn complaints_in_dockers_words() {
        let text = |i: Ipam| validate(&i, true).map_err(|e| e.message().to_owned()).unwrap_err();
        assert_eq!(
            text(ipam("nonsense", "", "")),
            "invalid network config:\ninvalid subnet nonsense: invalid CIDR block notation"
        );
        assert_eq!(
            text(ipam("10.0.0.5/24", "", "")),
            "invalid network config:\ninvalid subnet 10.0.0.5/24: it should be 10.0.0.0/24"
        );
        assert!(
            text(ipam("10.0.0.0/24", "10.0.1.0/24", ""))
                .ends_with("parent subnet 10.0.0.0/24 doesn't contain ip-range")
        );
        assert!(
            text(ipam("10.0.0.0/24", "10.0.0.0/16", ""))
                .contains("CIDR block is bigger than its parent subnet 10.0.0.0/24")
        );
        assert!(text(ipam("10.0.0.0/24", "", "10.0.1.1")).ends_with("doesn't contain this address"));
        assert!(text(ipam("10.0.0.0/24", "", "::1")).ends_with("parent subnet is an IPv4 block"));
        assert!(validate(&ipam("fd00::/64", "junk", "junk"), false).is_ok());
        assert!(validate(&ipam("10.0.0.0/24", "10.0.0.128/25", "10.0.0.129"), false).is_ok());
    }

    #[test]
    fn pools_in_order() {
        let pools = default_pools();
        let mut used = Vec::new();
        let mut given = Vec::new();
        while let Ok(subnet) = choose(&pools, &used) {
            used.push(subnet);
            given.push(subnet.to_string());
        }
        assert_eq!(given.len(), 15 + 16);
        assert_eq!(
            (given[0].as_str(), given[14].as_str(), given[15].as_str()),
            ("172.17.0.0/16", "172.31.0.0/16", "192.168.0.0/20")
        );
        assert_eq!(given[30], "192.168.240.0/20");
        assert!(choose_v6(&[]).unwrap().to_string().starts_with("fd"));
    }

    #[test]
    fn routes_of_the_host() {
        let line = "eth0\t0011AC0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
        assert_eq!(parse_route(line).unwrap().to_string(), "10.172.17.0/24");
        assert_eq!(parse_route("Iface Destination"), None);
    }

    #[test]
    fn the_gateway_is_the_first_free_one() {
        let subnet = "10.0.0.0/24".parse().unwrap();
        let mut config = IpamConfig::default();
        assert_eq!(complete(config.clone(), &subnet).gateway, "10.0.0.1");
        config.auxiliary_addresses = Some([("a".to_owned(), "10.0.0.1".to_owned())].into());
        assert_eq!(complete(config, &subnet).gateway, "10.0.0.2");
    }
}
