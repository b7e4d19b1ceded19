//! Numbers for a sample from /proc: what the processes of one pid namespace use.
//! Processes come and go while they are read; those that went count nothing.

use crate::api::container::{BlkioEntry, NetworkStats, Stats};
use std::collections::BTreeMap;
use std::fs;

const PAGE: u64 = 4096;

pub fn fill(stats: &mut Stats, pids: &[i32]) {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).max(1) as u64;
    let nanos = |t: u64| t * (1_000_000_000 / ticks);
    let (mut user, mut system, mut memory, mut threads) = (0, 0, 0, 0);
    let (mut anonymous, mut file, mut shared) = (0, 0, 0);
    let mut io = [0u64; 2];
    for (index, pid) in pids.iter().enumerate() {
        let Some(stat) = fs::read_to_string(format!("/proc/{pid}/stat")).ok() else { continue };
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<u64> = rest.split_whitespace().map(|f| f.parse().unwrap_or_default()).collect();
        // stat(5) counts from 1 and `rest` begins with field 3.
        let field = |n: usize| fields.get(n - 3).copied().unwrap_or_default();
        user += field(14);
        system += field(15);
        if index == 0 {
            // The first process inherits the orphans: their time is counted there.
            user += field(16);
            system += field(17);
        }
        threads += field(20).max(1);
        let rss = |key: &str, text: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
            line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default() * 1024
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        anonymous += rss("RssAnon:", &status);
        file += rss("RssFile:", &status);
        shared += rss("RssShmem:", &status);
        memory += field(24) * PAGE;
        let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        for (n, key) in ["read_bytes: ", "write_bytes: "].iter().enumerate() {
            let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
            io[n] += line.trim().parse::<u64>().unwrap_or_default();
        }
    }
    stats.pids_stats.current = threads;
    stats.cpu_stats.cpu_usage.usage_in_usermode = nanos(user);
    stats.cpu_stats.cpu_usage.usage_in_kernelmode = nanos(system);
    stats.cpu_stats.cpu_usage.total_usage = nanos(user + system);
    let (total, cpus) = host_cpu();
    stats.cpu_stats.system_cpu_usage = nanos(total);
    stats.cpu_stats.online_cpus = cpus;
    stats.memory_stats.usage = memory;
    stats.memory_stats.limit = host_memory();
    stats.memory_stats.stats = Some(BTreeMap::from([
        ("anon".to_owned(), anonymous),
        ("file".to_owned(), file),
        ("inactive_file".to_owned(), 0),
        ("shmem".to_owned(), shared),
    ]));
    let entry = |op: &str, value| BlkioEntry { major: 0, minor: 0, op: op.to_owned(), value };
    stats.blkio_stats.io_service_bytes_recursive = Some(vec![entry("read", io[0]), entry("write", io[1])]);
    stats.networks = pids.first().map(|pid| networks(*pid)).filter(|n| !n.is_empty());
}

/// Ticks of all CPUs together since boot, and how many there are.
fn host_cpu() -> (u64, u32) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut total = 0;
    let mut cpus = 0;
    for line in text.lines().take_while(|l| l.starts_with("cpu")) {
        let mut words = line.split_whitespace();
        if words.next() == Some("cpu") {
            // Guest time is contained in user time.
            total = words.take(8).filter_map(|w| w.parse::<u64>().ok()).sum();
        } else {
            cpus += 1;
        }
    }
    (total, cpus)
}

fn host_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// /proc/PID/net/dev, without loopback.
fn networks(pid: i32) -> BTreeMap<String, NetworkStats> {
    parse_net_dev(&fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default())
}

fn parse_net_dev(text: &str) -> BTreeMap<String, NetworkStats> {
    let mut map = BTreeMap::new();
    for line in text.lines().skip(2) {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let name = name.trim();
        let n: Vec<u64> = rest.split_whitespace().map(|w| w.parse().unwrap_or_default()).collect();
        if name == "lo" || n.len() < 12 {
            continue;
        }
        let stats = NetworkStats {
            rx_bytes: n[0],
            rx_packets: n[1],
            rx_errors: n[2],
            rx_dropped: n[3],
            tx_bytes: n[8],
            tx_packets: n[9],
            tx_errors: n[10],
            tx_dropped: n[11],
        };
        map.insert(name.to_owned(), stats);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_uses_something() {
        let mut stats = Stats::default();
        fill(&mut stats, &[std::process::id() as i32]);
        assert!(stats.memory_stats.usage > 0 && stats.cpu_stats.online_cpus > 0 && stats.pids_stats.current > 0);
        assert!(stats.cpu_stats.system_cpu_usage > 0);
    }

    #[test]
    fn interfaces_are_read() {
        let text =
            "Inter-| x\n face | y\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 5 2 0 0 0 0 0 0 7 3 0 0 0 0 0 0\n";
        let map = parse_net_dev(text);
        assert_eq!(map.len(), 1);
        assert_eq!((map["eth0"].rx_bytes, map["eth0"].tx_packets), (5, 3));
    }
}
