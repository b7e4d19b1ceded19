//! New networks, the predefined ones among them.

use super::defaults::FAMILIES;
use super::{FILE, Networks, Record, ipam, options, publish};
use crate::api::network::{Ipam, IpamConfig, Map, NetworkCreateRequest, NetworkCreateResponse, NetworkInspect};
use crate::engine::Engine;
use crate::error::{Context, Error, Result};
use crate::net::protocol::{NetworkSpec, PoolSpec};
use crate::net::subnet::Subnet;
use crate::util::atomic_file::{self, Durability};
use crate::util::json;
use crate::util::{id, time, units};
use std::sync::{Arc, PoisonError};

pub fn create(engine: &Engine, request: NetworkCreateRequest) -> Result<NetworkCreateResponse> {
    let networks = &engine.networks;
    let _turn = networks.changing.lock().unwrap_or_else(PoisonError::into_inner);
    let record = check(networks, request)?;
    let record = add(networks, record)?;
    publish(engine, &record, "create", None);
    Ok(NetworkCreateResponse { id: record.id.clone(), warning: String::new() })
}

/// Turns a request into a record, or says why not.
fn check(networks: &Networks, request: NetworkCreateRequest) -> Result<NetworkInspect> {
    let name = request.name.trim();
    check_name(networks, name)?;
    let driver = match request.driver.as_str() {
        _ if request.config_only => "null",
        "" => "bridge",
        driver => driver,
    };
    if !request.config_only {
        check_driver(driver)?;
    }
    if request.ingress {
        return Err(Error::forbidden("cannot create an ingress network: this engine is no swarm node"));
    }
    let (ipv4, ipv6) = (request.enable_ipv4.unwrap_or(true), request.enable_ipv6.unwrap_or(false));
    if !ipv4 && !ipv6 {
        return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
    }
    let source = config_source(networks, &request)?;
    let asked = request.ipam.unwrap_or_default();
    if !matches!(asked.driver.as_str(), "" | "default") {
        return Err(Error::not_found(format!("plugin \"{}\" not found", asked.driver)));
    }
    ipam::validate(&asked, ipv6)?;
    let mut options = request.options.unwrap_or_default();
    let mut record = NetworkInspect {
        name: name.into(),
        id: id::random(),
        created: time::rfc3339_nano(time::now()),
        scope: "local".into(),
        driver: driver.into(),
        enable_ipv4: ipv4,
        enable_ipv6: ipv6,
        ipam: Ipam { driver: "default".into(), ..asked },
        internal: request.internal,
        attachable: request.attachable,
        config_only: request.config_only,
        labels: request.labels.unwrap_or_default(),
        ..NetworkInspect::default()
    };
    if let Some(source) = source {
        record.config_from.network.clone_from(&source.name);
        (record.enable_ipv4, record.enable_ipv6) = (source.enable_ipv4, source.enable_ipv6);
        record.ipam = source.ipam.clone();
        record.labels.clone_from(&source.labels);
        options.clone_from(&source.options);
    }
    for (key, value) in networks.defaults.options.get(driver).into_iter().flatten() {
        options.entry(key.clone()).or_insert_with(|| value.clone());
    }
    options::check(&options, record.internal)?;
    check_name_is_free(networks, &options)?;
    record.options = options;
    Ok(record)
}

fn check_name(networks: &Networks, name: &str) -> Result<()> {
    if matches!(name, "bridge" | "host" | "none" | "default") {
        return Err(Error::forbidden(format!("operation is not permitted on predefined {name} network ")));
    }
    if name.is_empty() {
        return Err(Error::invalid("invalid name: name is empty"));
    }
    if networks.all().iter().any(|n| n.name == name) {
        return Err(Error::conflict(format!("network with name {name} already exists")));
    }
    Ok(())
}

/// The configuration-only network that a request names; all that it may not say
/// besides, in Docker's words.
fn config_source(networks: &Networks, request: &NetworkCreateRequest) -> Result<Option<Arc<Record>>> {
    let name = request.config_from.as_ref().map_or("", |c| c.network.as_str());
    if request.config_only && (request.internal || request.attachable || request.ingress) {
        return Err(Error::forbidden(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.",
        ));
    }
    if name.is_empty() {
        return Ok(None);
    }
    if request.config_only {
        return Err(Error::forbidden("a configuration network cannot depend on another configuration network"));
    }
    let given = |map: &Option<Map>| map.as_ref().is_some_and(|m| !m.is_empty());
    let own_ipam = request.ipam.as_ref().is_some_and(|i| i.config.as_ref().is_some_and(|c| !c.is_empty()));
    if own_ipam || given(&request.labels) || request.enable_ipv6 == Some(true) {
        return Err(Error::forbidden(
            "user specified configurations are not supported if the network depends on a configuration network",
        ));
    }
    if given(&request.options) {
        return Err(Error::forbidden(
            "network driver options are not supported if the network depends on a configuration network",
        ));
    }
    match networks.all().into_iter().find(|n| n.config_only && (n.name == name || n.id == name)) {
        Some(source) => Ok(Some(source)),
        None => Err(Error::not_found(format!("configuration network {name:?} does not exist"))),
    }
}

fn check_driver(driver: &str) -> Result<()> {
    match driver {
        "bridge" => Ok(()),
        "host" | "null" => Err(Error::forbidden(format!("only one instance of \"{driver}\" network is allowed"))),
        "macvlan" | "ipvlan" => Err(Error::not_implemented(format!(
            "the {driver} driver is not available: it puts containers on a network card of the host, which only root may do"
        ))
        .with_hint("use a bridge network: published ports see the client's real address")),
        "overlay" => Err(Error::unavailable(
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
        )),
        other => Err(Error::not_found(format!("plugin \"{other}\" not found"))),
    }
}

fn check_name_is_free(networks: &Networks, options: &Map) -> Result<()> {
    match options.get(options::BRIDGE_NAME).filter(|n| !n.is_empty()) {
        Some(name) if networks.all().iter().any(|n| bridge_name(n) == *name) => {
            Err(Error::forbidden(format!("networks have same bridge name: {name}")))
        }
        _ => Ok(()),
    }
}

fn used(networks: &Networks) -> Vec<Subnet> {
    let all = networks.all();
    let live = all.iter().filter(|n| !n.config_only);
    live.flat_map(|n| n.ipam.config.iter().flatten()).filter_map(|c| c.subnet.parse().ok()).collect()
}

/// Gives a record its subnets, has netd make it, and keeps it. What the user
/// wrote stays as it was written; what was chosen for him stands behind it.
fn add(networks: &Networks, mut record: NetworkInspect) -> Result<Arc<Record>> {
    if record.config_only {
        return keep(networks, Record { network: record, ..Record::default() });
    }
    let used = used(networks);
    let mut own = [false; 2];
    let mut configs = record.ipam.config.take().unwrap_or_default();
    configs.retain(|c| !c.subnet.is_empty());
    let mut chosen = Vec::new();
    for v4 in FAMILIES {
        let of_family = |c: &IpamConfig| c.subnet.parse::<Subnet>().is_ok_and(|s| s.is_ipv4() == v4);
        if !(if v4 { record.enable_ipv4 } else { record.enable_ipv6 }) {
            configs.retain(|c| !of_family(c));
            continue;
        }
        let mine: Vec<Subnet> = configs.iter().filter(|c| of_family(c)).filter_map(|c| c.subnet.parse().ok()).collect();
        match mine.as_slice() {
            [] => chosen.push(chosen_config(networks, v4, &used)?),
            [subnet] => {
                ipam::check_overlap(subnet, &used)?;
                own[usize::from(!v4)] = true;
            }
            _ => return Err(Error::invalid("bridge driver doesn't support multiple subnets of one family")),
        }
    }
    configs.extend(chosen);
    record.ipam.config = Some(configs);
    networks.netd.set_network(netd_spec(&record)?)?;
    keep(networks, Record { network: record, own_subnet_v4: own[0], own_subnet_v6: own[1] })
}

fn chosen_config(networks: &Networks, v4: bool, used: &[Subnet]) -> Result<IpamConfig> {
    let mut taken = used.to_vec();
    taken.extend(ipam::host_routes());
    let subnet = networks.defaults.choose(v4, &taken)?;
    Ok(ipam::complete(IpamConfig::default(), &subnet))
}

fn keep(networks: &Networks, record: Record) -> Result<Arc<Record>> {
    let dir = networks.dir.join(&record.id);
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let bytes = json::to_vec(&record)?;
    atomic_file::write(&dir.join(FILE), &bytes, Durability::Synced).context("write a network's record")?;
    let record = Arc::new(record);
    networks.all.write().unwrap_or_else(PoisonError::into_inner).insert(record.id.clone(), record.clone());
    Ok(record)
}

/// bridge, host and none: made once; the bridge follows the configuration while
/// no container is on it.
pub(super) fn predefined(networks: &Networks) -> Result<()> {
    for (name, driver) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
        if name == "bridge" && networks.defaults.without_bridge() {
            networks.all.write().unwrap_or_else(PoisonError::into_inner).retain(|_, n| n.name != name);
            continue;
        }
        if networks.all().iter().any(|n| n.name == name) {
            continue;
        }
        let record = NetworkInspect {
            name: name.into(),
            id: id::random(),
            created: time::rfc3339_nano(time::now()),
            scope: "local".into(),
            driver: driver.into(),
            enable_ipv4: true,
            ipam: Ipam { driver: "default".into(), options: None, config: None },
            ..NetworkInspect::default()
        };
        keep(networks, Record { network: record, ..Record::default() })?;
    }
    let Ok(bridge) = networks.find("bridge") else { return Ok(()) };
    let wanted = default_bridge(networks, &bridge)?;
    if wanted == bridge.network {
        return Ok(());
    }
    if !networks.endpoints_of(&bridge.id).is_empty() {
        crate::warn!("the default bridge keeps its old settings until no container is on it");
        return Ok(());
    }
    // A netd that is up already has the old one.
    let _ = networks.netd.remove_network(&bridge.id);
    keep(networks, Record { network: wanted, ..Record::default() }).map(drop)
}

/// The default bridge's document under the present configuration.
fn default_bridge(networks: &Networks, bridge: &NetworkInspect) -> Result<NetworkInspect> {
    let defaults = &networks.defaults;
    let mut wanted =
        NetworkInspect { options: defaults.bridge_options(), enable_ipv6: defaults.ipv6, ..bridge.clone() };
    let mut used = used(networks);
    let before: Vec<IpamConfig> = bridge.ipam.config.clone().unwrap_or_default();
    used.retain(|u| !before.iter().any(|c| c.subnet == u.to_string()));
    let mut configs = Vec::new();
    for v4 in FAMILIES.into_iter().filter(|v4| *v4 || defaults.ipv6) {
        let fixed = defaults.bridge_config(v4);
        let kept = before.iter().find(|c| c.subnet.parse::<Subnet>().is_ok_and(|s| s.is_ipv4() == v4));
        let plain = |c: &&IpamConfig| c.ip_range.is_empty() && defaults.fits(c);
        configs.push(match (fixed, kept.filter(plain)) {
            (Some(config), _) => {
                let subnet: Subnet = config.subnet.parse().map_err(Error::invalid)?;
                ipam::check_overlap(&subnet, &used)?;
                ipam::complete(config, &subnet)
            }
            (None, Some(kept)) => kept.clone(),
            (None, None) => chosen_config(networks, v4, &used)?,
        });
    }
    wanted.ipam.config = Some(configs);
    Ok(wanted)
}

/// The interface name of a network's bridge.
pub(super) fn bridge_name(network: &NetworkInspect) -> String {
    match network.options.get(options::BRIDGE_NAME).filter(|n| !n.is_empty()) {
        Some(name) => name.clone(),
        None => format!("br-{}", id::short(&network.id)),
    }
}

/// A record as netd wants it.
pub(super) fn netd_spec(network: &NetworkInspect) -> Result<NetworkSpec> {
    let mut pools = Vec::new();
    for config in network.ipam.config.iter().flatten() {
        let subnet: Subnet = config.subnet.parse().map_err(Error::system)?;
        let config = ipam::complete(config.clone(), &subnet);
        pools.push(PoolSpec {
            subnet,
            range: config.ip_range.parse().ok(),
            gateway: config.gateway.parse().ok(),
            reserved: config.auxiliary_addresses.iter().flatten().filter_map(|(_, a)| a.parse().ok()).collect(),
        });
    }
    let flag = |key: &str| network.options.get(key).and_then(|v| units::parse_bool(v).ok()).unwrap_or(true);
    Ok(NetworkSpec {
        id: network.id.clone(),
        name: network.name.clone(),
        bridge: bridge_name(network),
        mtu: network.options.get(options::MTU).and_then(|m| m.parse().ok()).filter(|m| *m > 0).unwrap_or(1500),
        pools,
        internal: network.internal,
        masquerade: flag(options::MASQUERADE),
        icc: flag(options::ICC),
        dns: network.name != "bridge",
        warm: network.name == "bridge",
    })
}
