//! `--network` in its plain and its `name=…,alias=…` form, joined with the flags
//! that speak of the first network (`--ip`, `--network-alias`, …).

use crate::api::network::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};
use crate::cli::container::run::Run;
use crate::cli::flags::list::csv;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// One network to connect to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    pub target: String,
    aliases: Vec<String>,
    links: Vec<String>,
    ipv4: String,
    ipv6: String,
    mac: String,
    link_local: Vec<String>,
    driver_opts: BTreeMap<String, String>,
    gw_priority: i64,
}

pub struct Networking {
    pub mode: String,
    pub config: NetworkingConfig,
}

/// Whether the value is in the long form: some `word=word` stands in it.
fn is_long(value: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    value.match_indices('=').any(|(at, _)| value[..at].ends_with(word) && value[at + 1..].starts_with(word))
}

pub fn parse(value: &str) -> Result<Attachment, String> {
    if !is_long(value) {
        return Ok(Attachment { target: value.to_owned(), ..Attachment::default() });
    }
    let mut one = Attachment::default();
    for field in csv(value)? {
        let (key, text) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        let text = text.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => one.target = text.to_owned(),
            "alias" => one.aliases.push(text.to_owned()),
            "ip" => one.ipv4 = text.to_owned(),
            "ip6" => one.ipv6 = text.to_owned(),
            "mac-address" => one.mac = text.to_owned(),
            "link-local-ip" => one.link_local.push(text.to_owned()),
            "driver-opt" => {
                let (name, option) = text
                    .split_once('=')
                    .filter(|(n, _)| !n.is_empty())
                    .ok_or("invalid key value pair format in driver options")?;
                one.driver_opts.insert(name.to_ascii_lowercase(), option.to_ascii_lowercase());
            }
            "gw-priority" => {
                one.gw_priority = text.parse().map_err(|_| format!("invalid gw-priority ({text}): invalid syntax"))?;
            }
            key => return Err(format!("invalid field key {key}")),
        }
    }
    if one.target.is_empty() {
        return Err("network name/id is not specified".into());
    }
    Ok(one)
}

fn is_user_defined(target: &str) -> bool {
    !matches!(target, "default" | "bridge" | "host" | "none") && !target.starts_with("container:")
}

/// The network mode and the endpoints of a create request.
pub fn config(run: &Run) -> Result<Networking> {
    let given = run.network.iter().map(|n| parse(n)).collect::<Result<Vec<_>, _>>().map_err(Error::invalid)?;
    let explicit = !given.is_empty();
    let mut networks = given;
    if !explicit {
        networks.push(Attachment { target: "default".into(), ..Attachment::default() });
    }
    if networks.iter().any(|n| is_user_defined(&n.target)) && networks.iter().any(|n| !is_user_defined(&n.target)) {
        let text = "conflicting options: cannot attach both user-defined and non-user-defined network-modes";
        return Err(Error::invalid(text));
    }
    let mut endpoints = BTreeMap::new();
    let many = networks.len() > 1;
    let mode = networks[0].target.clone();
    for (n, mut one) in networks.into_iter().enumerate() {
        if n == 0 {
            join(run, &mut one)?;
        }
        if one.target.trim().is_empty() {
            return Err(Error::invalid("no name set for network"));
        }
        if !is_user_defined(&one.target) && !one.aliases.is_empty() {
            let text = "network-scoped aliases are only supported for user-defined networks";
            return Err(Error::invalid(text));
        }
        if endpoints.contains_key(&one.target) {
            return Err(Error::invalid(format!("network \"{}\" is specified multiple times", one.target)));
        }
        let plain = Attachment { target: one.target.clone(), ..Attachment::default() } == one;
        if !explicit || many || !plain {
            if !one.mac.is_empty() {
                check_mac(&one.mac)?;
            }
            endpoints.insert(one.target.clone(), Some(endpoint(one)));
        }
    }
    Ok(Networking { mode, config: NetworkingConfig { endpoints_config: Some(endpoints) } })
}

/// Adds what the flags beside `--network` say of the first network.
fn join(run: &Run, one: &mut Attachment) -> Result<()> {
    let clash = |flag: &str, what: &str| {
        Err(Error::invalid(format!("conflicting options: cannot specify both --{flag} and per-network {what}")))
    };
    if !run.network_alias.is_empty() {
        if !one.aliases.is_empty() {
            return clash("network-alias", "alias");
        }
        one.aliases.clone_from(&run.network_alias);
    }
    if !run.link.is_empty() && is_user_defined(&one.target) {
        one.links.clone_from(&run.link);
    }
    let singles = [
        (&run.ip, &mut one.ipv4, "ip", "IPv4 address"),
        (&run.ip6, &mut one.ipv6, "ip6", "IPv6 address"),
        (&run.mac_address, &mut one.mac, "mac-address", "MAC address"),
    ];
    for (flag, slot, name, what) in singles {
        if let Some(value) = flag.as_deref().filter(|v| !v.is_empty()) {
            if !slot.is_empty() {
                return clash(name, what);
            }
            value.clone_into(slot);
        }
    }
    if !run.link_local_ip.is_empty() {
        if !one.link_local.is_empty() {
            return clash("link-local-ip", "link-local IP addresses");
        }
        one.link_local.clone_from(&run.link_local_ip);
    }
    Ok(())
}

fn endpoint(one: Attachment) -> EndpointSettings {
    let addressed = !(one.ipv4.is_empty() && one.ipv6.is_empty() && one.link_local.is_empty());
    EndpointSettings {
        ipam_config: addressed.then_some(EndpointIpamConfig {
            ipv4_address: one.ipv4,
            ipv6_address: one.ipv6,
            link_local_ips: one.link_local,
        }),
        links: super::some(one.links),
        aliases: super::some(one.aliases),
        mac_address: one.mac,
        driver_opts: (!one.driver_opts.is_empty()).then_some(one.driver_opts),
        gw_priority: one.gw_priority,
        ..EndpointSettings::default()
    }
}

/// Six pairs of hex digits by colons or dashes, or three groups of four by dots.
pub fn check_mac(mac: &str) -> Result<()> {
    let hex = |part: &str, n: usize| part.len() == n && part.bytes().all(|b| b.is_ascii_hexdigit());
    let groups = |separator: char, n: usize| {
        let parts: Vec<&str> = mac.trim().split(separator).collect();
        parts.iter().all(|p| hex(p, n)) && matches!(parts.len() * n, 12 | 16 | 40)
    };
    if groups(':', 2) || groups('-', 2) || groups('.', 4) {
        return Ok(());
    }
    Err(Error::invalid(format!("{mac} is not a valid mac address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(parse("foo").unwrap().target, "foo");
        let n = parse("name=foo,alias=a,alias=b,ip=1.2.3.4,driver-opt=a=b,gw-priority=5").unwrap();
        assert_eq!((n.target.as_str(), n.aliases.len(), n.gw_priority), ("foo", 2, 5));
        assert_eq!(parse("alias=z").unwrap_err(), "network name/id is not specified");
        assert_eq!(parse("name=x,foo=z").unwrap_err(), "invalid field key foo");
        assert!(check_mac("92:d0:c6:0a:29:33").is_ok() && check_mac("x").is_err());
    }
}
