//! `docker start`, and every start that a policy makes. Runs on a thread of its
//! own request or timer, holding the container's turn.
//!
//! Nothing here syncs the disk: the record is renamed into place and made durable
//! in the background.

use super::record::{MountKind, Record};
use super::state::Phase;
use super::{Container, Pending, Turn, exit, health, links, publish, remove, spec, spec_mounts};
use crate::engine::network::{self, Wanted};
use crate::engine::{Engine, volume};
use crate::error::{Context, Error, Result};
use crate::runtime::Attach;
use crate::util::atomic_file::Durability;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Instant;

/// A start that a person asked for.
pub fn start(engine: &Arc<Engine>, reference: &str) -> Result<()> {
    let container = engine.containers.get(reference)?;
    let turn = container.turn();
    {
        let mut live = container.live();
        check_startable(&live.record)?;
        if live.removed {
            return Err(Error::no_such_container(reference));
        }
        live.record.restart_count = 0;
        live.record.state.manually_stopped = false;
        live.backoff.reset();
        if let Some(ticket) = live.restart_ticket.take() {
            engine.timers.cancel(ticket);
        }
    }
    start_in_turn(engine, &container, &turn)
}

fn check_startable(record: &Record) -> Result<()> {
    let state = &record.state;
    match state.phase {
        _ if state.removing => Err(Error::conflict("container is marked for removal and cannot be started")),
        Phase::Dead => Err(Error::conflict("container is marked for removal and cannot be started")),
        Phase::Paused => Err(Error::conflict("cannot start a paused container, try unpause instead")),
        Phase::Running => Err(Error::not_modified()),
        // Docker counts a restarting one as running; so do its clients.
        Phase::Restarting => Err(Error::not_modified()),
        Phase::Created | Phase::Exited => Ok(()),
    }
}

/// Starts what is not running. The turn is the caller's proof that nobody else
/// starts, settles or removes it now.
pub fn start_in_turn(engine: &Arc<Engine>, container: &Arc<Container>, turn: &Turn<'_>) -> Result<()> {
    let (record, pending, console_size) = {
        let mut live = container.live();
        live.no_restart = false;
        (live.record.clone(), std::mem::take(&mut live.pending), live.console_size.take())
    };
    let attaches = hand_over(container, pending);
    match launch(engine, container, &record, attaches, console_size) {
        Ok(()) => {
            serve_late_attaches(engine, container);
            links::tell_parents(engine, container);
            health::begin(engine, container);
            Ok(())
        }
        Err(e) => Err(failed(engine, container, turn, e)),
    }
}

/// The threads that watched over waiting clients let go of them.
fn hand_over(container: &Container, pending: Vec<Pending>) -> Vec<Attach> {
    let attaches: Vec<Attach> = pending.into_iter().map(|p| p.attach).collect();
    if !attaches.is_empty() {
        container.attaches_taken.notify();
    }
    attaches
}

/// Clients that came between the hand-over and the state "running".
fn serve_late_attaches(engine: &Engine, container: &Container) {
    let late = std::mem::take(&mut container.live().pending);
    for attach in hand_over(container, late) {
        if let Err(e) = engine.runtime.attach(&container.id, attach) {
            crate::debug!("a client attached too late", "id" = container.id, "error" = e);
        }
    }
}

fn launch(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    record: &Record,
    attaches: Vec<Attach>,
    console_size: Option<(u16, u16)>,
) -> Result<()> {
    let run_dir = engine.runtime.run_dir(&record.id);
    match std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&run_dir) {
        Ok(()) => {}
        Err(e) => return Err(e).with_context(|| format!("create {}", run_dir.display())),
    }
    mount_events(engine, record, "mount");
    let joined = record.host_config.network_mode.starts_with("container:");
    let sandbox = match joined {
        true => {
            check_joined(engine, record)?;
            None
        }
        false => Some(
            network::allocate(engine, &wanted(engine, record)?)
                .map_err(|e| e.context("failed to set up container networking"))?,
        ),
    };
    if let Some(sandbox) = &sandbox {
        spec_mounts::write_files(&container.dir, &record.config.hostname, &sandbox.hosts, &sandbox.resolv_conf)?;
        if let Some(owners) = &record.owners {
            spec_mounts::own_files(&container.dir, owners)?;
        }
        let mut live = container.live();
        live.record.networks.clone_from(&sandbox.endpoints);
        live.record.ports.clone_from(&sandbox.ports);
        live.record.sandbox_id.clone_from(&sandbox.sandbox_id);
        live.record.sandbox_key.clone_from(&sandbox.sandbox_key);
        live.record.has_files = true;
    }
    let (spec, fds) = spec::build(engine, container, record, sandbox, console_size)?;
    if let crate::runtime::spec::LogDriver::Local { path, .. } = &spec.log.driver
        && let Some(dir) = path.parent()
    {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    let started = engine.runtime.start(&spec, fds, attaches)?;
    {
        let mut live = container.live();
        live.record.state.set_running(started.pid);
        live.record.host_config.oom_kill_disable =
            live.record.host_config.oom_kill_disable.filter(|_| engine.support.memory);
        live.started = Some(Instant::now());
        live.run += 1;
    }
    engine.networks.netd.started(&record.id);
    container.save(engine, Durability::Renamed)?;
    publish(engine, container, "start", &[]);
    container.notify();
    Ok(())
}

fn check_joined(engine: &Engine, record: &Record) -> Result<()> {
    let other = record.host_config.network_mode.strip_prefix("container:").unwrap_or_default();
    let other = engine.containers.get(other).map_err(|e| e.context("joining network namespace of container"))?;
    if other.id == record.id {
        return Err(Error::system("cannot join own network namespace"));
    }
    let live = other.live();
    if !live.record.state.is_up() {
        return Err(Error::conflict(format!(
            "cannot join network namespace of a non running container: container {} is {}",
            other.id,
            live.record.state.status()
        )));
    }
    Ok(())
}

/// The container as the networks see it.
pub fn wanted(engine: &Engine, record: &Record) -> Result<Wanted> {
    let host = &record.host_config;
    let legacy = links::legacy(host);
    let plain = |port: &String| port.split('/').take(2).collect::<Vec<_>>().join("/");
    let list = |l: &Option<Vec<String>>, default: &[String]| match l {
        Some(l) if !l.is_empty() => l.clone(),
        _ => default.to_vec(),
    };
    Ok(Wanted {
        id: record.id.clone(),
        name: record.name.clone(),
        hostname: record.config.hostname.clone(),
        domainname: record.config.domainname.clone(),
        mode: host.network_mode.clone(),
        endpoints: record.networks.clone(),
        mac_address: record.config.mac_address.clone(),
        port_bindings: host.port_bindings.clone().unwrap_or_default(),
        exposed: record.config.exposed_ports.iter().flatten().map(|(p, _)| plain(p)).collect(),
        publish_all: host.publish_all_ports,
        dns: list(&host.dns, &engine.config.dns),
        dns_search: list(&host.dns_search, &engine.config.dns_search),
        dns_options: list(&host.dns_options, &engine.config.dns_options),
        extra_hosts: host.extra_hosts.clone().unwrap_or_default(),
        links: if legacy { links::resolve(engine, record)? } else { Vec::new() },
        aliases: host.links.clone().filter(|_| !legacy).unwrap_or_default(),
    })
}

/// One event per volume, as Docker has them.
pub fn mount_events(engine: &Engine, record: &Record, action: &str) {
    for mount in record.mounts.iter().filter(|m| m.kind == MountKind::Volume) {
        let rw = mount.rw.to_string();
        let mut more = vec![("container", record.id.as_str())];
        if action == "mount" {
            more.extend([
                ("destination", mount.destination.as_str()),
                ("propagation", mount.propagation.as_str()),
                ("read/write", rw.as_str()),
            ]);
        }
        volume::publish(engine, action, &mount.name, &more);
    }
}

/// The client's exit code for a start that failed, by Docker's reading of the text.
pub fn exit_code_of(text: &str) -> i32 {
    let lower = text.to_lowercase();
    if lower.contains("permission denied") {
        126
    } else if lower.contains("executable file not found") || lower.contains("no such file or directory") {
        127
    } else {
        128
    }
}

/// Takes back what the start had taken and keeps its error in the state.
fn failed(engine: &Arc<Engine>, container: &Arc<Container>, turn: &Turn<'_>, e: Error) -> Error {
    exit::release(engine, container);
    let auto_remove = {
        let mut live = container.live();
        let state = &mut live.record.state;
        state.exit_code = exit_code_of(e.message());
        state.error = e.message().to_owned();
        state.pid = 0;
        if state.phase != Phase::Created {
            state.phase = Phase::Exited;
        }
        live.last_exit = live.record.state.exit_code;
        live.exits += 1;
        live.record.host_config.auto_remove
    };
    if let Err(e) = container.save(engine, Durability::Renamed) {
        crate::warn!("cannot save a container", "id" = container.id, "error" = e);
    }
    container.notify();
    if auto_remove && let Err(e) = remove::remove_in_turn(engine, container, turn, true) {
        crate::warn!("cannot remove a container that did not start", "id" = container.id, "error" = e);
    }
    e
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_failed_starts() {
        assert_eq!(exit_code_of("exec: \"nosuch\": executable file not found in $PATH"), 127);
        assert_eq!(exit_code_of("exec: \"/etc\": is a directory: permission denied"), 126);
        assert_eq!(exit_code_of("network x not found"), 128);
    }
}
