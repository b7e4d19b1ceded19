//! `--link`, the default bridge's old way to find each other: names in
//! /etc/hosts (`engine::network::files`), variables in the environment, and a
//! second name `parent/alias` in lists. On other networks a link is an alias that
//! the name server looks up when it is asked (`net::names`).

use super::Container;
use super::record::Record;
use crate::api::container::HostConfig;
use crate::api::network::EndpointSettings;
use crate::engine::Engine;
use crate::engine::network::{Link, files};
use crate::error::{Error, Result};
use crate::util::order;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What every container has anyway, or what would mislead.
const OWN: [&str; 2] = ["HOME", "PATH"];

/// `TARGET[:ALIAS]`, and the form that `inspect` shows: `/target:/parent/alias`.
pub fn split(link: &str) -> (&str, &str) {
    let (target, alias) = link.split_once(':').unwrap_or((link, link));
    (target.trim_start_matches('/'), alias.rsplit('/').next().unwrap_or(alias))
}

/// Whether the network is one where what a link names has to exist, and to run.
pub fn legacy(host: &HostConfig) -> bool {
    matches!(host.network_mode.as_str(), "" | "default" | "bridge")
}

/// The links of a container that starts on such a network.
pub fn resolve(engine: &Engine, record: &Record) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for link in record.host_config.links.iter().flatten() {
        let (target, alias) = split(link);
        let named = engine.containers.get(target)?;
        let other = owner_of_network(engine, target)?;
        if !other.live().record.state.is_up() {
            return Err(Error::system(format!(
                "Cannot link to a non running container: /{} AS /{}/{alias}",
                other.name(),
                record.name
            )));
        }
        if !other.live().record.networks.contains_key("bridge") {
            return Err(Error::invalid(format!("container {} not attached to default bridge network", other.id)));
        }
        links.push(Link::new(&named, &other, alias));
    }
    Ok(links)
}

/// Who links to a container that has just started finds it at its new address.
pub fn tell_parents(engine: &Engine, container: &Container) {
    let address = container.live().record.networks.get("bridge").map(|e| e.ip_address.clone()).unwrap_or_default();
    if address.is_empty() {
        return;
    }
    for parent in engine.containers.all() {
        let links = match &parent.live().record {
            record if record.state.is_up() => given(&record.host_config).map(<[String]>::to_vec).unwrap_or_default(),
            _ => continue,
        };
        let aliases = links
            .iter()
            .map(|l| split(l))
            .filter(|(target, _)| owner_of_network(engine, target).is_ok_and(|owner| owner.id == container.id));
        let aliases: Vec<&str> = aliases.map(|(_, alias)| alias).collect();
        if aliases.is_empty() {
            continue;
        }
        let moved = |line: &str| -> String {
            match line.split_once('\t') {
                Some((_, names)) if names.split(' ').next().is_some_and(|n| aliases.contains(&n)) => {
                    format!("{address}\t{names}\n")
                }
                _ => format!("{line}\n"),
            }
        };
        files::edit(&parent.dir.join("hosts"), |text| text.lines().map(moved).collect());
    }
}

impl Link {
    fn new(named: &Container, owner: &Container, alias: &str) -> Self {
        Self {
            container_id: owner.id.clone(),
            container_name: named.name(),
            hostname: owner.live().record.config.hostname.clone(),
            alias: alias.to_owned(),
        }
    }
}

/// The container whose network a link leads into: `target`, or the one that it joined.
pub fn owner_of_network(engine: &Engine, target: &str) -> Result<Arc<Container>> {
    let mut container = engine.containers.get(target)?;
    // Nobody joins his own, but a record may have been written by hand.
    for _ in 0..16 {
        let mode = container.live().record.host_config.network_mode.clone();
        match mode.strip_prefix("container:") {
            Some(donor) => container = engine.containers.get(donor)?,
            None if mode == "host" => {
                return Err(Error::invalid(
                    "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
                ));
            }
            None => break,
        }
    }
    Ok(container)
}

/// The variables that links bring, on the default bridge alone.
pub fn environment(engine: &Engine, record: &Record) -> Vec<String> {
    if !legacy(&record.host_config) {
        return Vec::new();
    }
    let mut env = Vec::new();
    for link in record.host_config.links.iter().flatten() {
        let (target, alias) = split(link);
        let Ok(other) = engine.containers.get(target) else { continue };
        variables(&record.name, alias, &other.record(), &mut env);
    }
    env
}

fn variables(parent: &str, alias: &str, other: &Record, env: &mut Vec<String>) {
    let prefix = alias.to_uppercase().replace('-', "_");
    env.push(format!("{prefix}_NAME=/{parent}/{alias}"));
    let none = EndpointSettings::default();
    let address = &other.networks.get("bridge").unwrap_or(&none).ip_address;
    let mut ports: Vec<(u16, &str)> = other
        .config
        .exposed_ports
        .iter()
        .flatten()
        .filter_map(|(port, _)| {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            Some((number.parse().ok()?, protocol))
        })
        .collect();
    order::sort_by_key(&mut ports, |(number, protocol)| (*number, *protocol != "tcp"));
    if let Some((number, protocol)) = ports.first() {
        env.push(format!("{prefix}_PORT={protocol}://{address}:{number}"));
    }
    for (number, protocol) in ports {
        let name = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        env.push(format!("{name}={protocol}://{address}:{number}"));
        env.push(format!("{name}_ADDR={address}"));
        env.push(format!("{name}_PORT={number}"));
        env.push(format!("{name}_PROTO={protocol}"));
    }
    for (key, value) in other.config.env.iter().flatten().filter_map(|e| e.split_once('=')) {
        if !OWN.contains(&key) {
            env.push(format!("{prefix}_ENV_{key}={value}"));
        }
    }
}

/// The links of such a network.
pub fn given(host: &HostConfig) -> Option<&[String]> {
    host.links.as_deref().filter(|l| legacy(host) && !l.is_empty())
}

/// `HostConfig.Links` for `inspect`, which has only those of the default bridge.
pub fn shown(engine: &Engine, record: &Record) -> Option<Vec<String>> {
    let links = given(&record.host_config)?;
    let show = |link: &String| {
        let (target, alias) = split(link);
        let name = engine.containers.get(target).map_or_else(|_| target.to_owned(), |c| c.name());
        format!("/{name}:/{}/{alias}", record.name)
    };
    Some(links.iter().map(show).collect())
}

/// The names that links give, by the id of the container they lead to.
pub fn names(engine: &Engine) -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for parent in engine.containers.all() {
        let (name, links) = {
            let live = parent.live();
            let Some(links) = given(&live.record.host_config) else { continue };
            (live.record.name.clone(), links.to_vec())
        };
        for link in &links {
            let (target, alias) = split(link);
            if let Ok(other) = engine.containers.get(target) {
                names.entry(other.id.clone()).or_default().push(format!("/{name}/{alias}"));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_a_link() {
        let mut other = Record::default();
        other.networks.insert(
            "bridge".into(),
            EndpointSettings { ip_address: "172.17.0.2".into(), ..EndpointSettings::default() },
        );
        other.config.exposed_ports =
            Some(["6379/tcp", "53/udp"].map(|p| (p.to_owned(), Default::default())).into_iter().collect());
        other.config.env = Some(vec!["PATH=/x".into(), "MODE=fast".into()]);
        let mut env = Vec::new();
        variables("web", "my-db", &other, &mut env);
        assert_eq!(env[0], "MY_DB_NAME=/web/my-db");
        assert_eq!(env[1], "MY_DB_PORT=udp://172.17.0.2:53");
        assert!(env.contains(&"MY_DB_PORT_6379_TCP_ADDR=172.17.0.2".to_owned()));
        assert!(env.contains(&"MY_DB_ENV_MODE=fast".to_owned()) && !env.iter().any(|e| e.contains("ENV_PATH")));
        assert_eq!(split("/a:/web/b"), ("a", "b"));
        assert_eq!(split("a"), ("a", "a"));
    }
}
