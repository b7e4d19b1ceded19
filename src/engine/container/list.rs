//! `docker ps`: which containers, in which order, in Docker's shape.

use super::record::{MountKind, Record};
use super::state::Phase;
use super::{image, inspect, links, size};
use crate::api::container::{ContainerSummary, Port, SummaryHostConfig, SummaryNetworks};
use crate::api::filters::Filters;
use crate::api::network::EndpointSettings;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::util::order;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Default)]
pub struct Options {
    pub all: bool,
    /// The newest so many; not positive means no limit.
    pub limit: i64,
    pub size: bool,
}

const FILTERS: &[&str] = &[
    "ancestor", "before", "exited", "expose", "health", "id", "isolation", "is-task", "label", "name", "network",
    "publish", "since", "status", "volume",
];
const STATES: &[&str] = &["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTH: &[&str] = &["none", "starting", "healthy", "unhealthy"];

pub fn list(engine: &Engine, options: &Options, filters: &Filters) -> Result<Vec<ContainerSummary>> {
    filters.check(FILTERS)?;
    let filter = Filter::new(engine, filters)?;
    let all = options.all || options.limit > 0 || filter.widens;
    let containers = engine.containers.all();
    let mut records: Vec<Record> = containers
        .iter()
        .filter_map(|c| {
            let live = c.live();
            (all || live.record.state.counts_as_running()).then(|| live.record.clone())
        })
        .collect();
    // Newest first; equal times by id, so that the order is stable.
    order::sort_by(&mut records, |a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    let limit = if options.limit > 0 { options.limit as usize } else { usize::MAX };
    let mut list: Vec<ContainerSummary> = records
        .iter()
        .filter(|r| filter.passes(r))
        .take(limit)
        .map(|r| summary(engine, r, options.size))
        .collect::<Result<_>>()?;
    let mut aliases = links::names(engine);
    for line in &mut list {
        line.names.extend(aliases.remove(&line.id).unwrap_or_default());
    }
    Ok(list)
}

/// The filters, looked up once.
struct Filter<'a> {
    filters: &'a Filters,
    /// Statuses and exit codes speak of stopped containers too.
    widens: bool,
    exited: Vec<i32>,
    before: Option<super::state::Nanos>,
    since: Option<super::state::Nanos>,
    /// Image ids whose containers pass; none = no such filter.
    ancestors: Option<BTreeSet<String>>,
    networks: Vec<String>,
}

impl<'a> Filter<'a> {
    fn new(engine: &Engine, filters: &'a Filters) -> Result<Self> {
        let bad =
            |key: &str, value: &str, why: String| Err(Error::invalid(format!("invalid filter '{key}={value}': {why}")));
        for value in filters.get("status") {
            if !STATES.contains(&value.as_str()) {
                let why = format!("invalid value for state ({value}): must be one of {}", STATES.join(", "));
                return bad("status", value, why);
            }
        }
        for value in filters.get("health") {
            if !HEALTH.contains(&value.as_str()) {
                return bad(
                    "health",
                    value,
                    format!("invalid value for health ({value}): must be one of {}", HEALTH.join(", ")),
                );
            }
        }
        let mut exited = Vec::new();
        for value in filters.get("exited") {
            match value.parse() {
                Ok(code) => exited.push(code),
                Err(_) => return bad("exited", value, format!("strconv.Atoi: parsing {value:?}: invalid syntax")),
            }
        }
        for (key, value) in ["publish", "expose"].iter().flat_map(|k| filters.get(k).iter().map(move |v| (k, v))) {
            let range = value.split('/').next().unwrap_or_default();
            if let Some(part) = range.split('-').find(|p| p.parse::<u16>().is_err()) {
                let why = format!("strconv.ParseUint: parsing {part:?}: invalid syntax");
                return Err(Error::invalid(format!("error while looking up for {key} {value}: {why}")));
            }
        }
        for value in filters.get("is-task") {
            if !matches!(value.as_str(), "true" | "1" | "false" | "0") {
                return Err(Error::invalid(format!("invalid filter 'is-task=[{value}]'")));
            }
        }
        let created = |key: &str| -> Result<Option<super::state::Nanos>> {
            let mut time = None;
            for reference in filters.get(key) {
                time = Some(engine.containers.get(reference)?.live().record.created);
            }
            Ok(time)
        };
        let ancestors = filters.get("ancestor");
        Ok(Self {
            widens: !filters.get("status").is_empty() || !exited.is_empty(),
            exited,
            before: created("before")?,
            since: created("since")?,
            ancestors: (!ancestors.is_empty()).then(|| image::descendants(engine, ancestors)),
            networks: filters.get("network").to_vec(),
            filters,
        })
    }

    fn passes(&self, record: &Record) -> bool {
        let f = self.filters;
        let health = record.health.as_ref().map_or("none", |h| h.status.as_str());
        let name = format!("/{}", record.name);
        let labels = record.config.labels.clone().unwrap_or_default();
        let any = |key: &str, test: &dyn Fn(&str) -> bool| {
            let values = f.get(key);
            values.is_empty() || values.iter().any(|v| test(v))
        };
        (f.get("name").is_empty() || f.regex("name", &name) || f.regex("name", &record.name))
            && f.regex("id", &record.id)
            && f.pairs("label", &labels)
            && any("status", &|s| record.state.status() == s)
            && any("health", &|h| health == h)
            && any("is-task", &|t| matches!(t, "false" | "0"))
            && any("isolation", &|_| false)
            && (self.exited.is_empty()
                || (record.state.phase == Phase::Exited && self.exited.contains(&record.state.exit_code)))
            && self.before.is_none_or(|t| record.created < t)
            && self.since.is_none_or(|t| record.created > t)
            && self.ancestors.as_ref().is_none_or(|a| a.contains(&record.image_id) || a.contains(&record.config.image))
            && any("volume", &|v| {
                record
                    .mounts
                    .iter()
                    .any(|m| (m.kind == MountKind::Volume && m.name == v) || m.destination == v || m.source == v)
            })
            && (self.networks.is_empty()
                || record.networks.iter().any(|(name, e)| {
                    self.networks.iter().any(|w| w == name || (!e.network_id.is_empty() && e.network_id.starts_with(w)))
                }))
            && any("publish", &|wanted| port_in(wanted, &published(record)))
            && any("expose", &|wanted| port_in(wanted, &exposed(record)))
    }
}

/// Ports as `number/protocol`.
fn published(record: &Record) -> Vec<String> {
    let bindings = record.ports.values().flatten().flatten();
    bindings
        .map(|b| b.host_port.clone())
        .chain(record.ports.iter().filter(|(_, b)| b.is_some()).map(|(p, _)| p.clone()))
        .collect()
}

fn exposed(record: &Record) -> Vec<String> {
    record.config.exposed_ports.iter().flatten().map(|(p, _)| p.clone()).collect()
}

/// `80`, `80/udp`, `80-90/tcp` against a list of ports.
fn port_in(wanted: &str, ports: &[String]) -> bool {
    let (range, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return false };
    ports.iter().any(|port| {
        let (number, p) = port.split_once('/').unwrap_or((port, "tcp"));
        p == protocol && number.parse::<u16>().is_ok_and(|n| (first..=last).contains(&n))
    })
}

/// One line of the list.
pub fn summary(engine: &Engine, record: &Record, with_size: bool) -> Result<ContainerSummary> {
    let sizes = if with_size { size::of(engine, record)? } else { size::Sizes::default() };
    let health = record.health.as_ref().filter(|_| record.state.is_up()).map(|h| match h.status.as_str() {
        "starting" => "health: starting".to_owned(),
        other => other.to_owned(),
    });
    Ok(ContainerSummary {
        id: record.id.clone(),
        names: vec![format!("/{}", record.name)],
        image: image_name(engine, record),
        image_id: record.image_id.clone(),
        command: command_text(record),
        created: record.created.0.div_euclid(1_000_000_000),
        ports: ports(record),
        size_rw: sizes.rw as i64,
        size_root_fs: sizes.root_fs as i64,
        labels: record.config.labels.clone().unwrap_or_default(),
        state: record.state.status().into(),
        status: record.state.text(health.as_deref()),
        host_config: SummaryHostConfig {
            network_mode: record.host_config.network_mode.clone(),
            annotations: record.host_config.annotations.clone(),
        },
        network_settings: SummaryNetworks { networks: networks(record) },
        mounts: inspect::mount_points(record),
    })
}

/// What a container got; of what was asked for only the addresses and the priority, as in the original.
fn networks(record: &Record) -> BTreeMap<String, EndpointSettings> {
    let shown = |e: &EndpointSettings| EndpointSettings {
        links: None,
        aliases: None,
        driver_opts: None,
        dns_names: None,
        ..e.clone()
    };
    record.networks.iter().map(|(name, e)| (name.clone(), shown(e))).collect()
}

/// The name it was created by, while that name still means the same image.
fn image_name(engine: &Engine, record: &Record) -> String {
    match image::still_names(engine, &record.config.image, &record.image_id) {
        true => record.config.image.clone(),
        false => record.image_id.clone(),
    }
}

fn command_text(record: &Record) -> String {
    let quoted = |arg: &String| if arg.contains(' ') { format!("'{arg}'") } else { arg.clone() };
    let args: Vec<String> = record.args.iter().map(quoted).collect();
    match args.is_empty() {
        true => record.path.clone(),
        false => format!("{} {}", record.path, args.join(" ")),
    }
}

/// One entry per binding; an exposed port without one stands alone.
pub fn ports(record: &Record) -> Vec<Port> {
    if !record.state.is_up() {
        return Vec::new();
    }
    let mut list = Vec::new();
    for (port, bindings) in &record.ports {
        let (number, kind) = port.split_once('/').unwrap_or((port, "tcp"));
        let private_port = number.parse().unwrap_or_default();
        let kind = kind.to_owned();
        match bindings.as_ref().filter(|b| !b.is_empty()) {
            None => list.push(Port { ip: String::new(), private_port, public_port: 0, kind }),
            Some(bindings) => list.extend(bindings.iter().map(|b| Port {
                ip: b.host_ip.clone(),
                private_port,
                public_port: b.host_port.parse().unwrap_or_default(),
                kind: kind.clone(),
            })),
        }
    }
    list
}

/// All containers for `system df`, with sizes.
pub fn usage(engine: &Engine) -> Result<Vec<ContainerSummary>> {
    list(engine, &Options { all: true, size: true, ..Options::default() }, &Filters::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_like_dockers() {
        let record = Record { path: "sh".into(), args: vec!["-c".into(), "echo a".into()], ..Record::default() };
        assert_eq!(command_text(&record), "sh -c 'echo a'");
        assert_eq!(command_text(&Record { path: "true".into(), ..Record::default() }), "true");
    }

    #[test]
    fn port_filters() {
        let ports = ["80/tcp".to_owned(), "53/udp".to_owned()];
        assert!(port_in("80", &ports) && port_in("70-90/tcp", &ports) && port_in("53/udp", &ports));
        assert!(!port_in("53", &ports) && !port_in("x", &ports));
    }
}
