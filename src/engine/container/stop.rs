//! `stop`, `kill`, `restart`, `pause`, `unpause`. Request threads; they signal and
//! then wait for the exit to be settled by others, holding no turn meanwhile.

use super::state::Phase;
use super::{Container, Live, publish, start};
use crate::engine::watch::Woken;
use crate::engine::{Engine, signal};
use crate::error::{Context, Error, Kind, Result};
use crate::util::atomic_file::Durability;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const DEFAULT_TIMEOUT: i64 = 10;
/// After SIGKILL the kernel needs a moment, on a loaded board several.
const AFTER_KILL: Duration = Duration::from_secs(30);

fn not_running(id: &str) -> Error {
    Error::conflict(format!("container {id} is not running"))
}

/// `signal` and `timeout` (seconds, negative for ever) override the container's.
pub fn stop(engine: &Arc<Engine>, reference: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
    let container = engine.containers.get(reference)?;
    container.await_start();
    if !container.live().record.state.counts_as_running() {
        return Err(Error::not_modified());
    }
    let signal = signal.map(signal::parse).transpose()?;
    halt(engine, &container, signal, timeout).map_err(|e| e.context(format_args!("cannot stop container: {reference}")))
}

/// Stops it and publishes `stop`. Someone else may be quicker: that is success.
fn halt(engine: &Arc<Engine>, container: &Arc<Container>, signal: Option<i32>, timeout: Option<i64>) -> Result<()> {
    let (own_signal, own_timeout) = {
        let live = container.live();
        (live.record.config.stop_signal.clone(), live.record.config.stop_timeout)
    };
    let signal = signal.or_else(|| signal::parse(&own_signal).ok()).unwrap_or(signal::TERM);
    let timeout = timeout.or(own_timeout).unwrap_or_else(|| engine.config.live().stop_timeout);
    let Some(exits) = end_policy(engine, container) else {
        publish(engine, container, "stop", &[]);
        return Ok(());
    };
    let deadline = (timeout >= 0).then(|| Duration::from_secs(timeout as u64));
    let sent = deliver(engine, container, signal);
    let ended = match sent {
        Ok(()) => wait_exit(container, exits, deadline)?,
        Err(_) => false,
    };
    if !ended {
        if let Err(e) = deliver(engine, container, signal::KILL)
            && container.live().record.state.is_up()
        {
            return Err(e);
        }
        if !wait_exit(container, exits, Some(AFTER_KILL))? {
            return Err(Error::system("tried to kill container, but did not receive an exit event"));
        }
    }
    publish(engine, container, "stop", &[]);
    Ok(())
}

/// Nobody starts it again by its policy. A container that waits for its policy has
/// no process to signal and is down by that alone: `None`. Else the number of its
/// exits so far, to wait for the next.
fn end_policy(engine: &Engine, container: &Container) -> Option<u64> {
    let forbid = |live: &mut Live| {
        live.no_restart = true;
        live.record.state.manually_stopped = true;
        (live.record.state.phase != Phase::Restarting).then_some(live.exits)
    };
    // Said and looked at under one lock: an exit that is settled later finds it.
    if let Some(exits) = forbid(&mut container.live()) {
        return Some(exits);
    }
    // The policy may be starting it this moment; after its turn it runs or waits.
    let _turn = container.turn();
    {
        let mut live = container.live();
        if let Some(exits) = forbid(&mut live) {
            return Some(exits);
        }
        live.record.state.phase = Phase::Exited;
        if let Some(ticket) = live.restart_ticket.take() {
            engine.timers.cancel(ticket);
        }
    }
    if let Err(e) = container.save(engine, Durability::Renamed) {
        crate::warn!("cannot save a container", "id" = container.id, "error" = e);
    }
    container.notify();
    None
}

/// Sends a signal and publishes `kill`. A paused container is thawed, so that
/// the signal lands. A process that has just ended takes it as well: its exit is on
/// the way here, and nobody may act on a container that is up until it has arrived.
pub(super) fn deliver(engine: &Engine, container: &Container, signal: i32) -> Result<()> {
    let paused = container.live().record.state.phase == Phase::Paused;
    match engine.runtime.signal(&container.id, signal) {
        Err(e) if e.kind() == Kind::Conflict && container.live().record.state.is_up() => return Ok(()),
        other => other?,
    }
    if paused {
        engine.runtime.unpause(&container.id)?;
        let mut live = container.live();
        if live.record.state.phase == Phase::Paused {
            live.record.state.phase = Phase::Running;
        }
    }
    publish(engine, container, "kill", &[("signal", &signal.to_string())]);
    Ok(())
}

/// True once the run that was the `exits`th is over and settled.
pub(super) fn wait_exit(container: &Container, exits: u64, timeout: Option<Duration>) -> Result<bool> {
    // So long that no clock shows it is for ever.
    let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
    let watcher = container.changed.watch()?;
    loop {
        {
            let live = container.live();
            if live.exits > exits || live.removed || !live.record.state.is_up() {
                return Ok(true);
            }
        }
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        if watcher.wait(None, left)? == Woken::TimedOut {
            return Ok(false);
        }
    }
}

/// `kill`: SIGKILL waits for the end, other signals do not.
pub fn kill(engine: &Arc<Engine>, reference: &str, signal: Option<&str>) -> Result<()> {
    let context = |e: Error| e.context(format_args!("cannot kill container: {reference}"));
    let container = engine.containers.get(reference).map_err(context)?;
    container.await_start();
    let signal = match signal {
        None | Some("") => signal::KILL,
        Some(text) => signal::deliverable(text).map_err(context)?,
    };
    kill_with(engine, &container, signal).map_err(context)
}

fn kill_with(engine: &Arc<Engine>, container: &Arc<Container>, signal: i32) -> Result<()> {
    if !container.live().record.state.counts_as_running() {
        return Err(not_running(&container.id));
    }
    let stop_signal = container.live().record.config.stop_signal.clone();
    let final_signal =
        signal == signal::KILL || stop_signal.is_empty() || signal::parse(&stop_signal).is_ok_and(|s| s == signal);
    let exits = if final_signal {
        let Some(exits) = end_policy(engine, container) else {
            return Ok(());
        };
        exits
    } else {
        let mut live = container.live();
        live.record.state.manually_stopped = true;
        live.exits
    };
    match deliver(engine, container, signal) {
        Err(_) if !container.live().record.state.is_up() => return Err(not_running(&container.id)),
        other => other?,
    }
    if signal == signal::KILL && !wait_exit(container, exits, Some(AFTER_KILL))? {
        return Err(Error::system("tried to kill container, but did not receive an exit event"));
    }
    Ok(())
}

/// Ends a container that is about to be removed by force.
pub fn kill_for_removal(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<()> {
    match kill_with(engine, container, signal::KILL) {
        Err(e) if e.kind() == Kind::Conflict => Ok(()),
        other => other,
    }
}

/// Stop, if it runs, and start. Events: kill, die, stop, start, restart.
pub fn restart(engine: &Arc<Engine>, reference: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
    let container = engine.containers.get(reference)?;
    let context = |e: Error| e.context(format_args!("Cannot restart container {reference}"));
    let signal = signal.map(signal::parse).transpose()?;
    // The removal after the exit would take the container away in between.
    let auto_remove = std::mem::replace(&mut container.live().record.host_config.auto_remove, false);
    let result = (|| {
        if container.live().record.state.counts_as_running() {
            halt(engine, &container, signal, timeout)?;
        }
        let turn = container.turn();
        {
            let mut live = container.live();
            if live.record.state.is_up() {
                return Ok(());
            }
            live.record.restart_count = 0;
            live.record.state.manually_stopped = false;
            live.backoff.reset();
        }
        start::start_in_turn(engine, &container, &turn)
    })();
    container.live().record.host_config.auto_remove = auto_remove;
    result.map_err(context)?;
    container.save(engine, Durability::Renamed)?;
    publish(engine, &container, "restart", &[]);
    Ok(())
}

pub fn pause(engine: &Arc<Engine>, reference: &str) -> Result<()> {
    let container = engine.containers.get(reference)?;
    let turn = container.turn();
    match container.live().record.state.phase {
        Phase::Running => {}
        Phase::Paused => return Err(Error::conflict(format!("container {} is already paused", container.id))),
        Phase::Restarting => {
            return Err(Error::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                container.id
            )));
        }
        _ => return Err(not_running(&container.id)),
    }
    engine.runtime.pause(&container.id).with_context(|| format!("cannot pause container {}", container.id))?;
    set_phase(engine, &container, Phase::Running, Phase::Paused)?;
    drop(turn);
    publish(engine, &container, "pause", &[]);
    Ok(())
}

pub fn unpause(engine: &Arc<Engine>, reference: &str) -> Result<()> {
    let container = engine.containers.get(reference)?;
    let turn = container.turn();
    if container.live().record.state.phase != Phase::Paused {
        return Err(Error::system(format!("Container {} is not paused", container.id)));
    }
    engine.runtime.unpause(&container.id).with_context(|| format!("Cannot unpause container {}", container.id))?;
    set_phase(engine, &container, Phase::Paused, Phase::Running)?;
    drop(turn);
    publish(engine, &container, "unpause", &[]);
    Ok(())
}

fn set_phase(engine: &Engine, container: &Container, from: Phase, to: Phase) -> Result<()> {
    {
        let mut live = container.live();
        if live.record.state.phase == from {
            live.record.state.phase = to;
        }
    }
    container.save(engine, Durability::Renamed)?;
    container.notify();
    Ok(())
}
