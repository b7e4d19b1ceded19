//! Joining and leaving a network while running, and the checks of what an
//! endpoint may ask for.

use super::allocate::{endpoint_spec, settings};
use super::{Record, Wanted, publish};
use crate::api::network::{EndpointSettings, NetworkInspect};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::net::subnet::Subnet;
use std::net::IpAddr;

/// Adds a running container to a network; returns the filled-in settings for
/// its record. Emits `network connect`.
pub fn connect_running(
    engine: &Engine,
    wanted: &Wanted,
    network: &Record,
    asked: &EndpointSettings,
) -> Result<EndpointSettings> {
    check_drivers(wanted, network)?;
    let spec = endpoint_spec(wanted, network, asked)?;
    let state = engine.networks.netd.connect_endpoint(&wanted.id, spec)?;
    let filled = settings(asked, network, &state);
    if let Some(sandbox) = engine.networks.live().get_mut(&wanted.id) {
        sandbox.endpoints.push(state);
    }
    publish(engine, network, "connect", Some(&wanted.id));
    Ok(filled)
}

/// Takes a running container out of a network. Emits `network disconnect`.
pub fn disconnect_running(engine: &Engine, container: &str, network: &NetworkInspect) -> Result<()> {
    engine.networks.netd.disconnect(container, &network.id)?;
    if let Some(sandbox) = engine.networks.live().get_mut(container) {
        sandbox.endpoints.retain(|e| e.network != network.id);
    }
    publish(engine, network, "disconnect", Some(container));
    Ok(())
}

/// Host and none do not mix with anything.
pub fn check_drivers(wanted: &Wanted, network: &NetworkInspect) -> Result<()> {
    let mode = wanted.mode.as_str();
    if mode.starts_with("container:") || mode == "host" {
        return Err(Error::forbidden(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ));
    }
    match network.driver.as_str() {
        "host" => Err(Error::forbidden(
            "cannot connect container to host network - container must be created in host network mode",
        )),
        "null" => Err(Error::forbidden(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        )),
        _ if mode == "none" => Err(Error::forbidden(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        )),
        _ => Ok(()),
    }
}

/// Static addresses fit a network that has a subnet of the user's choice; all
/// complaints in Docker's words.
pub fn check_addresses(network: &Record, settings: &EndpointSettings) -> Result<()> {
    let asked = settings.ipam_config.clone().unwrap_or_default();
    let mut complaints = Vec::new();
    for (text, v4) in [(&asked.ipv4_address, true), (&asked.ipv6_address, false)] {
        if text.is_empty() {
            continue;
        }
        let name = if v4 { "IPv4" } else { "IPv6" };
        let own = if v4 { network.own_subnet_v4 } else { network.own_subnet_v6 };
        match text.parse::<IpAddr>() {
            Ok(a) if a.is_ipv4() == v4 => {
                let subnets = network.ipam.config.iter().flatten().filter_map(|c| c.subnet.parse::<Subnet>().ok());
                if own && !subnets.into_iter().any(|s| s.contains(a)) {
                    complaints.push(format!("no configured subnet contains IP address {text}"));
                }
            }
            _ => complaints.push(format!("invalid {name} address: {text}")),
        }
        if network.name == "bridge" {
            complaints.push("user specified IP address is supported on user defined networks only".into());
        } else if !own {
            complaints.push(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
                    .into(),
            );
        }
    }
    if network.name == "bridge" && settings.aliases.iter().flatten().next().is_some() {
        complaints.push("network-scoped aliases are only supported for user-defined networks".into());
    }
    if !settings.mac_address.is_empty() && crate::net::engine_ns::parse_mac(&settings.mac_address).is_none() {
        complaints.push(format!("invalid MAC address: {}", settings.mac_address));
    }
    if complaints.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = complaints.iter().map(|c| format!("* {c}")).collect();
    let name = &network.name;
    Err(Error::invalid(format!("invalid config for network {name}: invalid endpoint settings:\n{}", list.join("\n"))))
}
