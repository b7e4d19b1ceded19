//! What the networks look like from outside: inspect and list.

use super::Networks;
use crate::api::filters::Filters;
use crate::api::network::{EndpointResource, NetworkInspect};
use crate::error::{Error, Result};
use std::net::IpAddr;

/// One network with the containers that are on it now.
pub fn inspect(networks: &Networks, reference: &str) -> Result<NetworkInspect> {
    let mut document = networks.find(reference)?.network.clone();
    let with_prefix = |a: Option<IpAddr>, prefix: u8| a.map(|a| format!("{a}/{prefix}")).unwrap_or_default();
    for sandbox in networks.live().values() {
        for endpoint in sandbox.endpoints.iter().filter(|e| e.network == document.id) {
            let resource = EndpointResource {
                name: sandbox.name.clone(),
                endpoint_id: endpoint.id.clone(),
                mac_address: endpoint.mac.clone(),
                ipv4_address: with_prefix(endpoint.ipv4, endpoint.prefix4),
                ipv6_address: with_prefix(endpoint.ipv6, endpoint.prefix6),
            };
            document.containers.insert(sandbox.container.clone(), resource);
        }
    }
    Ok(document)
}

/// All networks that pass; without their containers.
pub fn list(networks: &Networks, filters: &Filters) -> Result<Vec<NetworkInspect>> {
    filters.check(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    for kind in filters.get("type") {
        if !matches!(kind.as_str(), "custom" | "builtin") {
            return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")));
        }
    }
    let dangling = if filters.contains("dangling") { Some(filters.bool("dangling", false)?) } else { None };
    let passes = |n: &NetworkInspect| {
        filters.exact("driver", &n.driver)
            && filters.exact("scope", &n.scope)
            && filters.regex("name", &n.name)
            && filters.regex("id", &n.id)
            && labelled(filters.get("label"), n)
            && filters.exact("type", if is_predefined(&n.name) { "builtin" } else { "custom" })
            && dangling.is_none_or(|d| d == (!is_predefined(&n.name) && networks.endpoints_of(&n.id).is_empty()))
    };
    Ok(networks.all().iter().filter(|n| passes(n)).map(|n| n.network.clone()).collect())
}

pub(super) fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none")
}

/// Every "key" or "key=value" is there.
pub(super) fn labelled(wanted: &[String], network: &NetworkInspect) -> bool {
    wanted.iter().all(|label| match label.split_once('=') {
        Some((key, value)) => network.labels.get(key).is_some_and(|v| v == value),
        None => network.labels.contains_key(label),
    })
}
