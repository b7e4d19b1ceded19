//! New networks, the predefined ones among them.

use super::{FILE, Networks, Record, ipam, publish};
use crate::api::network::{Ipam, IpamConfig, Map, NetworkCreateRequest, NetworkCreateResponse, NetworkInspect};
use crate::engine::Engine;
use crate::error::{Context, Error, Result};
use crate::net::protocol::{NetworkSpec, PoolSpec};
use crate::net::subnet::Subnet;
use crate::util::atomic_file::{self, Durability};
use crate::util::json;
use crate::util::{id, time};
use std::sync::{Arc, PoisonError};

const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const MTU: &str = "com.docker.network.driver.mtu";

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
    if matches!(name, "bridge" | "host" | "none" | "default") {
        return Err(Error::forbidden(format!("operation is not permitted on predefined {name} network ")));
    }
    if name.is_empty() {
        return Err(Error::invalid("invalid network name: name is empty"));
    }
    if networks.all().iter().any(|n| n.name == name) {
        return Err(Error::conflict(format!("network with name {name} already exists")));
    }
    let driver = if request.driver.is_empty() { "bridge" } else { &request.driver };
    check_driver(driver)?;
    if request.ingress {
        return Err(Error::forbidden("cannot create an ingress network: this engine is no swarm node"));
    }
    if request.config_only || request.config_from.as_ref().is_some_and(|c| !c.network.is_empty()) {
        return Err(Error::not_implemented("configuration-only networks are not supported"));
    }
    let (ipv4, ipv6) = (request.enable_ipv4.unwrap_or(true), request.enable_ipv6.unwrap_or(false));
    if !ipv4 && !ipv6 {
        return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
    }
    let asked = request.ipam.unwrap_or_default();
    if !matches!(asked.driver.as_str(), "" | "default") {
        return Err(Error::not_found(format!("plugin \"{}\" not found", asked.driver)));
    }
    ipam::validate(&asked, ipv6)?;
    let options = request.options.unwrap_or_default();
    check_options(networks, &options)?;
    Ok(NetworkInspect {
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
        options,
        labels: request.labels.unwrap_or_default(),
        ..NetworkInspect::default()
    })
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

fn check_options(networks: &Networks, options: &Map) -> Result<()> {
    if let Some(mtu) = options.get(MTU) {
        let number: u32 =
            mtu.parse().map_err(|_| Error::invalid(format!("failed to parse {MTU} value: \"{mtu}\" is no number")))?;
        if number != 0 && !(68..=65535).contains(&number) {
            return Err(Error::invalid(format!("invalid MTU number: {number}")));
        }
    }
    for key in [ICC, "com.docker.network.bridge.enable_ip_masquerade"] {
        if let Some(value) = options.get(key).filter(|v| parse_bool(v).is_none()) {
            return Err(Error::invalid(format!("failed to parse {key} value: \"{value}\" is no boolean")));
        }
    }
    if let Some(name) = options.get(BRIDGE_NAME).filter(|n| !n.is_empty()) {
        let plain = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
        if name.len() > 15 || !name.chars().all(plain) || matches!(name.as_str(), "." | ".." | "lo" | "all" | "default")
        {
            return Err(Error::invalid(format!("invalid bridge name: {name}")));
        }
        if networks.all().iter().any(|n| bridge_name(n) == *name) {
            return Err(Error::forbidden(format!("networks have same bridge name: {name}")));
        }
    }
    Ok(())
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn used(networks: &Networks) -> Vec<Subnet> {
    let all = networks.all();
    all.iter().flat_map(|n| n.ipam.config.iter().flatten()).filter_map(|c| c.subnet.parse().ok()).collect()
}

/// Gives a record its subnets, has netd make it, and keeps it.
fn add(networks: &Networks, mut record: NetworkInspect) -> Result<Arc<Record>> {
    let used = used(networks);
    let mut configs = Vec::new();
    let mut own = [false; 2];
    let asked = record.ipam.config.take().unwrap_or_default();
    for v4 in [true, false] {
        if !(if v4 { record.enable_ipv4 } else { record.enable_ipv6 }) {
            continue;
        }
        let of_family = |c: &&IpamConfig| c.subnet.parse::<Subnet>().is_ok_and(|s| s.is_ipv4() == v4);
        let mut mine = asked.iter().filter(of_family);
        let config = mine.next().cloned();
        if mine.next().is_some() {
            return Err(Error::invalid("bridge driver doesn't support multiple subnets of one family"));
        }
        let subnet = match &config {
            Some(c) => {
                let subnet: Subnet = c.subnet.parse().map_err(Error::invalid)?;
                ipam::check_overlap(&subnet, &used)?;
                own[usize::from(!v4)] = true;
                subnet
            }
            None if v4 => {
                let mut taken = used.clone();
                taken.extend(ipam::host_routes());
                ipam::choose_v4(&ipam::default_pools(), &taken)?
            }
            None => ipam::choose_v6(&used)?,
        };
        configs.push(ipam::complete(config.unwrap_or_default(), &subnet, false));
    }
    record.ipam.config = Some(configs);
    networks.netd.set_network(netd_spec(&record)?)?;
    keep(networks, Record { network: record, own_subnet_v4: own[0], own_subnet_v6: own[1] })
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

/// bridge, host and none: made once, kept for ever.
pub(super) fn predefined(networks: &Networks) -> Result<()> {
    for (name, driver) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
        if networks.all().iter().any(|n| n.name == name) {
            continue;
        }
        let mut record = NetworkInspect {
            name: name.into(),
            id: id::random(),
            created: time::rfc3339_nano(time::now()),
            scope: "local".into(),
            driver: driver.into(),
            enable_ipv4: true,
            ipam: Ipam { driver: "default".into(), options: None, config: None },
            ..NetworkInspect::default()
        };
        if name == "bridge" {
            let mut taken = used(networks);
            taken.extend(ipam::host_routes());
            let subnet = ipam::choose_v4(&ipam::default_pools(), &taken)?;
            record.ipam.config = Some(vec![ipam::complete(IpamConfig::default(), &subnet, false)]);
            record.options = default_options();
        }
        keep(networks, Record { network: record, ..Record::default() })?;
    }
    Ok(())
}

fn default_options() -> Map {
    [
        ("com.docker.network.bridge.default_bridge", "true"),
        (ICC, "true"),
        ("com.docker.network.bridge.enable_ip_masquerade", "true"),
        ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
        (BRIDGE_NAME, "docker0"),
        (MTU, "1500"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into()
}

/// The interface name of a network's bridge.
pub(super) fn bridge_name(network: &NetworkInspect) -> String {
    match network.options.get(BRIDGE_NAME).filter(|n| !n.is_empty()) {
        Some(name) => name.clone(),
        None => format!("br-{}", id::short(&network.id)),
    }
}

/// A record as netd wants it.
pub(super) fn netd_spec(network: &NetworkInspect) -> Result<NetworkSpec> {
    let mut pools = Vec::new();
    for config in network.ipam.config.iter().flatten() {
        let subnet: Subnet = config.subnet.parse().map_err(Error::system)?;
        pools.push(PoolSpec {
            subnet,
            range: config.ip_range.parse().ok(),
            gateway: config.gateway.parse().ok(),
            reserved: config.auxiliary_addresses.iter().flatten().filter_map(|(_, a)| a.parse().ok()).collect(),
        });
    }
    let flag = |key: &str| network.options.get(key).and_then(|v| parse_bool(v)).unwrap_or(true);
    Ok(NetworkSpec {
        id: network.id.clone(),
        name: network.name.clone(),
        bridge: bridge_name(network),
        mtu: network.options.get(MTU).and_then(|m| m.parse().ok()).filter(|m| *m > 0).unwrap_or(1500),
        pools,
        internal: network.internal,
        masquerade: flag("com.docker.network.bridge.enable_ip_masquerade"),
        icc: flag(ICC),
        dns: network.name != "bridge",
        warm: network.name == "bridge",
    })
}
