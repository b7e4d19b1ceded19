//! The start and end of a container's network.

use super::sandbox::{Namespace, Sandbox, Wanted};
use super::{Networks, Record, files, ports, publish};
use crate::api::network::{EndpointSettings, NetworkInspect, PortMap};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::net::protocol::{DnsSpec, EndpointSpec, EndpointState, SandboxSpec, SandboxState};
use crate::util::id;
use crate::util::order;
use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Prepares the network of one container that is about to start: namespace,
/// addresses, published ports, and the files it will see. On error nothing of
/// it is left. Emits `network connect`.
pub fn allocate(engine: &Engine, wanted: &Wanted) -> Result<Sandbox> {
    let networks = &engine.networks;
    let order = order(networks, wanted)?;
    if let Some((network, _)) = order.first().filter(|(n, _)| matches!(n.driver.as_str(), "host" | "null")) {
        let mut sandbox = if network.driver == "host" { Sandbox::host(wanted) } else { Sandbox::none(wanted) };
        let mut settings = wanted.endpoints.get(&network.name).cloned().unwrap_or_default();
        settings.network_id.clone_from(&network.id);
        settings.endpoint_id = id::random();
        sandbox.endpoints.insert(network.name.clone(), settings);
        return Ok(sandbox);
    }
    let spec = sandbox_spec(wanted, &order)?;
    let (state, namespace) = create(networks, spec)?;
    let sandbox = describe(networks, wanted, &order, &state, namespace);
    networks.live().insert(wanted.id.clone(), state);
    for (network, _) in &order {
        publish(engine, network, "connect", Some(&wanted.id));
    }
    Ok(sandbox)
}

/// Asks netd; a netd that was just started hears of the networks first.
fn create(networks: &Networks, spec: SandboxSpec) -> Result<(SandboxState, OwnedFd)> {
    match networks.netd.create(spec.clone()) {
        Err(e) if e.kind() == Kind::NotFound => {
            networks.tell_netd()?;
            networks.netd.create(spec)
        }
        other => other,
    }
}

/// Gives back what [`allocate`] took, when the container has exited. Unknown
/// ids are fine. Emits `network disconnect`.
pub fn release(engine: &Engine, container: &str) {
    engine.networks.netd.started(container);
    let Some(state) = engine.networks.live().remove(container) else { return };
    if let Err(e) = engine.networks.netd.release(container) {
        crate::warn!("cannot release a network sandbox", "container" = container, "error" = e);
    }
    for endpoint in &state.endpoints {
        if let Ok(network) = engine.networks.find(&endpoint.network) {
            publish(engine, &network, "disconnect", Some(container));
        }
    }
}

/// After a restart of the daemon: everything that does not belong to one of the
/// `running` containers is given back.
pub fn retain(engine: &Engine, running: &HashSet<String>) {
    let lost: Vec<String> = engine.networks.live().keys().filter(|c| !running.contains(*c)).cloned().collect();
    for container in lost {
        release(engine, &container);
    }
}

/// The container has another name now; its networks resolve it.
pub fn renamed(engine: &Engine, container: &str, old: &str, new: &str) {
    let endpoints = {
        let mut live = engine.networks.live();
        let Some(state) = live.get_mut(container) else { return };
        state.name = new.to_owned();
        for endpoint in &mut state.endpoints {
            for name in endpoint.names.iter_mut().filter(|n| *n == old) {
                *name = new.to_owned();
            }
        }
        state.endpoints.clone()
    };
    // Not under the lock: a call that finds netd dead has to read what is live.
    for endpoint in endpoints {
        if let Err(e) = engine.networks.netd.names(container, new, &endpoint.network, endpoint.names) {
            crate::warn!("cannot rename a container in the network process", "container" = container, "error" = e);
        }
    }
}

pub(super) type Place = (Arc<Record>, EndpointSettings);

/// The networks of a container in the order of its interfaces: the one that its
/// mode names, then the others by name.
pub(super) fn order(networks: &Networks, wanted: &Wanted) -> Result<Vec<Place>> {
    let mode = match wanted.mode.as_str() {
        "" | "default" | "bridge" if networks.defaults.without_bridge() => "none",
        "" | "default" => "bridge",
        mode => mode,
    };
    let first = networks.find(mode)?;
    if first.config_only {
        return Err(Error::forbidden("cannot create endpoint on configuration-only network"));
    }
    let mut places: Vec<Place> = Vec::new();
    let absent = |name: &str| networks.defaults.without_bridge() && matches!(name, "bridge" | "default");
    for (name, settings) in wanted.endpoints.iter().filter(|(name, _)| !absent(name)) {
        let network = networks.find(if name == "default" { "bridge" } else { name })?;
        if !places.iter().any(|(n, _)| n.id == network.id) {
            places.push((network, settings.clone()));
        }
    }
    if !places.iter().any(|(n, _)| n.id == first.id) {
        places.push((first.clone(), EndpointSettings::default()));
    }
    order::sort_by_key(&mut places, |(n, _)| (n.id != first.id, n.name.clone()));
    if !wanted.mac_address.is_empty() && places[0].1.mac_address.is_empty() {
        places[0].1.mac_address.clone_from(&wanted.mac_address);
    }
    if let Some((bad, _)) = places.iter().skip(1).find(|(n, _)| n.driver != "bridge") {
        return Err(Error::invalid(match bad.driver.as_str() {
            "host" => "cannot connect container to host network - container must be created in host network mode",
            _ => "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        }));
    }
    Ok(places)
}

pub(super) fn sandbox_spec(wanted: &Wanted, order: &[Place]) -> Result<SandboxSpec> {
    let mut endpoints = Vec::new();
    for (network, settings) in order {
        endpoints.push(endpoint_spec(wanted, network, settings)?);
    }
    let binding = order.first().and_then(|(n, _)| n.options.get(super::options::BINDING));
    let user_defined = order.iter().any(|(n, _)| n.name != "bridge");
    Ok(SandboxSpec {
        container: wanted.id.clone(),
        name: wanted.name.clone(),
        endpoints,
        ports: ports::wanted(wanted, binding.map(String::as_str))?,
        dns: DnsSpec {
            embedded: user_defined || files::needs_forwarder(&wanted.dns),
            servers: wanted.dns.iter().filter_map(|s| s.parse().ok()).collect(),
        },
        host_gateway: wanted.extra_hosts.iter().any(|h| h.ends_with(":host-gateway") || h.ends_with("=host-gateway")),
    })
}

/// What netd is to make of one `EndpointSettings`.
pub(super) fn endpoint_spec(wanted: &Wanted, network: &Record, settings: &EndpointSettings) -> Result<EndpointSpec> {
    super::connect::check_addresses(network, settings)?;
    let address = |text: &str| if text.is_empty() { None } else { text.parse().ok() };
    let asked = settings.ipam_config.clone().unwrap_or_default();
    Ok(EndpointSpec {
        network: network.id.clone(),
        id: id::random(),
        ipv4: address(&asked.ipv4_address),
        ipv6: address(&asked.ipv6_address),
        mac: Some(settings.mac_address.clone()).filter(|m| !m.is_empty()),
        names: names(wanted, network, settings),
        links: links(wanted, network, settings),
        priority: settings.gw_priority,
        interface: super::options::interface(settings)?,
        sysctls: super::options::sysctls(settings)?,
    })
}

/// What others call the container on a network: its name, aliases, short id and
/// hostname. The default network resolves no names.
fn names(wanted: &Wanted, network: &NetworkInspect, settings: &EndpointSettings) -> Vec<String> {
    if network.name == "bridge" {
        return Vec::new();
    }
    let mut names = vec![wanted.name.clone()];
    names.extend(settings.aliases.iter().flatten().cloned());
    names.push(id::short(&wanted.id).to_owned());
    if !wanted.hostname.is_empty() {
        names.push(wanted.hostname.clone());
        if !wanted.domainname.is_empty() {
            names.push(format!("{}.{}", wanted.hostname, wanted.domainname));
        }
    }
    let mut seen = HashSet::new();
    names.retain(|n| seen.insert(n.clone()));
    names
}

/// What the container alone calls others of the network: its own links there, and
/// those of its host configuration, which is where compose writes them.
fn links(wanted: &Wanted, network: &NetworkInspect, settings: &EndpointSettings) -> Vec<(String, String)> {
    if network.name == "bridge" {
        return Vec::new();
    }
    let pair = |link: &String| {
        let (target, alias) = link.split_once(':').unwrap_or((link, link));
        (alias.to_owned(), target.trim_start_matches('/').to_owned())
    };
    settings.links.iter().flatten().chain(&wanted.aliases).map(pair).collect()
}

/// Fills in what an endpoint got.
pub(super) fn settings(asked: &EndpointSettings, network: &NetworkInspect, state: &EndpointState) -> EndpointSettings {
    let text = |a: Option<std::net::IpAddr>| a.map(|a| a.to_string()).unwrap_or_default();
    EndpointSettings {
        mac_address: state.mac.clone(),
        network_id: network.id.clone(),
        endpoint_id: state.id.clone(),
        gateway: text(state.gateway4),
        ip_address: text(state.ipv4),
        ip_prefix_len: state.prefix4,
        ipv6_gateway: text(state.gateway6),
        global_ipv6_address: text(state.ipv6),
        global_ipv6_prefix_len: state.prefix6,
        dns_names: if state.names.is_empty() { None } else { Some(state.names.clone()) },
        ..asked.clone()
    }
}

fn shown(order: &[Place], state: &SandboxState) -> BTreeMap<String, EndpointSettings> {
    let shown =
        |((network, asked), made): (&Place, &EndpointState)| (network.name.clone(), settings(asked, network, made));
    order::map(order.iter().zip(&state.endpoints).map(shown))
}

/// Endpoints and ports, for the record of a container that runs although its
/// daemon died before it could say so; none if netd does not know it either.
pub fn known(engine: &Engine, wanted: &Wanted) -> Option<(BTreeMap<String, EndpointSettings>, PortMap)> {
    let state = engine.networks.live().get(&wanted.id).cloned()?;
    let order = order(&engine.networks, wanted).ok()?;
    Some((shown(&order, &state), ports::bound(wanted, &state.ports)))
}

fn describe(
    networks: &Networks,
    wanted: &Wanted,
    order: &[Place],
    state: &SandboxState,
    namespace: OwnedFd,
) -> Sandbox {
    let endpoints = shown(order, state);
    let sandbox_id = id::random();
    let key = format!("{}/netns/{}", networks.dir.display(), &sandbox_id[..12]);
    Sandbox {
        namespace: Namespace::Join(namespace),
        sandbox_key: key,
        sandbox_id,
        endpoints,
        ports: ports::bound(wanted, &state.ports),
        hosts: files::hosts(networks, wanted, state),
        resolv_conf: files::resolv_conf(wanted, order.iter().any(|(n, _)| n.name != "bridge")),
    }
}
