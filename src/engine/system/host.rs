//! Facts of this machine, from /proc and /etc: nothing that needs libc's lookups.

pub fn kernel_version() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

pub fn mem_total() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .and_then(|v| v.trim().trim_end_matches("kB").trim().parse::<i64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// One value of os-release(5), unquoted.
pub fn operating_system(key: &str) -> Option<String> {
    let text =
        std::fs::read_to_string("/etc/os-release").or_else(|_| std::fs::read_to_string("/usr/lib/os-release")).ok()?;
    let value = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='))?.trim();
    Some(value.trim_matches(|c| c == '"' || c == '\'').to_owned())
}

/// As Go names it.
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "riscv64" => "riscv64",
        other => other,
    }
}

/// As uname(2) names it.
pub fn machine() -> &'static str {
    std::env::consts::ARCH
}

/// The unified hierarchy, alone or beside version 1.
pub fn has_cgroup2() -> bool {
    ["/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/unified/cgroup.controllers"]
        .iter()
        .any(|p| std::path::Path::new(p).exists())
}
