//! What follows the end of a container's process: cleaning up, the restart
//! policy, automatic removal. The runtime's monitor thread brings the news; the
//! work is done on a thread per exit, holding the container's turn.

use super::state::Phase;
use super::{Container, Turn, cgroup, health, publish, remove, restart, start};
use crate::engine::{Engine, exec, network, timer};
use crate::runtime::{Event, ExitRecord};
use crate::util::atomic_file::Durability;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Called on the runtime's monitor thread: must not block.
pub fn on_event(engine: &Arc<Engine>, event: Event) {
    match event {
        Event::Exited { id, exit } => match engine.containers.by_id(&id) {
            Some(container) => {
                let engine = engine.clone();
                timer::spawn("exit", move || settle(&engine, &container, exit));
            }
            None => exec::exited(engine, &id, exit),
        },
        Event::Detached { id } => match engine.containers.by_id(&id) {
            Some(container) => publish(engine, &container, "detach", &[]),
            None => exec::detached(engine, &id),
        },
        Event::Oom { id } => {
            if let Some(container) = engine.containers.by_id(&id) {
                container.live().record.state.oom_killed = true;
                publish(engine, &container, "oom", &[]);
            }
        }
        Event::StdioLost { id } => {
            crate::warn!("a container lost its shim: it runs on without logs and attach", "id" = id);
        }
    }
}

/// A container's process has ended and its output is drained.
pub fn settle(engine: &Arc<Engine>, container: &Arc<Container>, exit: ExitRecord) {
    let turn = container.turn();
    if !container.live().record.state.is_up() {
        return;
    }
    settle_in_turn(engine, container, &turn, exit);
}

fn settle_in_turn(engine: &Arc<Engine>, container: &Arc<Container>, turn: &Turn<'_>, exit: ExitRecord) {
    health::end(engine, container);
    exec::forget_unstarted(engine, container);
    release(engine, container);
    let (again, duration, auto_remove) = {
        let mut live = container.live();
        let live = &mut *live;
        let record = &mut live.record;
        let ran = live.started.take().map_or(Duration::ZERO, |s| s.elapsed());
        let policy = &record.host_config.restart_policy;
        let again = !live.no_restart && restart::after_exit(policy, exit.code, record.restart_count);
        let delay = again.then(|| live.backoff.next(ran));
        let oom = exit.oom || record.state.oom_killed;
        let phase = if again { Phase::Restarting } else { Phase::Exited };
        record.state.set_exited(exit.code, oom, exit.finished(), phase);
        live.exits += 1;
        live.last_exit = exit.code;
        (delay, ran, record.host_config.auto_remove)
    };
    // A record that is about to be removed need not say how the run ended.
    let removing = auto_remove && again.is_none();
    if !removing && let Err(e) = container.save(engine, Durability::Renamed) {
        crate::warn!("cannot save a container", "id" = container.id, "error" = e);
    }
    // The policy's timer is set before anybody hears of the exit, so that a stop
    // that comes now finds it to cancel.
    if let Some(delay) = again {
        schedule_restart(engine, container, delay);
    }
    let code = exit.code.to_string();
    let seconds = duration.as_secs().to_string();
    publish(engine, container, "die", &[("execDuration", &seconds), ("exitCode", &code)]);
    container.notify();
    if removing && let Err(e) = remove::remove_after_exit(engine, container, turn) {
        crate::warn!("cannot remove a container after its exit", "id" = container.id, "error" = e);
    }
}

/// Gives back network, volumes and the run directory. Harmless when repeated.
pub fn release(engine: &Engine, container: &Container) {
    let record = {
        let mut live = container.live();
        let record = live.record.clone();
        for (name, endpoint) in &mut live.record.networks {
            endpoint.mac_address = record.asked_macs.get(name).cloned().unwrap_or_default();
            endpoint.endpoint_id.clear();
            endpoint.gateway.clear();
            endpoint.ip_address.clear();
            endpoint.ip_prefix_len = 0;
            endpoint.ipv6_gateway.clear();
            endpoint.global_ipv6_address.clear();
            endpoint.global_ipv6_prefix_len = 0;
        }
        live.record.ports.clear();
        live.record.sandbox_id.clear();
        live.record.sandbox_key.clear();
        record
    };
    if !record.host_config.network_mode.starts_with("container:") {
        network::release(engine, &container.id);
    }
    start::mount_events(engine, &record, "unmount");
    cgroup::remove(engine, &container.id, &record.host_config);
    // An automatic removal takes the run directory with the rest.
    if !record.host_config.auto_remove {
        let _ = std::fs::remove_dir_all(engine.runtime.run_dir(&container.id));
    }
}

fn schedule_restart(engine: &Arc<Engine>, container: &Arc<Container>, delay: Duration) {
    let (owned, theirs) = (engine.clone(), container.clone());
    let due = Instant::now() + delay;
    let ticket = engine.timers.after(delay, move || {
        crate::debug!("restarting a container", "id" = theirs.id, "late_ms" = due.elapsed().as_millis());
        restart_now(&owned, &theirs);
    });
    container.live().restart_ticket = Some(ticket);
}

fn restart_now(engine: &Arc<Engine>, container: &Arc<Container>) {
    let turn = container.turn();
    {
        let mut live = container.live();
        live.restart_ticket = None;
        if live.record.state.phase != Phase::Restarting || live.removed || live.record.state.removing {
            return;
        }
        live.record.restart_count += 1;
    }
    if let Err(e) = start::start_in_turn(engine, container, &turn) {
        crate::warn!("cannot restart a container", "id" = container.id, "error" = e);
        // The policy goes on: what is missing now may be there in a minute.
        let delay = {
            let mut live = container.live();
            let live = &mut *live;
            let policy = &live.record.host_config.restart_policy;
            let code = live.record.state.exit_code;
            let again =
                !live.no_restart && !live.removed && restart::after_exit(policy, code, live.record.restart_count);
            if again {
                live.record.state.phase = Phase::Restarting;
            }
            again.then(|| live.backoff.next(Duration::ZERO))
        };
        if let Some(delay) = delay {
            schedule_restart(engine, container, delay);
        }
    }
}
