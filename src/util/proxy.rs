//! Whether a proxy of the environment is meant for a host, by Go's rules. Pure.

use std::net::IpAddr;

/// A host and its port, if it has one; brackets of an IPv6 address are taken off.
pub fn split_host(authority: &str) -> (&str, Option<u16>) {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').unwrap_or((rest, ""));
        return (host, rest.strip_prefix(':').and_then(|p| p.parse().ok()));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

/// Whether `ip` lies in `range` (CIDR).
pub fn in_range(range: &str, ip: IpAddr) -> bool {
    let Some((net, bits)) = range.split_once('/') else { return false };
    let Ok(bits) = bits.parse::<u32>() else { return false };
    match (net.parse::<IpAddr>(), ip) {
        (Ok(IpAddr::V4(net)), IpAddr::V4(ip)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(net) & mask == u32::from(ip) & mask
        }
        (Ok(IpAddr::V6(net)), IpAddr::V6(ip)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            u128::from(net) & mask == u128::from(ip) & mask
        }
        _ => false,
    }
}

/// Loopback is never proxied; an entry of NO_PROXY is `*`, an address, a range, or a
/// domain that also covers its subdomains (a leading dot: the subdomains only), each
/// with an optional port.
pub fn bypassed(no_proxy: &str, host: &str, port: u16) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let ip = host.parse::<IpAddr>().ok();
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    no_proxy.split(',').map(str::trim).filter(|e| !e.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let (Some(ip), true) = (ip, entry.contains('/')) {
            return in_range(entry, ip);
        }
        let (name, wanted) = split_host(entry);
        if wanted.is_some_and(|p| p != port) {
            return false;
        }
        let name = name.to_ascii_lowercase();
        match name.trim_start_matches('*').strip_prefix('.') {
            Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
            None => host == name || host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.') && ip.is_none()),
        }
    })
}
