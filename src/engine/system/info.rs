//! `GET /info`: the daemon, its settings and its host in one document.

use super::host;
use crate::api::system::{
    Commit, DiscoveredDevice, FirewallInfo, IndexInfo, Info, PluginsInfo, RegistryConfig, RuntimeInfo, SwarmInfo,
};
use crate::api::version::{self, Version};
use crate::engine::Engine;
use crate::engine::container::{cdi, state::Phase};
use crate::error::Result;
use crate::image::registry::endpoint::Settings;
use crate::util::atomic_file::{self, Durability};
use crate::util::{id, time};
use std::collections::BTreeMap;
use std::path::Path;

const HUB: &str = "docker.io";

pub fn info(engine: &Engine, asked: Version) -> Result<Info> {
    let config = &engine.config;
    let live = config.live();
    let support = &engine.support;
    let settings = engine.registries.settings();
    let mut info = Info {
        id: engine_id(&config.data_root),
        images: engine.images.list().len() as i64,
        driver: engine.driver.name().to_owned(),
        driver_status: engine.driver.status().into_iter().map(|(k, v)| [k, v]).collect(),
        plugins: PluginsInfo {
            volume: strings(&["local"]),
            network: strings(&["bridge", "host", "null"]),
            authorization: None,
            log: strings(&["json-file", "local", "none"]),
        },
        memory_limit: support.memory,
        swap_limit: support.swap,
        cpu_cfs_period: support.cpu,
        cpu_cfs_quota: support.cpu,
        cpu_shares: support.cpu,
        cpu_set: support.cpuset,
        pids_limit: support.pids,
        ipv4_forwarding: true,
        bridge_nf_iptables: (asked < Version(50)).then_some(false),
        bridge_nf_ip6tables: (asked < Version(50)).then_some(false),
        debug: crate::log::enabled(crate::log::Level::Debug),
        n_fd: entries("/proc/self/fd"),
        n_goroutines: entries("/proc/self/task"),
        system_time: time::rfc3339_nano(time::now()),
        logging_driver: config.log_driver.clone(),
        cgroup_driver: engine.runtime.cgroups().driver().into(),
        cgroup_version: if host::has_cgroup2() { "2" } else { "1" }.into(),
        n_events_listener: engine.events.listeners() as i64,
        kernel_version: host::kernel_version(),
        operating_system: host::operating_system("PRETTY_NAME").unwrap_or_else(|| "Linux".into()),
        os_version: host::operating_system("VERSION_ID").unwrap_or_default(),
        os_type: "linux".into(),
        architecture: host::machine().into(),
        index_server_address: "https://index.docker.io/v1/".into(),
        registry_config: Some(registries(&settings)),
        ncpu: std::thread::available_parallelism().map_or(1, |n| n.get() as i64),
        mem_total: host::mem_total(),
        docker_root_dir: config.data_root.display().to_string(),
        http_proxy: without_password(&settings.http_proxy),
        https_proxy: without_password(&settings.https_proxy),
        no_proxy: settings.no_proxy.clone(),
        name: host::hostname(),
        labels: live.labels.clone(),
        experimental_build: config.experimental,
        server_version: version::PRODUCT.into(),
        runtimes: BTreeMap::from([("runc".to_owned(), RuntimeInfo { path: "coracle".into(), ..Default::default() })]),
        default_runtime: "runc".into(),
        swarm: SwarmInfo { local_node_state: "inactive".into(), ..Default::default() },
        live_restore_enabled: live.live_restore,
        init_binary: "docker-init".into(),
        init_commit: own_commit(asked),
        runc_commit: own_commit(asked),
        containerd_commit: own_commit(asked),
        security_options: security_options(engine),
        firewall_backend: (asked >= Version(49)).then(|| FirewallInfo { driver: "none".into(), info: Vec::new() }),
        cdi_spec_dirs: config.cdi_dirs.clone(),
        discovered_devices: discovered(engine),
        warnings: Some(warnings(engine)),
        ..Default::default()
    };
    count_containers(engine, &mut info);
    Ok(info)
}

fn count_containers(engine: &Engine, info: &mut Info) {
    (info.containers_running, info.containers_paused, info.containers_stopped) = containers_by_state(engine);
    info.containers = info.containers_running + info.containers_paused + info.containers_stopped;
}

/// How many run, are paused and are neither.
pub fn containers_by_state(engine: &Engine) -> (i64, i64, i64) {
    let (mut running, mut paused, mut stopped) = (0, 0, 0);
    for container in engine.containers.all() {
        match container.live().record.state.phase {
            Phase::Running | Phase::Restarting => running += 1,
            Phase::Paused => paused += 1,
            _ => stopped += 1,
        }
    }
    (running, paused, stopped)
}

fn discovered(engine: &Engine) -> Option<Vec<DiscoveredDevice>> {
    let names = cdi::names(&engine.config.cdi_dirs);
    let list: Vec<_> = names.into_iter().map(|id| DiscoveredDevice { source: "cdi".into(), id }).collect();
    (!list.is_empty()).then_some(list)
}

fn own_commit(asked: Version) -> Commit {
    let id = version::COMMIT.to_owned();
    Commit { expected: if asked < Version(49) { id.clone() } else { String::new() }, id }
}

fn security_options(engine: &Engine) -> Vec<String> {
    let config = &engine.config;
    let profile = match config.seccomp_profile.as_deref() {
        None => "builtin",
        Some("unconfined") => "unconfined",
        Some(_) => "custom",
    };
    let mut list = vec![format!("name=seccomp,profile={profile}")];
    if config.rootless {
        list.push("name=rootless".into());
    }
    list.push("name=cgroupns".into());
    if config.no_new_privileges {
        list.push("name=no-new-privileges".into());
    }
    list
}

/// What this host cannot do, in Docker's words, and what the daemon found.
fn warnings(engine: &Engine) -> Vec<String> {
    let support = &engine.support;
    let mut list = engine.config.warnings.clone();
    match engine.networks.netd.status().map(|s| s.outbound).as_deref() {
        Ok("repair") | Err(_) => {}
        Ok("listen") => {
            list.push("WARNING: TCP_REPAIR is refused: outbound connections are opened in a slower way".into());
        }
        Ok(none) => list.push(format!("WARNING: No outbound TCP from containers ({none})")),
    }
    if engine.runtime.cgroups().driver() == "none" {
        list.push(if engine.config.rootless {
            "WARNING: Running in rootless-mode without cgroups. Systemd is required to enable cgroups in rootless-mode."
                .into()
        } else {
            "WARNING: No cgroup is delegated to this daemon: resource limits are discarded".into()
        });
        return list;
    }
    for (there, what) in [
        (support.memory, "memory limit"),
        (support.swap, "swap limit"),
        (support.cpu, "cpu cfs quota"),
        (support.cpu, "cpu cfs period"),
        (support.cpu, "cpu shares"),
        (support.cpuset, "cpuset"),
        (support.pids, "pids limit"),
    ] {
        if !there {
            list.push(format!("WARNING: No {what} support"));
        }
    }
    list
}

fn registries(settings: &Settings) -> RegistryConfig {
    let mirrors: Vec<String> =
        settings.mirrors.iter().map(|m| if m.ends_with('/') { m.clone() } else { format!("{m}/") }).collect();
    let mut config = RegistryConfig {
        insecure_registry_cidrs: strings(&["::1/128", "127.0.0.0/8"]),
        mirrors: (!mirrors.is_empty()).then(|| mirrors.clone()),
        ..Default::default()
    };
    let index = |name: &str| IndexInfo { name: name.to_owned(), ..Default::default() };
    config.index_configs.insert(HUB.into(), IndexInfo { mirrors, official: true, secure: true, ..index(HUB) });
    for registry in &settings.insecure {
        if registry.contains('/') {
            config.insecure_registry_cidrs.push(registry.clone());
        } else {
            config.index_configs.insert(registry.clone(), index(registry));
        }
    }
    config
}

/// A proxy's credentials are nobody's business who may ask for /info.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
        None => url.to_owned(),
    }
}

/// The same over the life of a data root.
pub fn engine_id(root: &Path) -> String {
    let path = root.join("engine-id");
    if let Ok(text) = std::fs::read_to_string(&path)
        && text.len() == 36
    {
        return text;
    }
    let mut bytes = [0u8; 16];
    id::fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = id::hex(&bytes);
    let text = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    if let Err(e) = atomic_file::write(&path, text.as_bytes(), Durability::Synced) {
        crate::warn!("cannot keep the engine's id", "error" = e);
    }
    text
}

fn entries(dir: &str) -> i64 {
    std::fs::read_dir(dir).map_or(-1, |d| d.count() as i64)
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_lose_their_passwords() {
        assert_eq!(without_password("http://u:p@h:1/"), "http://xxxxx:xxxxx@h:1/");
        assert_eq!(without_password("http://h:1"), "http://h:1");
    }

    #[test]
    fn registries_and_ranges_are_told_apart() {
        let settings = Settings {
            insecure: vec!["10.0.0.0/8".into(), "r:5000".into()],
            mirrors: vec!["https://m".into()],
            ..Settings::default()
        };
        let config = registries(&settings);
        assert_eq!(config.insecure_registry_cidrs, ["::1/128", "127.0.0.0/8", "10.0.0.0/8"]);
        assert!(!config.index_configs["r:5000"].secure && config.index_configs[HUB].official);
        assert_eq!(config.mirrors, Some(vec!["https://m/".to_owned()]));
    }
}
