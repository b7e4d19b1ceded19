//! What the engine says about itself and its host: version, info, disk usage.
//! Request threads.

use crate::api::system::{Component, Info, PluginsInfo, RuntimeInfo, SwarmInfo, VersionInfo};
use crate::api::version::{self, Version};
use crate::engine::Engine;
use crate::error::Result;
use crate::util::time;
use std::collections::BTreeMap;

pub fn version(_engine: &Engine, _asked: Version) -> Result<VersionInfo> {
    let detail = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>())
    };
    let (max, min, kernel) = (version::MAX.to_string(), version::MIN.to_string(), kernel_version());
    let own = env!("CARGO_PKG_VERSION");
    let part = |name: &str| Component {
        name: name.to_owned(),
        version: own.to_owned(),
        details: detail(&[("GitCommit", version::COMMIT)]),
    };
    Ok(VersionInfo {
        platform: crate::api::system::Platform { name: format!("Coracle {own}") },
        components: vec![
            Component {
                name: "Engine".into(),
                version: version::PRODUCT.into(),
                details: detail(&[
                    ("ApiVersion", &max),
                    ("Arch", go_arch()),
                    ("BuildTime", version::BUILD_TIME),
                    ("Experimental", "false"),
                    ("GitCommit", version::COMMIT),
                    ("GoVersion", "none"),
                    ("KernelVersion", &kernel),
                    ("MinAPIVersion", &min),
                    ("Os", "linux"),
                ]),
            },
            part("coracle"),
            part("docker-init"),
        ],
        version: version::PRODUCT.into(),
        api_version: max.clone(),
        min_api_version: min.clone(),
        git_commit: version::COMMIT.into(),
        go_version: "none".into(),
        os: "linux".into(),
        arch: go_arch().into(),
        kernel_version: kernel.clone(),
        experimental: false,
        build_time: version::BUILD_TIME.into(),
    })
}

pub fn info(engine: &Engine, asked: Version) -> Result<Info> {
    let config = &engine.config;
    let mut security = vec!["name=seccomp,profile=builtin".to_owned()];
    match config.seccomp_profile.as_deref() {
        Some("unconfined") => security[0] = "name=seccomp,profile=unconfined".to_owned(),
        Some(_) => security[0] = "name=seccomp,profile=custom".to_owned(),
        None => {}
    }
    if config.rootless {
        security.push("name=rootless".into());
    }
    security.push("name=cgroupns".into());
    if config.no_new_privileges {
        security.push("name=no-new-privileges".into());
    }
    Ok(Info {
        driver_status: Vec::new(),
        plugins: PluginsInfo {
            volume: strings(&["local"]),
            network: strings(&["bridge", "host", "null"]),
            authorization: None,
            log: strings(&["json-file", "local", "none"]),
        },
        ipv4_forwarding: true,
        bridge_nf_iptables: (asked < Version(50)).then_some(false),
        bridge_nf_ip6tables: (asked < Version(50)).then_some(false),
        debug: crate::log::enabled(crate::log::Level::Debug),
        n_fd: std::fs::read_dir("/proc/self/fd").map_or(-1, |d| d.count() as i64),
        n_goroutines: std::fs::read_dir("/proc/self/task").map_or(-1, |d| d.count() as i64),
        system_time: time::rfc3339_nano(time::now()),
        logging_driver: config.log_driver.clone(),
        cgroup_driver: "none".into(),
        cgroup_version: "2".into(),
        kernel_version: kernel_version(),
        operating_system: operating_system("PRETTY_NAME").unwrap_or_else(|| "Linux".into()),
        os_version: operating_system("VERSION_ID").unwrap_or_default(),
        os_type: "linux".into(),
        architecture: machine().into(),
        index_server_address: "https://index.docker.io/v1/".into(),
        ncpu: std::thread::available_parallelism().map_or(1, |n| n.get() as i64),
        mem_total: mem_total(),
        docker_root_dir: config.data_root.display().to_string(),
        name: hostname(),
        labels: config.labels.clone(),
        server_version: version::PRODUCT.into(),
        runtimes: BTreeMap::from([("runc".to_owned(), RuntimeInfo { path: "coracle".into(), ..Default::default() })]),
        default_runtime: "runc".into(),
        swarm: SwarmInfo { local_node_state: "inactive".into(), ..Default::default() },
        live_restore_enabled: false,
        init_binary: "docker-init".into(),
        security_options: security,
        ..Default::default()
    })
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

pub fn kernel_version() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn mem_total() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .and_then(|v| v.trim().trim_end_matches("kB").trim().parse::<i64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// One value of os-release(5), unquoted.
fn operating_system(key: &str) -> Option<String> {
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
fn machine() -> &'static str {
    std::env::consts::ARCH
}
