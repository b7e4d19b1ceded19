//! Docker's limits → the files of cgroup v2. Pure.

/// None (or empty) = leave as it is. Units are Docker's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes; -1 = no limit.
    pub memory: Option<i64>,
    /// Memory and swap together; -1 = no limit. Needs `memory`.
    pub memory_swap: Option<i64>,
    pub memory_reservation: Option<i64>,
    /// Microseconds of CPU time per period; -1 = no limit.
    pub cpu_quota: Option<i64>,
    pub cpu_period: Option<u64>,
    /// 2..=262144, 1024 is the default.
    pub cpu_shares: Option<u64>,
    /// Lists as "0-2,4".
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// -1 or 0 = no limit.
    pub pids: Option<i64>,
    /// 10..=1000
    pub io_weight: Option<u16>,
    pub io_devices: Vec<DeviceLimit>,
}

/// Limits of one block device; 0 = not limited by this call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceLimit {
    pub major: u32,
    pub minor: u32,
    pub weight: u16,
    pub read_bps: u64,
    pub write_bps: u64,
    pub read_iops: u64,
    pub write_iops: u64,
}

fn amount(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

impl Limits {
    /// Files and their values, in the order in which they can be written: swap
    /// before a smaller memory limit would need it. `bfq`: weights are that
    /// scheduler's, in Docker's own unit.
    pub(super) fn files(&self, bfq: bool) -> Vec<(&'static str, String)> {
        let mut files = Vec::new();
        if let Some(swap) = self.swap() {
            files.push(("memory.swap.max", swap));
        }
        if let Some(memory) = self.memory.filter(|m| *m != 0) {
            files.push(("memory.max", amount(memory)));
        }
        if let Some(low) = self.memory_reservation.filter(|m| *m != 0) {
            files.push(("memory.low", amount(low).replace("max", "0")));
        }
        if self.cpu_quota.is_some() || self.cpu_period.is_some() {
            let quota = self.cpu_quota.filter(|q| *q > 0).map_or("max".to_owned(), |q| q.to_string());
            files.push(("cpu.max", format!("{quota} {}", self.cpu_period.filter(|p| *p > 0).unwrap_or(100_000))));
        }
        if let Some(shares) = self.cpu_shares.filter(|s| *s != 0) {
            files.push(("cpu.weight", cpu_weight(shares).to_string()));
        }
        for (file, list) in [("cpuset.cpus", &self.cpuset_cpus), ("cpuset.mems", &self.cpuset_mems)] {
            if !list.is_empty() {
                files.push((file, list.clone()));
            }
        }
        if let Some(pids) = self.pids {
            files.push(("pids.max", if pids > 0 { pids.to_string() } else { "max".to_owned() }));
        }
        let weight = |device: &str, w: u16| match bfq {
            true => ("io.bfq.weight", format!("{device} {w}")),
            false => ("io.weight", format!("{device} {}", io_weight(w))),
        };
        if let Some(w) = self.io_weight.filter(|w| *w != 0) {
            files.push(weight("default", w));
        }
        for device in &self.io_devices {
            let name = format!("{}:{}", device.major, device.minor);
            if device.weight != 0 {
                files.push(weight(&name, device.weight));
            }
            let rates = [
                ("rbps", device.read_bps),
                ("wbps", device.write_bps),
                ("riops", device.read_iops),
                ("wiops", device.write_iops),
            ];
            let set: String = rates.iter().filter(|(_, n)| *n != 0).map(|(k, n)| format!(" {k}={n}")).collect();
            if !set.is_empty() {
                files.push(("io.max", format!("{name}{set}")));
            }
        }
        files
    }

    /// Version 2 counts swap alone. Docker's default is as much swap as memory.
    fn swap(&self) -> Option<String> {
        match (self.memory, self.memory_swap) {
            (_, Some(-1)) => Some("max".to_owned()),
            (Some(memory), Some(both)) if memory > 0 && both > 0 => Some((both - memory).max(0).to_string()),
            (Some(memory), None | Some(0)) if memory > 0 => Some(memory.to_string()),
            (Some(-1), _) => Some("max".to_owned()),
            _ => None,
        }
    }
}

/// cgroup v1's 2..=262144 on version 2's 1..=10000: linear, as the runtimes of
/// Docker 28's time have it.
fn cpu_weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

/// 10..=1000 on 1..=10000.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_written() {
        assert_eq!(Limits::default().files(false), []);
        let limits = Limits { memory: Some(64 << 20), cpu_quota: Some(50_000), pids: Some(-1), ..Default::default() };
        assert_eq!(
            limits.files(false),
            [
                ("memory.swap.max", "67108864".to_owned()),
                ("memory.max", "67108864".to_owned()),
                ("cpu.max", "50000 100000".to_owned()),
                ("pids.max", "max".to_owned()),
            ]
        );
    }

    #[test]
    fn scales_and_devices() {
        assert_eq!((cpu_weight(2), cpu_weight(1024), cpu_weight(262_144)), (1, 39, 10_000));
        assert_eq!((io_weight(10), io_weight(1000)), (1, 10_000));
        let device = DeviceLimit { major: 8, minor: 16, read_bps: 1024, write_iops: 7, ..Default::default() };
        let limits =
            Limits { memory: Some(100), memory_swap: Some(150), io_devices: vec![device], ..Default::default() };
        assert_eq!(limits.files(false)[0], ("memory.swap.max", "50".to_owned()));
        assert_eq!(limits.files(false)[2], ("io.max", "8:16 rbps=1024 wiops=7".to_owned()));
        let limits = Limits { io_weight: Some(300), ..Default::default() };
        assert_eq!(limits.files(true), [("io.bfq.weight", "default 300".to_owned())]);
    }
}
