//! Who is called what: from the live endpoints to each container's view for the
//! name server. Pure.

use crate::net::dns::View;
use crate::net::protocol::DnsSpec;
use crate::net::sandbox::{Endpoint, Network};
use std::collections::HashMap;

/// A live container, as names need it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub container: &'a str,
    pub dns: &'a DnsSpec,
    pub endpoints: &'a [Endpoint],
}

/// What the container at `me` may resolve.
pub fn view(me: &Place<'_>, all: &[Place<'_>], networks: &HashMap<String, Network>) -> View {
    let mut view = View { servers: me.dns.servers.clone(), closed: true, ..View::default() };
    for mine in me.endpoints {
        let Some(network) = networks.get(&mine.state.network) else { continue };
        view.closed &= network.spec.internal;
        if !network.spec.dns {
            continue;
        }
        for other in all {
            for endpoint in other.endpoints.iter().filter(|e| e.state.network == mine.state.network) {
                enter(&mut view, endpoint, &network.spec.name);
                for (alias, _) in me.dns.links.iter().filter(|(_, container)| container == other.container) {
                    add(&mut view, alias, endpoint);
                }
            }
        }
    }
    view
}

fn enter(view: &mut View, endpoint: &Endpoint, network: &str) {
    for name in &endpoint.state.names {
        add(view, name, endpoint);
        add(view, &format!("{name}.{network}"), endpoint);
    }
    if let Some(name) = endpoint.state.names.first() {
        for address in endpoint.addresses() {
            view.pointers.insert(address, format!("{name}.{network}"));
        }
    }
}

fn add(view: &mut View, name: &str, endpoint: &Endpoint) {
    let addresses = view.names.entry(name.trim_end_matches('.').to_ascii_lowercase()).or_default();
    for address in endpoint.addresses() {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
}
