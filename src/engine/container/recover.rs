//! What a new daemon finds: containers of the last one that still run, that ended
//! meanwhile, or that were killed with everything else. Runs once, on the main
//! thread, before the first request.

use super::state::Phase;
use super::{Container, cgroup, exit, health, restart, start};
use crate::engine::{Engine, network};
use crate::error::{Context, Result};
use crate::runtime::{ExitRecord, Recovered};
use crate::util::atomic_file::Durability;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub fn recover(engine: &Arc<Engine>) -> Result<()> {
    let root = engine.config.data_root.join("containers");
    std::fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
    engine.volumes.load(&engine.config.data_root.join("volumes"))?;
    engine.containers.load(&root)?;
    let all = engine.containers.all();
    for container in &all {
        for mount in container.record().mounts.iter().filter(|m| !m.name.is_empty()) {
            engine.volumes.add_user(&mount.name, &container.id);
        }
    }
    let ids: Vec<String> = all.iter().map(|c| c.id.clone()).collect();
    let mut found: HashMap<String, Recovered> = engine.runtime.recover(&ids).into_iter().collect();
    let runs = |state: &Recovered| matches!(state, Recovered::Running { .. } | Recovered::Orphaned { .. });
    let running = found.iter().filter(|(_, state)| runs(state)).map(|(id, _)| id.clone()).collect();
    network::retain(engine, &running);
    for container in all {
        let state = found.remove(&container.id).unwrap_or(Recovered::Gone);
        take_up(engine, &container, state);
    }
    let running = engine.containers.all().into_iter().filter(|c| c.live().record.state.is_up()).map(|c| c.id.clone());
    network::retain(engine, &running.collect());
    collect_garbage(engine);
    Ok(())
}

fn take_up(engine: &Arc<Engine>, container: &Arc<Container>, found: Recovered) {
    let (was_up, was_restarting, auto_remove) = {
        let live = container.live();
        let state = &live.record.state;
        (state.is_up(), state.phase == Phase::Restarting, live.record.host_config.auto_remove)
    };
    match found {
        Recovered::Running { pid } | Recovered::Orphaned { pid } => {
            {
                let mut live = container.live();
                let since = live.record.state.started_at;
                let state = &mut live.record.state;
                if !state.is_up() {
                    // Killed between the start and the rename of its record.
                    state.phase = Phase::Running;
                }
                state.pid = pid;
                let ran = since.map_or(Duration::ZERO, |s| crate::util::time::now().since(s.into()));
                live.started = Instant::now().checked_sub(ran);
                live.run += 1;
            }
            if !was_up {
                complete(engine, container);
            }
            engine.runtime.cgroups().adopt(&container.id, pid);
            limit_again(engine, container);
            settle_pause(engine, container);
            health::resume(engine, container);
        }
        Recovered::Exited(exit) if was_up => settle_later(engine, container, exit),
        Recovered::Gone if was_up => {
            // Nobody saw how it ended: the original's number for that.
            let exit = ExitRecord { code: 255, oom: false, finished_at: nanos_now() };
            lost(engine, container, exit);
        }
        Recovered::Exited(_) | Recovered::Gone => {
            if was_restarting {
                container.live().record.state.phase = Phase::Exited;
            }
            if auto_remove && container.live().record.state.phase == Phase::Exited {
                remove_later(engine, container);
            } else {
                boot(engine, container, was_restarting);
            }
        }
    }
}

/// Controllers may have been taken back meanwhile (`services/docker.service` says when),
/// and with them went the limits.
fn limit_again(engine: &Engine, container: &Container) {
    let host = container.live().record.host_config.clone();
    if let Err(e) = cgroup::update(engine, &container.id, &host) {
        crate::warn!("cannot set a container's limits again", "id" = container.id, "error" = e);
    }
}

/// Its record has not heard of its start: what netd gave it is put in.
pub fn complete(engine: &Engine, container: &Container) {
    let record = container.record();
    let known = start::wanted(engine, &record).ok().and_then(|wanted| network::known(engine, &wanted));
    if let Some((networks, ports)) = known {
        let mut live = container.live();
        live.record.networks = networks;
        live.record.ports = ports;
        live.record.sandbox_id = crate::util::id::random();
        live.record.has_files = true;
    }
    if let Err(e) = container.save(engine, Durability::Renamed) {
        crate::warn!("cannot save a container", "id" = container.id, "error" = e);
    }
}

/// A pause, or a commit that pauses, was cut short: what is shown must be true,
/// and nobody would wake a container that is not shown as paused.
fn settle_pause(engine: &Engine, container: &Container) {
    let paused = engine.runtime.is_paused(&container.id);
    let phase = container.live().record.state.phase;
    match (phase, paused) {
        (Phase::Running, true) => {
            if let Err(e) = engine.runtime.unpause(&container.id) {
                crate::warn!("cannot resume a container", "id" = container.id, "error" = e);
            }
        }
        (Phase::Paused, false) => container.live().record.state.phase = Phase::Running,
        _ => {}
    }
}

fn nanos_now() -> i64 {
    i64::try_from(crate::util::time::now().0).unwrap_or(i64::MAX)
}

/// It ended while nobody listened: as any other exit.
fn settle_later(engine: &Arc<Engine>, container: &Arc<Container>, exit: ExitRecord) {
    let (owned, container) = (engine.clone(), container.clone());
    crate::engine::timer::spawn("exit", move || exit::settle(&owned, &container, exit));
}

/// Everything was killed or the machine was restarted: the policy for a boot,
/// not the one for an exit.
fn lost(engine: &Arc<Engine>, container: &Arc<Container>, exit: ExitRecord) {
    exit::release(engine, container);
    let auto_remove = {
        let mut live = container.live();
        live.record.state.set_exited(exit.code, false, exit.finished(), Phase::Exited);
        live.record.host_config.auto_remove
    };
    if let Err(e) = container.save(engine, Durability::Renamed) {
        crate::warn!("cannot save a container", "id" = container.id, "error" = e);
    }
    if auto_remove {
        remove_later(engine, container);
    } else {
        boot(engine, container, true);
    }
}

fn remove_later(engine: &Arc<Engine>, container: &Arc<Container>) {
    let (engine, container) = (engine.clone(), container.clone());
    crate::engine::timer::spawn("remove", move || {
        let turn = container.turn();
        if let Err(e) = super::remove::remove_in_turn(&engine, &container, &turn, true) {
            crate::warn!("cannot remove a container", "id" = container.id, "error" = e);
        }
    });
}

fn boot(engine: &Arc<Engine>, container: &Arc<Container>, was_running: bool) {
    let wanted = {
        let live = container.live();
        let record = &live.record;
        restart::at_boot(&record.host_config.restart_policy, &record.state, was_running, record.restart_count)
    };
    if !wanted {
        return;
    }
    let (owned, theirs) = (engine.clone(), container.clone());
    // Containers that others join come first by nature: whoever fails here is
    // tried again by its policy's back-off.
    crate::engine::timer::spawn("boot", move || {
        let turn = theirs.turn();
        if !theirs.live().record.state.is_up()
            && let Err(e) = start::start_in_turn(&owned, &theirs, &turn)
        {
            crate::warn!("cannot start a container again", "id" = theirs.id, "error" = e);
        }
    });
}

/// Writable layers and folders that belong to no container: a creation or a
/// removal was cut short.
fn collect_garbage(engine: &Engine) {
    let Ok((layers, _)) = engine.driver.list() else { return };
    for id in layers.iter().filter(|id| id.len() == 64 && engine.containers.by_id(id).is_none()) {
        match engine.driver.remove_rw(id) {
            Ok(()) => crate::info!("removed a writable layer that no container has", "id" = id),
            Err(e) => crate::warn!("cannot remove a writable layer that no container has", "id" = id, "error" = e),
        }
    }
    let (root, run) = (engine.config.data_root.join("containers"), engine.config.exec_root.join("containers"));
    for entry in [root, run].iter().flat_map(std::fs::read_dir).flatten().flatten() {
        let known = entry.file_name().to_str().is_some_and(|id| engine.containers.by_id(id).is_some());
        // An unreadable record stays for a person to look at.
        let unreadable = entry.path().join("config.unreadable").exists();
        if !known && !unreadable {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
