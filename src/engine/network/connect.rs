//! Joining and leaving a network while running, and the checks of what an
//! endpoint may ask for.

use super::allocate::{endpoint_spec, settings};
use super::{Record, Wanted, files, publish};
use crate::api::network::{EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest, NetworkInspect};
use crate::engine::Engine;
use crate::engine::container::{Container, start};
use crate::error::{Error, Kind, Result};
use crate::net::subnet::Subnet;
use crate::util::atomic_file::Durability;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// `docker network connect`
pub fn connect(engine: &Engine, reference: &str, request: NetworkConnectRequest) -> Result<()> {
    let container = engine.containers.get(&request.container)?;
    let network = engine.networks.find(reference)?;
    let asked = request.endpoint_config.unwrap_or_default();
    let _turn = container.turn();
    let record = container.record();
    refuse_removed(&container)?;
    let wanted = start::wanted(engine, &record)?;
    check_drivers(&wanted, &network)?;
    if network.config_only {
        return Err(Error::forbidden("cannot create endpoint on configuration-only network"));
    }
    let aliases = "network-scoped alias is supported only for containers in user defined networks";
    complaints(&network, &asked, aliases)
        .map_err(|list| Error::invalid(format!("invalid endpoint settings:\n{list}")))?;
    let up = record.state.is_up();
    if up && record.networks.contains_key(&network.name) {
        let (name, network) = (&record.name, &network.name);
        return Err(Error::forbidden(format!("endpoint with name {name} already exists in network {network}")));
    }
    let (settings, ports) = match up {
        true => {
            let settings = connect_running(engine, &wanted, &network, &asked)?;
            enter_files(&container, &wanted, &network, &settings);
            (settings, engine.networks.ports_now(&wanted))
        }
        false => (asked.clone(), None),
    };
    {
        let mut live = container.live();
        if !asked.mac_address.is_empty() {
            live.record.asked_macs.insert(network.name.clone(), asked.mac_address.clone());
        }
        live.record.networks.insert(network.name.clone(), settings);
        if let Some(ports) = ports {
            live.record.ports = ports;
        }
    }
    container.save(engine, Durability::Synced)
}

/// `docker network disconnect`
pub fn disconnect(engine: &Engine, reference: &str, request: &NetworkDisconnectRequest) -> Result<()> {
    let network = engine.networks.find(reference)?;
    let container = match engine.containers.get(&request.container) {
        Err(e) if request.force && e.kind() == Kind::NotFound => {
            let stale = engine.networks.endpoints_of(&network.id);
            let stale = stale.into_iter().find(|(_, name)| *name == request.container).ok_or(e)?;
            return disconnect_running(engine, &stale.0, &network);
        }
        other => other?,
    };
    let _turn = container.turn();
    refuse_removed(&container)?;
    let record = container.record();
    let Some(settings) = record.networks.get(&network.name) else {
        let (id, name) = (&container.id, &network.name);
        let the = if record.state.is_up() { "" } else { "the " };
        return Err(Error::system(format!("container {id} is not connected to {the}network {name}")));
    };
    if record.host_config.network_mode == "host" || network.driver == "host" {
        return Err(Error::conflict("container cannot be disconnected from host network or connected to host network"));
    }
    let mut ports = None;
    if record.state.is_up() {
        disconnect_running(engine, &container.id, &network)?;
        let gone = [&settings.ip_address, &settings.global_ipv6_address];
        files::edit(&container.dir.join("hosts"), |text| {
            let ours = |line: &str| gone.iter().any(|a| !a.is_empty() && line.split('\t').next() == Some(a));
            text.lines().filter(|l| !ours(l)).flat_map(|l| [l, "\n"]).collect()
        });
        ports = engine.networks.ports_now(&start::wanted(engine, &record)?);
    }
    {
        let mut live = container.live();
        if let Some(ports) = ports {
            live.record.ports = ports;
        }
        live.record.networks.remove(&network.name);
        live.record.asked_macs.remove(&network.name);
    }
    container.save(engine, Durability::Synced)
}

fn refuse_removed(container: &Container) -> Result<()> {
    let live = container.live();
    match live.removed || live.record.state.removing {
        true => Err(Error::forbidden(format!(
            "container {} is marked for removal and cannot be connected or disconnected",
            container.id
        ))),
        false => Ok(()),
    }
}

/// The names of a new place in /etc/hosts; the embedded server in resolv.conf.
fn enter_files(container: &Container, wanted: &Wanted, network: &Record, settings: &EndpointSettings) {
    let addresses = [&settings.ip_address, &settings.global_ipv6_address];
    let lines: String =
        addresses.iter().filter(|a| !a.is_empty()).map(|a| format!("{a}\t{}\n", wanted.hostname)).collect();
    files::edit(&container.dir.join("hosts"), |text| text + &lines);
    if network.name != "bridge" {
        let embedded = files::resolv_conf(wanted, true);
        files::edit(
            &container.dir.join("resolv.conf"),
            |text| {
                if text.contains(files::EMBEDDED) { text } else { embedded }
            },
        );
    }
}

/// What can be refused when a container is created: networks that do not exist
/// yet are a matter of its start.
pub fn check_create(engine: &Engine, endpoints: &BTreeMap<String, EndpointSettings>) -> Result<()> {
    for (name, settings) in endpoints {
        if let Ok(network) = engine.networks.find(name) {
            check_addresses(&network, settings)?;
        }
    }
    Ok(())
}

/// Adds a running container to a network; returns the filled-in settings for
/// its record. Emits `network connect`.
fn connect_running(
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
fn disconnect_running(engine: &Engine, container: &str, network: &NetworkInspect) -> Result<()> {
    engine.networks.netd.disconnect(container, &network.id)?;
    if let Some(sandbox) = engine.networks.live().get_mut(container) {
        sandbox.endpoints.retain(|e| e.network != network.id);
    }
    publish(engine, network, "disconnect", Some(container));
    Ok(())
}

/// Host and none do not mix with anything.
fn check_drivers(wanted: &Wanted, network: &NetworkInspect) -> Result<()> {
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

/// Static addresses fit a network that has a subnet of the user's choice.
pub fn check_addresses(network: &Record, settings: &EndpointSettings) -> Result<()> {
    let aliases = "network-scoped aliases are only supported for user-defined networks";
    complaints(network, settings, aliases).map_err(|list| {
        let name = &network.name;
        Error::invalid(format!("invalid config for network {name}: invalid endpoint settings:\n{list}"))
    })
}

/// What an endpoint may not ask for, in Docker's words: one line, or a list.
fn complaints(network: &Record, settings: &EndpointSettings, aliases: &str) -> Result<(), String> {
    let asked = settings.ipam_config.clone().unwrap_or_default();
    let predefined = matches!(network.name.as_str(), "bridge" | "host" | "none");
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
                    complaints.push(format!("no configured subnet or ip-range contain the IP address {text}"));
                }
            }
            _ => complaints.push(format!("invalid {name} address: {text}")),
        }
        if predefined {
            complaints.push("user specified IP address is supported on user defined networks only".into());
        }
        if !own && network.name != "bridge" {
            complaints.push(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
                    .into(),
            );
        }
    }
    if predefined && settings.aliases.iter().flatten().next().is_some() {
        complaints.push(aliases.into());
    }
    if !settings.mac_address.is_empty() && crate::net::engine_ns::parse_mac(&settings.mac_address).is_none() {
        complaints.push(format!("invalid MAC address: {}", settings.mac_address));
    }
    for error in [super::options::interface(settings).err(), super::options::sysctls(settings).err()] {
        complaints.extend(error.map(|e| e.message().to_owned()));
    }
    match complaints.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(many.iter().map(|c| format!("* {c}")).collect::<Vec<_>>().join("\n")),
    }
}
