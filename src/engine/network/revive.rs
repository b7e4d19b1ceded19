//! What happens when netd dies: another is started, the bridges are made again,
//! and every running container gets its links, addresses, ports and names back.
//! Connections that the dead one carried are lost; all else is as it was.
//!
//! Also at the start of a dockerd that finds containers running and no netd.

use super::allocate::{self, Place};
use crate::engine::Engine;
use crate::engine::container::{record::Record, start};
use crate::error::{Context, Error, Result};
use crate::net::client::{Conversation, Reviver};
use crate::net::protocol::{EndpointState, PortSpec, Protocol, SandboxSpec};
use crate::util::thread;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// A netd that dies this often is not started again.
const PAUSE: Duration = Duration::from_secs(2);

struct Recovery {
    engine: Weak<Engine>,
    last: Mutex<Option<Instant>>,
}

impl Reviver for Recovery {
    fn start(&self, exec_root: &Path) -> Result<()> {
        let engine = self.engine.upgrade().ok_or_else(Error::cancelled)?;
        let start = engine.config.start_netd.ok_or_else(|| Error::system("the network process has ended"))?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|t| t.elapsed() < PAUSE) {
            return Err(Error::system("the network process has ended again at once; see the daemon's log"));
        }
        *last = Some(Instant::now());
        crate::warn!("the network process has ended; starting another");
        start(exec_root)
    }

    fn restore(&self, netd: &Conversation<'_>) {
        let Some(engine) = self.engine.upgrade() else { return };
        match engine.networks.specs() {
            Ok(specs) => {
                for spec in specs {
                    let name = spec.name.clone();
                    if let Err(e) = netd.set_network(spec) {
                        crate::error!("cannot make a network again", "network" = name, "error" = e);
                    }
                }
            }
            Err(e) => crate::error!("cannot make the networks again", "error" = e),
        }
        restore(&engine, |_| true, |spec, namespace| netd.adopt(spec, namespace));
    }
}

/// Has netd make the bridges, so that the first container finds a prepared
/// namespace, and watches over it. A thread of its own: the daemon need not wait.
pub fn watch(engine: &Arc<Engine>) {
    engine.networks.netd.set_reviver(Box::new(Recovery { engine: Arc::downgrade(engine), last: Mutex::default() }));
    let engine = engine.clone();
    let body = move || {
        if let Err(e) = engine.networks.tell_netd() {
            crate::warn!("the network process does not answer", "error" = e);
        }
        let known = engine.networks.netd.list().unwrap_or_default();
        let lost = |id: &str| !known.iter().any(|s| s.container == id);
        restore(&engine, lost, |spec, namespace| engine.networks.netd.adopt(spec, namespace));
        while engine.config.start_netd.is_some() {
            engine.networks.netd.wait_until_gone();
            // Any call will do: it finds out and starts another.
            if let Err(e) = engine.networks.netd.status() {
                crate::error!("there is no network process", "error" = e);
                std::thread::sleep(PAUSE);
            }
        }
    };
    if let Err(e) = thread::start("network-watch", 256 << 10, body) {
        crate::warn!("cannot watch over the network process", "error" = e);
    }
}

/// Gives running containers their networks back.
fn restore(
    engine: &Arc<Engine>,
    lost: impl Fn(&str) -> bool,
    adopt: impl Fn(SandboxSpec, &OwnedFd) -> Result<crate::net::protocol::SandboxState>,
) {
    for container in engine.containers.all() {
        let record = container.record();
        let mode = record.host_config.network_mode.as_str();
        let own = !mode.starts_with("container:") && mode != "host" && mode != "none";
        if !own || !record.state.is_up() || record.state.pid == 0 || !lost(&record.id) {
            continue;
        }
        let done = sandbox(engine, &record).and_then(|(spec, namespace)| adopt(spec, &namespace));
        match done {
            Ok(state) => {
                crate::info!("a container has its networks back", "container" = record.name);
                engine.networks.live().insert(record.id, state);
            }
            Err(e) => crate::error!("a container has lost its networks", "container" = record.name, "error" = e),
        }
    }
}

/// What a running container has, as its record and the last netd's answers say.
fn sandbox(engine: &Engine, record: &Record) -> Result<(SandboxSpec, OwnedFd)> {
    // A link to what has ended meanwhile would be an error at a start.
    let wanted = start::wanted(engine, record).or_else(|_| {
        let mut without = record.clone();
        without.host_config.links = None;
        start::wanted(engine, &without)
    })?;
    let path = format!("/proc/{}/ns/net", record.state.pid);
    let namespace = std::fs::File::open(&path).with_context(|| format!("open {path}"))?;
    let order = allocate::order(&engine.networks, &wanted)?;
    let mut spec = allocate::sandbox_spec(&wanted, &order)?;
    let before = engine.networks.live().get(&record.id).map(|s| s.endpoints.clone()).unwrap_or_default();
    refill(&mut spec, &order, &before);
    spec.ports = ports(record)?;
    Ok((spec, namespace.into()))
}

/// The same addresses, names and interfaces as before.
fn refill(spec: &mut SandboxSpec, order: &[Place], before: &[EndpointState]) {
    for (endpoint, (network, settings)) in spec.endpoints.iter_mut().zip(order) {
        let text = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        endpoint.ipv4 = settings.ip_address.parse().ok();
        endpoint.ipv6 = settings.global_ipv6_address.parse().ok();
        endpoint.mac = text(&settings.mac_address);
        if let Some(id) = text(&settings.endpoint_id) {
            endpoint.id = id;
        }
        if let Some(state) = before.iter().find(|e| e.network == network.id) {
            endpoint.names.clone_from(&state.names);
            endpoint.interface = Some(state.interface.clone());
        } else if let Some(names) = &settings.dns_names {
            endpoint.names.clone_from(names);
        }
    }
}

/// The host ports that the container has, not what it once asked for.
fn ports(record: &Record) -> Result<Vec<PortSpec>> {
    let mut specs = Vec::new();
    for (port, bindings) in &record.ports {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let wrong = || Error::system(format!("a port of the record reads {port}"));
        let container_port = number.parse().map_err(|_| wrong())?;
        let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
        for binding in bindings.iter().flatten() {
            let host_ip = binding.host_ip.parse().map_err(|_| wrong())?;
            let host_port = binding.host_port.parse().map_err(|_| wrong())?;
            let host_ports = (host_port, host_port);
            specs.push(PortSpec { container_port, protocol, host_ip, host_ports, with_previous: false });
        }
    }
    Ok(specs)
}
