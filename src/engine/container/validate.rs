//! What a create request is refused for, in Docker's order and words, and the
//! defaults it gets. Pure apart from the look at bind sources.

use super::{caps, keep_id, limits, mounts, restart};
use crate::api::container::{ContainerConfig, CreateRequest, Healthcheck, HostConfig};
use crate::engine::{EngineConfig, LiveConfig, signal};
use crate::error::{Error, Result};
use crate::util::path;

fn refuse<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::invalid(text))
}

/// Runtime names that mean "this engine's own".
const RUNTIMES: [&str; 5] = ["runc", "io.containerd.runc.v2", "crun", "coracle", ""];

/// Everything that needs no image. Gives the warnings.
pub fn request(request: &mut CreateRequest, engine: &EngineConfig, support: &limits::Support) -> Result<Vec<String>> {
    let is_empty = request.config == ContainerConfig::default() && request.host_config.is_none();
    if is_empty && request.networking_config.is_none() {
        return refuse("config cannot be empty in order to create a container");
    }
    let host = request.host_config.get_or_insert_default();
    if host.network_mode.is_empty() || host.network_mode == "default" {
        host.network_mode = "bridge".into();
    }
    decoded(&request.config, host)?;
    container(&mut request.config)?;
    portable(host)?;
    if host.userns_mode.is_empty() {
        host.userns_mode = keep_id::default_mode(host, &engine.live().userns_mode);
    }
    let mut warnings = platform(host, support)?;
    if host.network_mode == "host" && host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    defaults(host, &engine.live());
    Ok(warnings)
}

/// The conflicts that Docker finds while it decodes.
fn decoded(config: &ContainerConfig, host: &HostConfig) -> Result<()> {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return refuse("conflicting options: hostname and the UTS mode");
    }
    let joined = host.network_mode.strip_prefix("container:");
    if joined == Some("") || host.network_mode == "container" {
        return refuse("invalid network mode: invalid container format container:<name|id>");
    }
    if host.network_mode == "host" && some(&host.links) {
        return refuse(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        );
    }
    if joined.is_some() {
        let conflicts = [
            (!config.hostname.is_empty(), "hostname and the network mode"),
            (
                some(&host.links),
                "container type network can't be used with links. This would result in undefined behavior",
            ),
            (some(&host.dns), "dns and the network mode"),
            (some(&host.extra_hosts), "custom host-to-IP mapping and the network mode"),
            (!config.mac_address.is_empty(), "mac-address and the network mode"),
            (
                host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) || host.publish_all_ports,
                "port publishing and the container type network mode",
            ),
            (
                config.exposed_ports.as_ref().is_some_and(|p| !p.is_empty()),
                "port exposing and the container type network mode",
            ),
        ];
        if let Some((_, text)) = conflicts.iter().find(|(conflict, _)| *conflict) {
            return refuse(format!("conflicting options: {text}"));
        }
    }
    if !matches!(host.isolation.to_ascii_lowercase().as_str(), "" | "default") {
        return refuse(format!("invalid isolation ({}): linux only supports 'default'", host.isolation));
    }
    if host.cpu_realtime_period != 0 || host.cpu_realtime_runtime != 0 {
        return refuse("kernel does not support CPU real-time scheduler");
    }
    Ok(())
}

fn container(config: &mut ContainerConfig) -> Result<()> {
    if !config.working_dir.is_empty() {
        if !config.working_dir.starts_with('/') {
            return refuse(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                config.working_dir
            ));
        }
        config.working_dir = path::absolute(&config.working_dir);
    }
    if !config.stop_signal.is_empty() {
        signal::parse(&config.stop_signal)?;
    }
    for env in config.env.iter().flatten() {
        if env.is_empty() || env.starts_with('=') {
            return refuse(format!("invalid environment variable: {env}"));
        }
    }
    config.healthcheck.as_ref().map_or(Ok(()), health)
}

fn health(check: &Healthcheck) -> Result<()> {
    for (name, value) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        if value != 0 && value < 1_000_000 {
            return refuse(format!("{name} in Healthcheck cannot be less than 1ms"));
        }
    }
    if check.retries < 0 {
        return refuse("Retries in Healthcheck cannot be negative");
    }
    Ok(())
}

fn portable(host: &mut HostConfig) -> Result<()> {
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return refuse("can't create 'AutoRemove' container with restart policy");
    }
    for mount in host.mounts.iter().flatten() {
        mounts::validate(mount)?;
    }
    for entry in host.extra_hosts.iter().flatten() {
        let bad = || Error::invalid(format!("bad format for add-host: \"{entry}\""));
        let (name, address) = entry.split_once(':').ok_or_else(bad)?;
        if name.is_empty() {
            return Err(bad());
        }
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        if address != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
            return refuse(format!("invalid IP address in add-host: \"{address}\""));
        }
    }
    ports(host)?;
    restart::validate(&host.restart_policy)?;
    if let Some(list) = host.cap_add.take() {
        host.cap_add = Some(caps::normalise(&list, "CapAdd")?);
    }
    if let Some(list) = host.cap_drop.take() {
        host.cap_drop = Some(caps::normalise(&list, "CapDrop")?);
    }
    if host.annotations.as_ref().is_some_and(|a| a.contains_key("")) {
        return refuse("invalid Annotations: the empty string is not permitted as an annotation key");
    }
    Ok(())
}

fn ports(host: &HostConfig) -> Result<()> {
    for (port, bindings) in host.port_bindings.iter().flatten() {
        let number = port.split('/').next().unwrap_or_default();
        if number.parse::<u16>().is_err() {
            return refuse(format!("invalid port specification: \"{number}\""));
        }
        for binding in bindings.iter().flatten() {
            let range = |text: &str| {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(a), Ok(b)) if a <= b)
            };
            if !binding.host_port.is_empty() && !range(&binding.host_port) {
                return refuse(format!("invalid port specification: \"{}\"", binding.host_port));
            }
        }
    }
    Ok(())
}

fn platform(host: &mut HostConfig, support: &limits::Support) -> Result<Vec<String>> {
    // Docker doubles the memory only where the client left the swap alone.
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    let oom_kill_disable = host.oom_kill_disable;
    let warnings = limits::verify(host, support, false)?;
    host.oom_kill_disable = oom_kill_disable.filter(|_| support.memory);
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return refuse(format!("Invalid value {}, range for oom score adj is [-1000, 1000]", host.oom_score_adj));
    }
    let modes = [
        ("IPC", host.ipc_mode.as_str(), &["", "host", "none", "private", "shareable"][..]),
        ("PID", &host.pid_mode, &["", "host"]),
        ("UTS", &host.uts_mode, &["", "host"]),
        ("cgroup namespace", &host.cgroupns_mode, &["", "host", "private"]),
    ];
    for (what, mode, known) in modes {
        let joined = matches!(what, "IPC" | "PID") && mode.strip_prefix("container:").is_some_and(|c| !c.is_empty());
        if !known.contains(&mode) && !joined {
            return refuse(format!("invalid {what} mode: {mode}"));
        }
    }
    if host.shm_size < 0 {
        return refuse("SHM size can not be less than 0");
    }
    keep_id::parse(&host.userns_mode)?;
    if !RUNTIMES.contains(&host.runtime.as_str()) {
        return refuse(format!("unknown or invalid runtime name: {}", host.runtime));
    }
    for destination in host.tmpfs.iter().flatten().map(|(d, _)| d) {
        mounts::check_tmpfs_destination(destination)?;
    }
    if host.storage_opt.as_ref().is_some_and(|o| !o.is_empty()) {
        return refuse("--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
    }
    Ok(warnings)
}

fn defaults(host: &mut HostConfig, engine: &LiveConfig) {
    if host.shm_size == 0 {
        host.shm_size = engine.shm_size;
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode.clone_from(&engine.ipc_mode);
    }
    if host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = if host.privileged { "private".into() } else { engine.cgroupns_mode.clone() };
    }
    if host.runtime.is_empty() {
        host.runtime = "runc".into();
    }
    if host.restart_policy.name.is_empty() {
        host.restart_policy.name = "no".into();
    }
    host.oom_kill_disable.get_or_insert(false);
    let paths = |list: &[&str]| Some(list.iter().map(|p| (*p).to_owned()).collect());
    if host.privileged {
        host.masked_paths = None;
        host.readonly_paths = None;
    } else {
        if host.masked_paths.is_none() {
            host.masked_paths = paths(MASKED);
        }
        if host.readonly_paths.is_none() {
            host.readonly_paths = paths(READONLY);
        }
    }
}

const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        let mut parsed: CreateRequest = crate::api::decode::from_slice(json.as_bytes()).unwrap();
        let config = EngineConfig::new("/d".into(), "/e".into());
        match request(&mut parsed, &config, &limits::Support::default()) {
            Ok(warnings) => format!("{warnings:?}"),
            Err(e) => e.message().to_owned(),
        }
    }

    #[test]
    fn refusals_are_dockers_words() {
        for (json, expected) in [
            ("{}", "config cannot be empty in order to create a container"),
            (r#"{"Image":"b","Env":["=x"]}"#, "invalid environment variable: =x"),
            (
                r#"{"Image":"b","WorkingDir":"rel"}"#,
                "the working directory 'rel' is invalid, it needs to be an absolute path",
            ),
            (r#"{"Image":"b","StopSignal":"NOSUCH"}"#, "invalid signal: NOSUCH"),
            (r#"{"Image":"b","Healthcheck":{"Interval":1000}}"#, "Interval in Healthcheck cannot be less than 1ms"),
            (r#"{"Image":"b","HostConfig":{"ExtraHosts":["x"]}}"#, "bad format for add-host: \"x\""),
            (r#"{"Image":"b","HostConfig":{"PortBindings":{"x/tcp":[]}}}"#, "invalid port specification: \"x\""),
            (
                r#"{"Image":"b","Hostname":"x","HostConfig":{"NetworkMode":"container:y"}}"#,
                "conflicting options: hostname and the network mode",
            ),
            (r#"{"Image":"b","HostConfig":{"PidMode":"x"}}"#, "invalid PID mode: x"),
            (r#"{"Image":"b","HostConfig":{"CgroupnsMode":"x"}}"#, "invalid cgroup namespace mode: x"),
            (r#"{"Image":"b","HostConfig":{"Runtime":"x"}}"#, "unknown or invalid runtime name: x"),
            (
                r#"{"Image":"b","HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}"#,
                "can't create 'AutoRemove' container with restart policy",
            ),
            (
                r#"{"Image":"b","HostConfig":{"Tmpfs":{"rel":""}}}"#,
                "invalid mount path: 'rel' mount path must be absolute",
            ),
            (
                r#"{"Image":"b","HostConfig":{"CapAdd":["NOSUCH"]}}"#,
                "invalid CapAdd: unknown capability: \"CAP_NOSUCH\"",
            ),
            (
                r#"{"Image":"b","HostConfig":{"NetworkMode":"host","PortBindings":{"80/tcp":[]}}}"#,
                "[\"Published ports are discarded when using host network mode\"]",
            ),
            (r#"{"Image":"b"}"#, "[]"),
        ] {
            assert_eq!(text(json), expected, "{json}");
        }
    }
}
