//! `docker update`: limits and restart policy of containers in any state.

use super::{cgroup, limits, publish, restart};
use crate::api::container::{HostConfig, UpdateConfig, UpdateResponse};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::util::atomic_file::Durability;

pub fn update(engine: &Engine, reference: &str, asked: UpdateConfig) -> Result<UpdateResponse> {
    let container = engine.containers.get(reference)?;
    let refuse = |text: &str| Err(Error::conflict(format!("Cannot update container {}: {text}", container.id)));
    if container.live().record.state.removing {
        return refuse("Container is marked for removal and cannot be \"update\".");
    }
    // Checked as a configuration of its own: what it lacks is not touched.
    let mut wanted = HostConfig { restart_policy: asked.restart_policy.clone(), ..HostConfig::default() };
    copy(&asked, &mut wanted);
    let warnings = limits::verify(&mut wanted, &engine.support, true)?;
    if !asked.restart_policy.name.is_empty() || asked.restart_policy.maximum_retry_count != 0 {
        restart::validate(&asked.restart_policy)?;
        let mut live = container.live();
        if live.record.host_config.auto_remove && !matches!(asked.restart_policy.name.as_str(), "" | "no") {
            return refuse("Restart policy cannot be updated because AutoRemove is enabled for the container");
        }
        live.record.host_config.restart_policy = asked.restart_policy;
    }
    let host = {
        let mut live = container.live();
        let host = &mut live.record.host_config;
        if let Some(text) = conflict(&wanted, host) {
            return refuse(text);
        }
        apply(&wanted, host);
        host.clone()
    };
    cgroup::update(engine, &container.id, &host)
        .map_err(|e| e.context(format!("Cannot update container {}", container.id)))?;
    container.save(engine, Durability::Synced)?;
    publish(engine, &container, "update", &[]);
    Ok(UpdateResponse { warnings: Some(warnings).filter(|w| !w.is_empty()) })
}

/// What cannot be changed to `wanted` on top of what stands.
fn conflict(wanted: &HostConfig, host: &HostConfig) -> Option<&'static str> {
    if wanted.nano_cpus > 0 && host.cpu_period > 0 {
        return Some("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set");
    }
    if wanted.nano_cpus > 0 && host.cpu_quota > 0 {
        return Some("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set");
    }
    if wanted.cpu_period > 0 && host.nano_cpus > 0 {
        return Some("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set");
    }
    if wanted.cpu_quota > 0 && host.nano_cpus > 0 {
        return Some("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set");
    }
    let over = host.memory_swap > 0 && wanted.memory_swap == 0 && wanted.memory > host.memory_swap;
    over.then_some(
        "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
    )
}

fn copy(from: &UpdateConfig, to: &mut HostConfig) {
    to.cpu_shares = from.cpu_shares;
    to.memory = from.memory;
    to.nano_cpus = from.nano_cpus;
    to.blkio_weight = from.blkio_weight;
    to.cpu_period = from.cpu_period;
    to.cpu_quota = from.cpu_quota;
    to.cpuset_cpus.clone_from(&from.cpuset_cpus);
    to.cpuset_mems.clone_from(&from.cpuset_mems);
    to.memory_reservation = from.memory_reservation;
    to.memory_swap = from.memory_swap;
    to.pids_limit = from.pids_limit;
}

fn apply(from: &HostConfig, to: &mut HostConfig) {
    fn set<T: Default + PartialEq + Clone>(to: &mut T, from: &T) {
        if *from != T::default() {
            to.clone_from(from);
        }
    }
    set(&mut to.cpu_shares, &from.cpu_shares);
    set(&mut to.memory, &from.memory);
    set(&mut to.nano_cpus, &from.nano_cpus);
    set(&mut to.blkio_weight, &from.blkio_weight);
    set(&mut to.cpu_period, &from.cpu_period);
    set(&mut to.cpu_quota, &from.cpu_quota);
    set(&mut to.cpuset_cpus, &from.cpuset_cpus);
    set(&mut to.cpuset_mems, &from.cpuset_mems);
    set(&mut to.memory_reservation, &from.memory_reservation);
    set(&mut to.memory_swap, &from.memory_swap);
    set(&mut to.pids_limit, &from.pids_limit);
}
