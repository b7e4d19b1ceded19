//! `docker rm`, and the removal that `--rm` asked for. Holds the container's turn.

use super::state::Phase;
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
        let state = &live.record.state;
        if state.counts_as_running() && !options.force {
            let advice = match state.phase {
                Phase::Paused => "must be unpaused first",
                _ => "stop the container before removing or force remove",
            };
            let separator = if state.phase == Phase::Paused { " and " } else { ": " };
            let word = state.status();
            return Err(context(Error::conflict(format!("container is {word}{separator}{advice}"))));
        }
        live.record.state.removing = true;
        live.no_restart = true;
    }
    let result = (|| {
        stop::kill_for_removal(engine, &container)?;
        let turn = container.turn();
        remove_in_turn(engine, &container, &turn, options.volumes)
    })();
    if result.is_err() {
        container.live().record.state.removing = false;
    }
    result.map_err(context)
}

fn remove_link(engine: &Arc<Engine>, reference: &str) -> Result<()> {
    let bad = || Error::invalid(format!("Conflict, cannot remove the default link name of the container: {reference}"));
    let (parent, alias) = reference.trim_start_matches('/').split_once('/').ok_or_else(bad)?;
    let container = engine.containers.get(parent)?;
    {
        let mut live = container.live();
        let links = live.record.host_config.links.get_or_insert_default();
        let before = links.len();
        links.retain(|l| l.rsplit([':', '/']).next() != Some(alias));
        if links.len() == before {
            return Err(Error::not_found(format!("could not find a link named {alias} of container {parent}")));
        }
    }
    container.save(engine, Durability::Synced)
}

/// Removes what does not run. Whoever waits for the removal is woken when the
/// name is free.
pub fn remove_in_turn(engine: &Arc<Engine>, container: &Arc<Container>, _: &Turn<'_>, volumes: bool) -> Result<()> {
    let record = {
        let mut live = container.live();
        if live.removed {
            return Ok(());
        }
        live.record.state.removing = true;
        live.pending.clear();
        if let Some(ticket) = live.restart_ticket.take() {
            engine.timers.cancel(ticket);
        }
        live.record.clone()
    };
    container.attaches_taken.notify();
    let id = &container.id;
    // The record goes first: what is left after a crash is then no container any
    // more, and the start-up tidies its folder and layer.
    let result = match std::fs::remove_file(container.config_path()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", container.config_path().display()))
        }
        _ => Ok(()),
    }
    .and_then(|()| engine.driver.remove_rw(id))
    .and_then(|()| match std::fs::remove_dir_all(&container.dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", container.dir.display()))
        }
        _ => Ok(()),
    });
    if let Err(e) = result {
        {
            let mut live = container.live();
            live.record.state.phase = Phase::Dead;
            live.record.state.removing = false;
        }
        let _ = container.save(engine, Durability::Renamed);
        container.notify();
        return Err(e.context(format_args!("container {id}")));
    }
    for exec in std::mem::take(&mut container.live().exec_ids) {
        engine.execs.remove(&exec);
    }
    engine.containers.remove(id);
    release_volumes(engine, &record, volumes);
    container.live().removed = true;
    publish(engine, container, "destroy", &[]);
    container.notify();
    Ok(())
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
