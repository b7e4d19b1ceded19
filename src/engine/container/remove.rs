//! `docker rm`, and the removal that `--rm` asked for. Holds the container's turn.

use super::state::{Phase, State};
use super::{Container, Turn, publish, stop};
use crate::engine::{Engine, volume};
use crate::error::{Context, Error, Result};
use crate::util::atomic_file::Durability;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    pub force: bool,
    /// `-v`: anonymous volumes too.
    pub volumes: bool,
    /// Only the link of that name.
    pub link: bool,
}

pub fn remove(engine: &Arc<Engine>, reference: &str, options: Options) -> Result<()> {
    if options.link {
        return remove_link(engine, reference);
    }
    let container = engine.containers.get(reference)?;
    let name = container.name();
    let context = |e: Error| e.context(format_args!("cannot remove container \"{name}\""));
    {
        let mut live = container.live();
        if live.record.state.removing || live.removed {
            return Err(Error::conflict(format!("removal of container {reference} is already in progress")));
        }
        refuse_running(&live.record.state, options.force).map_err(context)?;
        live.record.state.removing = true;
        live.no_restart = true;
    }
    let result = loop {
        if let Err(e) = stop::kill_for_removal(engine, &container) {
            break Err(e);
        }
        let turn = container.turn();
        let state = container.live().record.state.clone();
        if !state.is_up() {
            break remove_in_turn(engine, &container, &turn, options.volumes);
        }
        // A start that was under way had the turn, and what it started runs now.
        if let Err(e) = refuse_running(&state, options.force) {
            break Err(e);
        }
    };
    if result.is_err() {
        container.live().record.state.removing = false;
    }
    result.map_err(context)
}

fn refuse_running(state: &State, force: bool) -> Result<()> {
    if force || !state.counts_as_running() {
        return Ok(());
    }
    let advice = match state.phase {
        Phase::Paused => " and must be unpaused first",
        _ => ": stop the container before removing or force remove",
    };
    Err(Error::conflict(format!("container is {}{advice}", state.status())))
}

fn remove_link(engine: &Arc<Engine>, reference: &str) -> Result<()> {
    let bad = || Error::invalid(format!("Conflict, cannot remove the default link name of the container: {reference}"));
    let (parent, alias) = reference.trim_start_matches('/').split_once('/').ok_or_else(bad)?;
    let container = engine.containers.get(parent)?;
    {
        let mut live = container.live();
        let links = live.record.host_config.links.get_or_insert_default();
        let before = links.len();
        links.retain(|l| super::links::split(l).1 != alias);
        if links.len() == before {
            return Err(Error::not_found(format!("could not find a link named {alias} of container {parent}")));
        }
    }
    container.save(engine, Durability::Synced)
}

/// Removes what does not run. Whoever waits for the removal is woken when the
/// name is free and the disk too.
pub fn remove_in_turn(engine: &Arc<Engine>, container: &Arc<Container>, _: &Turn<'_>, volumes: bool) -> Result<()> {
    let Some(record) = begin(engine, container) else { return Ok(()) };
    let result = remove_record(container).and_then(|()| erase(engine, container));
    if let Err(e) = result {
        {
            let mut live = container.live();
            live.record.state.phase = Phase::Dead;
            live.record.state.removing = false;
        }
        let _ = container.save(engine, Durability::Renamed);
        container.notify();
        return Err(e.context(format_args!("container {}", container.id)));
    }
    forget(engine, container, &record, volumes);
    Ok(())
}

/// The removal that `--rm` asked for. Who waits is woken as soon as the name is
/// free; the writable layer goes after that, and if it does not, the next start
/// of the daemon tidies it.
pub fn remove_after_exit(engine: &Arc<Engine>, container: &Arc<Container>, _: &Turn<'_>) -> Result<()> {
    let Some(record) = begin(engine, container) else { return Ok(()) };
    remove_record(container)?;
    forget(engine, container, &record, true);
    erase(engine, container)
}

/// None if somebody else has removed it.
fn begin(engine: &Engine, container: &Container) -> Option<super::record::Record> {
    let record = {
        let mut live = container.live();
        if live.removed {
            return None;
        }
        live.record.state.removing = true;
        live.pending.clear();
        if let Some(ticket) = live.restart_ticket.take() {
            engine.timers.cancel(ticket);
        }
        live.record.clone()
    };
    container.attaches_taken.notify();
    Some(record)
}

/// The record goes first: what is left after a crash is then no container any
/// more, and the start-up tidies its folder and layer.
fn remove_record(container: &Container) -> Result<()> {
    match std::fs::remove_file(container.config_path()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", container.config_path().display()))
        }
        _ => Ok(()),
    }
}

fn erase(engine: &Engine, container: &Container) -> Result<()> {
    engine.driver.remove_rw(&container.id)?;
    for dir in [&container.dir, &engine.runtime.run_dir(&container.id)] {
        match std::fs::remove_dir_all(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("remove {}", dir.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn forget(engine: &Engine, container: &Container, record: &super::record::Record, volumes: bool) {
    for exec in std::mem::take(&mut container.live().exec_ids) {
        engine.execs.remove(&exec);
    }
    engine.containers.remove(&container.id);
    release_volumes(engine, record, volumes);
    container.live().removed = true;
    publish(engine, container, "destroy", &[]);
    container.notify();
}

fn release_volumes(engine: &Engine, record: &super::record::Record, anonymous_too: bool) {
    for mount in record.mounts.iter().filter(|m| !m.name.is_empty()) {
        engine.volumes.drop_user(&mount.name, &record.id);
        // Volumes that others use, or that came with --volumes-from, stay.
        if anonymous_too && mount.anonymous && engine.volumes.users(&mount.name).is_empty() {
            let _ = volume::remove(engine, &mount.name, true);
        }
    }
}
