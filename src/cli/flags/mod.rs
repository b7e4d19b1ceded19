//! The flags of run and create turned into one create request, with Docker's
//! checks and texts. Values that pflag would refuse are refused by [`check`] while
//! the line is read; what only makes sense together is judged in [`request`].

pub mod device;
mod files;
pub mod list;
pub mod mount;
pub mod network;
pub mod port;
pub mod volume;

pub use files::environment;
pub use list::{check, csv};

use crate::api::Empty;
use crate::api::container::{ContainerConfig, CreateRequest, Healthcheck, HostConfig, LogConfig, RestartPolicy};
use crate::cli::container::run::Run;
use crate::error::{Error, Result};
use crate::util::json;
use crate::util::order;
use std::collections::BTreeMap;

/// The request that the flags stand for.
pub fn request(run: &Run) -> Result<CreateRequest> {
    if let Some(mac) = run.mac_address.as_deref().filter(|m| !m.is_empty()) {
        network::check_mac(mac)?;
    }
    if let Some(n) = run.memory_swappiness
        && n != -1
        && !(0..=100).contains(&n)
    {
        return Err(Error::invalid(format!("invalid value: {n}. Valid memory swappiness range is 0-100")));
    }
    let networking = network::config(run)?;
    Ok(CreateRequest {
        config: config(run)?,
        host_config: Some(host_config(run, networking.mode)?),
        networking_config: Some(networking.config),
    })
}

fn config(run: &Run) -> Result<ContainerConfig> {
    let has = |stream: &str| run.attach.iter().any(|a| a.eq_ignore_ascii_case(stream));
    let all = run.attach.is_empty();
    let attach_stdin = has("stdin") || run.interactive;
    let mut exposed_ports = port::published(&run.publish)?.0;
    exposed_ports.extend(port::exposed(&run.expose)?);
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    Ok(ContainerConfig {
        hostname: text(&run.hostname),
        domainname: text(&run.domainname),
        exposed_ports: (!exposed_ports.is_empty())
            .then(|| order::map(exposed_ports.into_iter().map(|p| (p, Empty {})))),
        user: text(&run.user),
        tty: run.tty,
        open_stdin: run.interactive,
        stdin_once: run.interactive && attach_stdin,
        attach_stdin,
        attach_stdout: all || has("stdout"),
        attach_stderr: all || has("stderr"),
        env: some(files::environment(&run.env_file, &run.env)?),
        cmd: some(run.command.clone()),
        image: run.image.clone(),
        volumes: Some(volume::anonymous(&run.volume)?),
        entrypoint: run.entrypoint.clone().map(|e| vec![e]),
        working_dir: text(&run.workdir),
        labels: Some(files::labels(&run.label_file, &run.label)?),
        stop_signal: text(&run.stop_signal),
        healthcheck: healthcheck(run)?,
        stop_timeout: run.stop_timeout,
        ..ContainerConfig::default()
    })
}

/// Go sends null for an empty list.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn healthcheck(run: &Run) -> Result<Option<Healthcheck>> {
    let numbers = [
        run.health_interval, run.health_timeout, run.health_start_period, run.health_start_interval, run.health_retries,
    ];
    let command = run.health_cmd.as_deref().unwrap_or("");
    let set = !command.is_empty() || numbers.iter().any(|n| n.unwrap_or(0) != 0);
    if run.no_healthcheck {
        if set {
            return Err(Error::invalid("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(Some(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() }));
    }
    if !set {
        return Ok(None);
    }
    let names = ["interval", "timeout", "start-period", "start-interval", "retries"];
    for (name, number) in names.into_iter().zip(numbers) {
        if number.is_some_and(|n| n < 0) {
            return Err(Error::invalid(format!("--health-{name} cannot be negative")));
        }
    }
    let test = if command.is_empty() { Vec::new() } else { vec!["CMD-SHELL".into(), command.to_owned()] };
    let [interval, timeout, start_period, start_interval, retries] = numbers.map(|n| n.unwrap_or(0));
    Ok(Some(Healthcheck { test, interval, timeout, start_period, start_interval, retries }))
}

fn host_config(run: &Run, network_mode: String) -> Result<HostConfig> {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let number = |n: Option<i64>| n.unwrap_or(0);
    let restart_policy = restart_policy(run.restart.as_deref().unwrap_or("no"))?;
    if run.rm && !matches!(restart_policy.name.as_str(), "no" | "") {
        return Err(Error::invalid("conflicting options: cannot specify both --restart and --rm"));
    }
    let modes = [
        (&run.pid, mode_pid as fn(&str) -> bool, "--pid: invalid PID mode"),
        (&run.uts, mode_host, "--uts: invalid UTS mode"),
        (&run.userns, mode_userns, "--userns: invalid USER mode"),
        (&run.cgroupns, mode_cgroup, "--cgroupns: invalid CGROUP mode"),
    ];
    for (value, valid, message) in modes {
        if !valid(value.as_deref().unwrap_or("")) {
            return Err(Error::invalid(message));
        }
    }
    let (security_opt, unconfined) = security(&run.security_opt)?;
    let (devices, device_requests) = device::requests(run)?;
    let (cap_add, cap_drop) = capabilities(&run.cap_add, &run.cap_drop);
    Ok(HostConfig {
        binds: some(volume::binds(&run.volume)?),
        container_id_file: text(&run.cidfile),
        log_config: log_config(run)?,
        network_mode,
        port_bindings: Some(port::published(&run.publish)?.1),
        restart_policy,
        auto_remove: run.rm,
        volume_driver: text(&run.volume_driver),
        volumes_from: some(run.volumes_from.clone()),
        annotations: pairs(&run.annotation),
        cap_add: some(cap_add),
        cap_drop: some(cap_drop),
        cgroupns_mode: text(&run.cgroupns),
        dns: Some(run.dns.iter().map(|d| d.trim().to_owned()).collect()),
        dns_options: Some(run.dns_option.clone()),
        dns_search: Some(run.dns_search.iter().map(|d| d.trim().to_owned()).collect()),
        extra_hosts: some(run.add_host.iter().map(|h| list::extra_host(h)).collect()),
        group_add: some(run.group_add.clone()),
        ipc_mode: text(&run.ipc),
        links: some(run.link.clone()),
        oom_score_adj: number(run.oom_score_adj),
        pid_mode: text(&run.pid),
        privileged: run.privileged,
        publish_all_ports: run.publish_all,
        readonly_rootfs: run.read_only,
        security_opt: if unconfined { Some(security_opt) } else { some(security_opt) },
        storage_opt: storage(&run.storage_opt)?,
        tmpfs: tmpfs(&run.tmpfs),
        uts_mode: text(&run.uts),
        userns_mode: text(&run.userns),
        shm_size: number(run.shm_size),
        sysctls: pairs(&run.sysctl),
        runtime: text(&run.runtime),
        isolation: text(&run.isolation),
        cpu_shares: number(run.cpu_shares),
        memory: number(run.memory),
        nano_cpus: number(run.cpus),
        cgroup_parent: text(&run.cgroup_parent),
        blkio_weight: number(run.blkio_weight).try_into().unwrap_or(0),
        blkio_weight_device: Some(device::weights(&run.blkio_weight_device)),
        blkio_device_read_bps: Some(device::rates(&run.device_read_bps)),
        blkio_device_write_bps: Some(device::rates(&run.device_write_bps)),
        blkio_device_read_iops: Some(device::rates(&run.device_read_iops)),
        blkio_device_write_iops: Some(device::rates(&run.device_write_iops)),
        cpu_period: number(run.cpu_period),
        cpu_quota: number(run.cpu_quota),
        cpu_realtime_period: number(run.cpu_rt_period),
        cpu_realtime_runtime: number(run.cpu_rt_runtime),
        cpuset_cpus: text(&run.cpuset_cpus),
        cpuset_mems: text(&run.cpuset_mems),
        devices: Some(devices),
        device_cgroup_rules: some(run.device_cgroup_rule.clone()),
        device_requests: some(device_requests),
        memory_reservation: number(run.memory_reservation),
        memory_swap: number(run.memory_swap),
        memory_swappiness: Some(run.memory_swappiness.unwrap_or(-1)),
        oom_kill_disable: Some(run.oom_kill_disable),
        pids_limit: Some(number(run.pids_limit)),
        ulimits: Some(run.ulimit.iter().filter_map(|u| list::ulimit(u).ok()).collect()),
        mounts: mounts(&run.mount)?,
        masked_paths: unconfined.then(Vec::new),
        readonly_paths: unconfined.then(Vec::new),
        init: run.init,
        ..HostConfig::default()
    })
}

fn mounts(values: &[String]) -> Result<Option<Vec<crate::api::container::Mount>>> {
    let mounts: Result<Vec<_>, String> = values.iter().map(|m| mount::parse(m)).collect();
    mounts.map(some).map_err(Error::invalid)
}

fn mode_pid(mode: &str) -> bool {
    matches!(mode, "" | "host") || mode.strip_prefix("container:").is_some_and(|c| !c.is_empty())
}
fn mode_host(mode: &str) -> bool {
    matches!(mode, "" | "host")
}
/// The options of keep-id are the daemon's to judge.
fn mode_userns(mode: &str) -> bool {
    mode_host(mode) || mode == "keep-id" || mode.starts_with("keep-id:")
}
fn mode_cgroup(mode: &str) -> bool {
    matches!(mode, "" | "host" | "private")
}

/// `on-failure:3`; which names there are is the daemon's business.
pub fn restart_policy(policy: &str) -> Result<RestartPolicy> {
    let (name, count) = policy.split_once(':').unwrap_or((policy, ""));
    if policy.contains(':') && name.is_empty() {
        return Err(Error::invalid("invalid restart policy format: no policy provided before colon"));
    }
    let maximum_retry_count = match count {
        "" => 0,
        count => count
            .parse()
            .map_err(|_| Error::invalid("invalid restart policy format: maximum retry count must be an integer"))?,
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

fn log_config(run: &Run) -> Result<LogConfig> {
    let config: BTreeMap<String, String> = key_values(&run.log_opt);
    let kind = run.log_driver.clone().unwrap_or_default();
    if kind == "none" && !config.is_empty() {
        return Err(Error::invalid("invalid logging opts for driver none"));
    }
    Ok(LogConfig { kind, config: Some(config) })
}

/// `k=v`; a bare `k` has an empty value.
pub fn key_values(values: &[String]) -> BTreeMap<String, String> {
    let pair = |v: &String| {
        let (key, value) = v.split_once('=').unwrap_or((v, ""));
        (key.to_owned(), value.to_owned())
    };
    order::map(values.iter().map(pair))
}

fn pairs(values: &[String]) -> Option<BTreeMap<String, String>> {
    (!values.is_empty()).then(|| key_values(values))
}

fn storage(values: &[String]) -> Result<Option<BTreeMap<String, String>>> {
    match values.iter().all(|v| v.contains('=')) {
        true => Ok(pairs(values)),
        false => Err(Error::invalid("invalid storage option")),
    }
}

fn tmpfs(values: &[String]) -> Option<BTreeMap<String, String>> {
    let entry = |v: &String| {
        let (path, options) = v.split_once(':').unwrap_or((v, ""));
        (path.to_owned(), options.to_owned())
    };
    (!values.is_empty()).then(|| order::map(values.iter().map(entry)))
}

/// Names in their full form, each once. What is added is not dropped, and dropping
/// all drops each.
fn capabilities(add: &[String], drop: &[String]) -> (Vec<String>, Vec<String>) {
    let normal = |names: &[String]| {
        let full = |n: &String| {
            let upper = n.trim().to_ascii_uppercase();
            if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
        };
        let mut names: Vec<String> = names.iter().map(full).collect();
        order::sort(&mut names);
        names.dedup();
        names
    };
    let (add, mut drop) = (normal(add), normal(drop));
    match drop.iter().any(|d| d == "ALL") {
        true => drop = vec!["ALL".into()],
        false => drop.retain(|d| !add.contains(d)),
    }
    (add, drop)
}

/// Security options with the seccomp profile read in, and whether the masked and
/// read-only paths of /proc and /sys are to be lifted.
fn security(options: &[String]) -> Result<(Vec<String>, bool)> {
    let mut out = Vec::new();
    let mut unconfined = false;
    for option in options {
        let (key, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
            Some((key, value)) => (key, value),
            None if option == "no-new-privileges" => (option.as_str(), ""),
            None => {
                return Err(Error::invalid(format!("Invalid --security-opt: {}", crate::util::units::quote(option))));
            }
        };
        match (key, value) {
            ("systempaths", "unconfined") => unconfined = true,
            ("seccomp", value) if !matches!(value, "unconfined" | "builtin") => {
                let bytes = std::fs::read(value).map_err(|e| {
                    let why = crate::error::errno_text(&e);
                    Error::invalid(format!("opening seccomp profile ({value}) failed: open {value}: {why}"))
                })?;
                json::check(&bytes).map_err(|e| {
                    Error::invalid(format!("compacting json for seccomp profile ({value}) failed: {e}"))
                })?;
                out.push(format!("seccomp={}", compact(&String::from_utf8_lossy(&bytes))));
            }
            _ => out.push(option.clone()),
        }
    }
    Ok((out, unconfined))
}

/// JSON without the blanks between its tokens.
fn compact(json: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    json.chars()
        .filter(|c| {
            let keep = quoted || !c.is_ascii_whitespace();
            match c {
                '"' if !escaped => quoted = !quoted,
                _ => {}
            }
            escaped = quoted && *c == '\\' && !escaped;
            keep
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_capabilities() {
        assert_eq!(restart_policy("on-failure:3").unwrap().maximum_retry_count, 3);
        assert!(restart_policy(":3").unwrap_err().message().contains("before colon"));
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let (add, drop) = capabilities(&own(&["all", "net_raw"]), &own(&["CAP_NET_RAW", "chown"]));
        assert_eq!((add, drop), (own(&["ALL", "CAP_NET_RAW"]), own(&["CAP_CHOWN"])));
        assert_eq!(compact("{ \"a b\\\" c\" : [1,\n 2] }"), "{\"a b\\\" c\":[1,2]}");
    }
}
