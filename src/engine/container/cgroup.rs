//! The container's cgroup: its limits out of the API's words, its usage back
//! into them. Without a tree of ours nothing here does anything: `limits.rs`
//! has told the user already.

use crate::api::container::{BlkioEntry, HostConfig, Stats};
use crate::engine::Engine;
use crate::engine::container::limits::Support;
use crate::error::Result;
use crate::runtime::cgroup::{Cgroup, Cgroups, DeviceLimit, Limits, Usage};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

/// What can be limited here.
pub fn support(cgroups: &Cgroups) -> Support {
    let c = cgroups.controllers();
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let (memory, swap, cpu, cpuset, pids, io, io_weight) =
        (c.memory, c.swap, c.cpu, c.cpuset, c.pids, c.io, c.io_weight);
    let (cpu_list, node_list) = cgroups.sets();
    Support { memory, swap, cpu, cpuset, pids, io, io_weight, cpus, cpu_list, node_list }
}

/// Makes the cgroup of a container that is about to start.
pub fn create(engine: &Engine, id: &str, host: &HostConfig) -> Result<Option<OwnedFd>> {
    let cgroup = engine.runtime.cgroups().create(id, &host.cgroup_parent, &limits(host))?;
    Ok(cgroup.map(Cgroup::into_directory))
}

/// Kills what a container without a pid namespace left, and tidies up.
pub fn remove(engine: &Engine, id: &str, host: &HostConfig) {
    engine.runtime.cgroups().remove(id, &host.cgroup_parent);
}

/// Applies the limits of a running container anew, all of them: a period without
/// its quota, or memory without its swap, would mean something else.
pub fn update(engine: &Engine, id: &str, host: &HostConfig) -> Result<()> {
    match engine.runtime.cgroup(id) {
        Some(cgroup) => cgroup.apply(&limits(host)),
        None => Ok(()),
    }
}

fn set<T: PartialEq + Default + Copy>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

fn limits(host: &HostConfig) -> Limits {
    // --cpus is quota over the default period.
    let (quota, period) = match host.nano_cpus {
        0 => (set(host.cpu_quota), set(host.cpu_period).map(|p| p as u64)),
        nano => (Some(nano / 10_000), Some(100_000)),
    };
    Limits {
        memory: set(host.memory),
        memory_swap: set(host.memory_swap).filter(|_| host.memory != 0 || host.memory_swap == -1),
        memory_reservation: set(host.memory_reservation),
        cpu_quota: quota,
        cpu_period: period,
        cpu_shares: set(host.cpu_shares).map(|s| s as u64),
        cpuset_cpus: host.cpuset_cpus.clone(),
        cpuset_mems: host.cpuset_mems.clone(),
        pids: host.pids_limit,
        io_weight: set(host.blkio_weight),
        io_devices: devices(host),
    }
}

fn devices(host: &HostConfig) -> Vec<DeviceLimit> {
    let mut found: BTreeMap<(u32, u32), DeviceLimit> = BTreeMap::new();
    let mut at = |path: &str, set: &dyn Fn(&mut DeviceLimit)| {
        let Ok(meta) = std::fs::metadata(path) else { return };
        let (major, minor) = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
        set(found.entry((major, minor)).or_insert(DeviceLimit { major, minor, ..DeviceLimit::default() }));
    };
    for d in host.blkio_weight_device.iter().flatten() {
        at(&d.path, &|l| l.weight = d.weight);
    }
    for d in host.blkio_device_read_bps.iter().flatten() {
        at(&d.path, &|l| l.read_bps = d.rate);
    }
    for d in host.blkio_device_write_bps.iter().flatten() {
        at(&d.path, &|l| l.write_bps = d.rate);
    }
    for d in host.blkio_device_read_iops.iter().flatten() {
        at(&d.path, &|l| l.read_iops = d.rate);
    }
    for d in host.blkio_device_write_iops.iter().flatten() {
        at(&d.path, &|l| l.write_iops = d.rate);
    }
    found.into_values().collect()
}

/// Replaces what was added up from /proc by what the kernel counted.
pub fn fill(stats: &mut Stats, usage: &Usage) {
    if usage.cpu_total > 0 {
        stats.cpu_stats.cpu_usage.total_usage = usage.cpu_total * 1000;
        stats.cpu_stats.cpu_usage.usage_in_usermode = usage.cpu_user * 1000;
        stats.cpu_stats.cpu_usage.usage_in_kernelmode = usage.cpu_system * 1000;
    }
    let throttling = &mut stats.cpu_stats.throttling_data;
    throttling.periods = usage.cpu_periods;
    throttling.throttled_periods = usage.cpu_throttled_periods;
    throttling.throttled_time = usage.cpu_throttled * 1000;
    if let Some(memory) = usage.memory {
        stats.memory_stats.usage = memory;
        if let Some(limit) = usage.memory_limit {
            stats.memory_stats.limit = limit.min(stats.memory_stats.limit);
        }
        stats.memory_stats.stats = Some(usage.memory_stat.iter().cloned().collect());
    }
    if let Some(pids) = usage.pids {
        stats.pids_stats.current = pids;
        // Without a limit Docker shows the largest number there is.
        stats.pids_stats.limit = usage.pids_limit.unwrap_or(u64::MAX);
    }
    if !usage.io.is_empty() {
        let mut list = Vec::with_capacity(2 * usage.io.len());
        for d in &usage.io {
            for (op, value) in [("read", d.read_bytes), ("write", d.write_bytes)] {
                list.push(BlkioEntry { major: d.major, minor: d.minor, op: op.to_owned(), value });
            }
        }
        stats.blkio_stats.io_service_bytes_recursive = Some(list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_quota() {
        let host = HostConfig { nano_cpus: 1_500_000_000, memory: 64 << 20, memory_swap: -1, ..HostConfig::default() };
        let limits = limits(&host);
        assert_eq!((limits.cpu_quota, limits.cpu_period), (Some(150_000), Some(100_000)));
        assert_eq!((limits.memory, limits.memory_swap, limits.pids), (Some(64 << 20), Some(-1), None));
    }
}
