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
        let here = |e: &&Endpoint| e.state.network == mine.state.network;
        for other in all {
            for endpoint in other.endpoints.iter().filter(here) {
                enter(&mut view, endpoint, &network.spec.name, &mine.links);
                let same = |name: &String, target: &str| name.eq_ignore_ascii_case(target);
                let meant =
                    |target: &str| other.container == target || endpoint.state.names.iter().any(|n| same(n, target));
                for (alias, _) in mine.links.iter().filter(|(_, target)| meant(target)) {
                    add(&mut view, alias, endpoint);
                    add(&mut view, &format!("{alias}.{}", network.spec.name), endpoint);
                }
            }
        }
    }
    view
}

/// A name that is one of the asker's own aliases means what the alias says.
fn enter(view: &mut View, endpoint: &Endpoint, network: &str, links: &[(String, String)]) {
    let shadowed = |name: &&String| links.iter().any(|(alias, _)| alias.eq_ignore_ascii_case(name));
    for name in endpoint.state.names.iter().filter(|n| !shadowed(n)) {
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
