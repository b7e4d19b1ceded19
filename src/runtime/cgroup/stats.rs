//! What a cgroup used, read from its files. Pure but for the reading function.

use super::value;

/// Zero where a controller is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Microseconds.
    pub cpu_total: u64,
    pub cpu_user: u64,
    pub cpu_system: u64,
    pub cpu_periods: u64,
    pub cpu_throttled_periods: u64,
    pub cpu_throttled: u64,
    /// Bytes; None: no memory controller.
    pub memory: Option<u64>,
    pub memory_limit: Option<u64>,
    /// memory.stat as it is.
    pub memory_stat: Vec<(String, u64)>,
    pub pids: Option<u64>,
    pub pids_limit: Option<u64>,
    pub io: Vec<IoStats>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoStats {
    pub major: u64,
    pub minor: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

pub(super) fn read(file: impl Fn(&str) -> Option<String>) -> Usage {
    let number = |name: &str| file(name).and_then(|t| t.trim().parse().ok());
    let cpu = file("cpu.stat").unwrap_or_default();
    let pairs = |text: String| -> Vec<(String, u64)> {
        text.lines()
            .filter_map(|l| l.split_once(' '))
            .filter_map(|(k, v)| Some((k.to_owned(), v.parse().ok()?)))
            .collect()
    };
    Usage {
        cpu_total: value(&cpu, "usage_usec"),
        cpu_user: value(&cpu, "user_usec"),
        cpu_system: value(&cpu, "system_usec"),
        cpu_periods: value(&cpu, "nr_periods"),
        cpu_throttled_periods: value(&cpu, "nr_throttled"),
        cpu_throttled: value(&cpu, "throttled_usec"),
        memory: number("memory.current"),
        memory_limit: number("memory.max"),
        memory_stat: file("memory.stat").map(pairs).unwrap_or_default(),
        pids: number("pids.current"),
        pids_limit: number("pids.max"),
        io: file("io.stat").map(|t| t.lines().filter_map(device).collect()).unwrap_or_default(),
    }
}

/// "8:0 rbytes=1 wbytes=2 rios=3 wios=4 ..."
fn device(line: &str) -> Option<IoStats> {
    let mut words = line.split_ascii_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let mut stats = IoStats { major: major.parse().ok()?, minor: minor.parse().ok()?, ..Default::default() };
    for (key, n) in words.filter_map(|w| w.split_once('=')).filter_map(|(k, v)| Some((k, v.parse().ok()?))) {
        match key {
            "rbytes" => stats.read_bytes = n,
            "wbytes" => stats.write_bytes = n,
            "rios" => stats.reads = n,
            "wios" => stats.writes = n,
            _ => {}
        }
    }
    Some(stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read() {
        let usage = read(|name| {
            let text = match name {
                "cpu.stat" => "usage_usec 10\nuser_usec 7\nsystem_usec 3\nnr_throttled 2\n",
                "memory.current" => "4096\n",
                "memory.max" => "max\n",
                "memory.stat" => "anon 5\ninactive_file 6\n",
                "io.stat" => "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0\n254:1 \n",
                _ => return None,
            };
            Some(text.to_owned())
        });
        assert_eq!((usage.cpu_total, usage.cpu_throttled_periods), (10, 2));
        assert_eq!((usage.memory, usage.memory_limit, usage.pids), (Some(4096), None, None));
        assert_eq!(usage.memory_stat[1], ("inactive_file".to_owned(), 6));
        assert_eq!(usage.io[0].writes, 4);
    }
}
