//! Resource limits as asked for: Docker's checks, and its words for what this
//! host cannot apply. Pure.
//!
//! Invariant: a limit is either applied or removed with a warning (or refused),
//! never ignored in silence.

use crate::api::container::HostConfig;
use crate::error::{Error, Result};

/// What the cgroup that we may write to can do. All false: there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Support {
    pub memory: bool,
    pub swap: bool,
    pub cpu: bool,
    pub cpuset: bool,
    pub pids: bool,
    pub io: bool,
    pub io_weight: bool,
    pub cpus: u32,
    /// The CPUs and memory nodes that there are, as lists.
    pub cpu_list: String,
    pub node_list: String,
}

const MINIMUM_MEMORY: i64 = 6 << 20;

fn refuse<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::invalid(text))
}

/// Checks the limits of `host` and takes out what `support` lacks; gives the
/// warnings in Docker's order.
pub fn verify(host: &mut HostConfig, support: &Support, update: bool) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    memory(host, support, update, &mut warnings)?;
    processes(host, support, &mut warnings);
    cpu(host, support, &mut warnings)?;
    block_io(host, support, &mut warnings)?;
    Ok(warnings)
}

fn memory(host: &mut HostConfig, support: &Support, update: bool, warnings: &mut Vec<String>) -> Result<()> {
    const MOUNTED: &str = "or the cgroup is not mounted.";
    let mut warn = |text: String| warnings.push(text);
    if host.memory != 0 && host.memory < MINIMUM_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if host.memory > 0 && !support.memory {
        warn(format!("Your kernel does not support memory limit capabilities {MOUNTED} Limitation discarded."));
        (host.memory, host.memory_swap) = (0, -1);
    }
    if host.memory > 0 && host.memory_swap != -1 && !support.swap {
        warn(format!("Your kernel does not support swap limit capabilities {MOUNTED} Memory limited without swap."));
        host.memory_swap = -1;
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory == 0 && host.memory_swap > 0 && !update {
        return refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if let Some(swappiness) = host.memory_swappiness.filter(|s| *s != -1) {
        // Version 2 of the cgroups has none.
        warn(format!(
            "Your kernel does not support memory swappiness capabilities {MOUNTED} Memory swappiness discarded."
        ));
        host.memory_swappiness = None;
        if !(0..=100).contains(&swappiness) {
            return refuse(format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100"));
        }
    }
    if host.memory_reservation > 0 && !support.memory {
        warn(format!("Your kernel does not support memory soft limit capabilities {MOUNTED} Limitation discarded."));
        host.memory_reservation = 0;
    }
    if host.memory_reservation > 0 && host.memory_reservation < MINIMUM_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if host.memory > 0 && host.memory_reservation > 0 && host.memory < host.memory_reservation {
        return refuse("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if let Some(disable) = host.oom_kill_disable.take()
        && disable
    {
        warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.".into());
    }
    Ok(())
}

fn processes(host: &mut HostConfig, support: &Support, warnings: &mut Vec<String>) {
    if let Some(limit) = host.pids_limit
        && !support.pids
    {
        if limit > 0 {
            warnings.push(
                "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."
                    .into(),
            );
        }
        host.pids_limit = None;
    }
}

fn cpu(host: &mut HostConfig, support: &Support, warnings: &mut Vec<String>) -> Result<()> {
    if host.nano_cpus > 0 && host.cpu_period > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set.");
    }
    if host.nano_cpus > 0 && host.cpu_quota > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set.");
    }
    if host.nano_cpus > 0 && !support.cpu {
        return refuse(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        );
    }
    let cpus = i64::from(support.cpus.max(1));
    if host.nano_cpus < 0 || host.nano_cpus > cpus * 1_000_000_000 {
        return refuse(format!("Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"));
    }
    if host.cpu_shares > 0 && !support.cpu {
        warnings.push("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.".into());
        host.cpu_shares = 0;
    }
    if (host.cpu_period != 0 || host.cpu_quota != 0) && !support.cpu {
        warnings.push("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.".into());
        (host.cpu_period, host.cpu_quota) = (0, 0);
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return refuse("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if host.cpu_percent > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".into());
        host.cpu_percent = 0;
    }
    let cpuset = !host.cpuset_cpus.is_empty() || !host.cpuset_mems.is_empty();
    if cpuset && !support.cpuset {
        warnings.push("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.".into());
        host.cpuset_cpus.clear();
        host.cpuset_mems.clear();
    }
    available("CPUs", "cpus", &host.cpuset_cpus, &support.cpu_list)?;
    available("memory nodes", "mems", &host.cpuset_mems, &support.node_list)
}

fn available(what: &str, short: &str, asked: &str, there: &str) -> Result<()> {
    let Some(numbers) = list(asked) else {
        return refuse(format!("Invalid value {asked} for cpuset {short}"));
    };
    let there_is = list(there).unwrap_or_default();
    if there_is.is_empty() || numbers.iter().all(|n| there_is.contains(n)) {
        return Ok(());
    }
    refuse(format!("Requested {what} are not available - requested {asked}, available: {there}"))
}

/// "0-2,7" as numbers; None: it is no such list.
fn list(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    // The kernel takes a page at most; what repeats itself in megabytes is an attack.
    if text.len() > 4096 {
        return None;
    }
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
        if from > to || to > 8192 {
            return None;
        }
        numbers.extend(from..=to);
    }
    Some(numbers)
}

fn block_io(host: &mut HostConfig, support: &Support, warnings: &mut Vec<String>) -> Result<()> {
    if host.blkio_weight > 0 && !support.io_weight {
        warnings.push(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.".into(),
        );
        host.blkio_weight = 0;
    }
    if host.blkio_weight > 0 && !(10..=1000).contains(&host.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    if host.io_maximum_bandwidth != 0 || host.io_maximum_iops != 0 {
        return refuse("Invalid QoS settings: linux does not support Maximum IO settings");
    }
    if host.blkio_weight_device.as_ref().is_some_and(|d| !d.is_empty()) && !support.io_weight {
        warnings.push(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
                .into(),
        );
        host.blkio_weight_device = Some(Vec::new());
    }
    for (list, what) in [
        (&mut host.blkio_device_read_bps, "BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read"),
        (
            &mut host.blkio_device_write_bps,
            "BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write",
        ),
        (&mut host.blkio_device_read_iops, "IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read"),
        (
            &mut host.blkio_device_write_iops,
            "IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write",
        ),
    ] {
        if list.as_ref().is_some_and(|d| !d.is_empty()) && !support.io {
            warnings.push(format!("Your kernel does not support {what} limit discarded."));
            *list = Some(Vec::new());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_cgroups_everything_is_named() {
        let mut host = HostConfig {
            memory: 64 << 20,
            memory_swap: 128 << 20,
            pids_limit: Some(4),
            cpu_shares: 5,
            cpuset_cpus: "0".into(),
            blkio_weight: 100,
            ..Default::default()
        };
        let warnings = verify(&mut host, &Support::default(), false).unwrap();
        assert_eq!(warnings.len(), 5);
        assert!(warnings[0].starts_with("Your kernel does not support memory limit"));
        assert_eq!((host.memory, host.memory_swap, host.pids_limit, host.cpu_shares), (0, -1, None, 0));
    }

    #[test]
    fn what_docker_refuses() {
        let full = Support {
            memory: true,
            swap: true,
            cpu: true,
            cpuset: true,
            pids: true,
            io: true,
            io_weight: true,
            cpus: 2,
            cpu_list: "0-1".into(),
            node_list: "0".into(),
        };
        let refused = |host: HostConfig| verify(&mut host.clone(), &full, false).unwrap_err().message().to_owned();
        assert_eq!(
            refused(HostConfig { memory: 1 << 20, ..Default::default() }),
            "Minimum memory limit allowed is 6MB"
        );
        assert!(refused(HostConfig { nano_cpus: 99_000_000_000, ..Default::default() }).starts_with("Range of CPUs"));
        assert_eq!(
            refused(HostConfig { cpuset_cpus: "1-2".into(), ..Default::default() }),
            "Requested CPUs are not available - requested 1-2, available: 0-1"
        );
        assert_eq!(
            refused(HostConfig { cpuset_mems: "x".into(), ..Default::default() }),
            "Invalid value x for cpuset mems"
        );
        assert!(refused(HostConfig { memory_swap: 100, ..Default::default() }).starts_with("You should always"));
        let endless = "0-8192,".repeat(1_000_000);
        assert!(refused(HostConfig { cpuset_cpus: endless, ..Default::default() }).starts_with("Invalid value"));
    }
}
