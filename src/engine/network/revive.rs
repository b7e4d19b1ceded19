//! What happens when netd dies: another is started, the bridges are made again,
//! and every running container gets its links, addresses, ports and names back.
//! Connections that the dead one carried are lost; all else is as it was.
//!
//! Also at the start of a dockerd that finds containers running and no netd.

use super::allocate::{self, Place};
use crate::engine::Engine;
use crate::engine::container::{record::Record, recover, start};
use crate::error::{Context, Error, Result};
use crate::net::client::{Conversation, Reviver, Starting};
use crate::net::protocol::{EndpointState, PortSpec, Protocol, SandboxSpec, SandboxState};
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

    fn restore(&self, netd: &Conversation<'_>, starting: &Starting) {
        let Some(engine) = self.engine.upgrade() else { return };
        if let Err(e) = restore(&engine, netd, starting) {
            crate::error!("cannot make the networks again", "error" = e);
        }
    }
}

/// Has netd make the bridges, so that the first container finds a prepared
/// namespace, and watches over it. A thread of its own: the daemon need not wait.
pub fn watch(engine: &Arc<Engine>) {
    engine.networks.netd.set_reviver(Box::new(Recovery { engine: Arc::downgrade(engine), last: Mutex::default() }));
    let engine = engine.clone();
    let body = move || {
        loop {
            // Any call will do: it finds out whether there is one, starts another
            // and tells it what is live.
            if let Err(e) = engine.networks.netd.status() {
                crate::error!("there is no network process", "error" = e);
                std::thread::sleep(PAUSE);
            }
            if engine.config.start_netd.is_none() {
                return;
            }
            engine.networks.netd.wait_until_gone();
        }
    };
    if let Err(e) = thread::start("network-watch", 256 << 10, body) {
        crate::warn!("cannot watch over the network process", "error" = e);
    }
}

/// Tells netd of all networks, and of the running and starting containers that
/// it does not know.
fn restore(engine: &Engine, netd: &Conversation<'_>, starting: &Starting) -> Result<()> {
    for socket in &*engine.config.port_sockets {
        if let Err(e) = netd.keep(socket) {
            crate::error!("a passed socket cannot serve a published port", "error" = e);
        }
    }
    for spec in engine.networks.specs()? {
        let name = spec.name.clone();
        if let Err(e) = netd.set_network(spec) {
            crate::error!("cannot make a network again", "network" = name, "error" = e);
        }
    }
    let known = netd.list()?;
    let lost = |id: &str| !known.iter().any(|s| s.container == id);
    for (id, (spec, namespace)) in starting.iter().filter(|(id, _)| lost(id)) {
        settle(engine, id, netd.adopt(spec.clone(), namespace));
    }
    // Whose record does not say what it had gets an address that nobody has: last.
    let (complete, others): (Vec<_>, Vec<_>) =
        engine.containers.all().into_iter().partition(|c| !c.record().sandbox_id.is_empty());
    for container in complete.into_iter().chain(others) {
        let record = container.record();
        let mode = record.host_config.network_mode.as_str();
        let own = !mode.starts_with("container:") && mode != "host" && mode != "none";
        let running = record.state.is_up() && record.state.pid != 0;
        if own && running && lost(&record.id) && !starting.contains_key(&record.id) {
            match sandbox(engine, &record) {
                Ok(Some((spec, namespace))) => {
                    settle(engine, &record.id, netd.adopt(spec, &namespace));
                    if record.sandbox_id.is_empty() {
                        recover::complete(engine, &container);
                    }
                }
                // It has ended, which somebody is about to notice.
                Ok(None) => {}
                Err(e) => settle(engine, &record.id, Err(e)),
            }
        }
    }
    Ok(())
}

fn settle(engine: &Engine, id: &str, adopted: Result<SandboxState>) {
    match adopted {
        Ok(state) => {
            crate::info!("a container has its networks back", "container" = id);
            engine.networks.live().insert(id.to_owned(), state);
        }
        Err(e) => crate::error!("a container has lost its networks", "container" = id, "error" = e),
    }
}

/// What a running container has, as its record and the last netd's answers say.
/// None: it does not run any more.
fn sandbox(engine: &Engine, record: &Record) -> Result<Option<(SandboxSpec, OwnedFd)>> {
    // A link to what has ended meanwhile would be an error at a start.
    let wanted = start::wanted(engine, record).or_else(|_| {
        let mut without = record.clone();
        without.host_config.links = None;
        start::wanted(engine, &without)
    })?;
    let path = format!("/proc/{}/ns/net", record.state.pid);
    let namespace = match std::fs::File::open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.with_context(|| format!("open {path}"))?,
    };
    let order = allocate::order(&engine.networks, &wanted)?;
    let mut spec = allocate::sandbox_spec(&wanted, &order)?;
    if record.sandbox_id.is_empty() {
        // Its daemon died before the record heard of its start.
        return Ok(Some((spec, namespace.into())));
    }
    let before = engine.networks.live().get(&record.id).map(|s| s.endpoints.clone()).unwrap_or_default();
    refill(&mut spec, &order, &before);
    spec.ports = ports(record)?;
    Ok(Some((spec, namespace.into())))
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
