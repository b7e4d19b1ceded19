//! The daemon's options as what the engine and its parts are configured with.
//! Main thread.

use super::config::Config;
use super::host::Host;
use crate::engine::network::defaults::Defaults;
use crate::engine::{EngineConfig, LiveConfig};
use crate::error::{Context, Error, Result};
use crate::image::registry::endpoint::Settings;
use crate::net::subnet::Subnet;
use serde_json::Value;
use std::net::IpAddr;
use std::path::PathBuf;

pub fn engine(
    config: &Config,
    data_root: PathBuf,
    exec_root: PathBuf,
    socket: Option<PathBuf>,
) -> Result<EngineConfig> {
    let seccomp_profile = match config.text("seccomp-profile", "") {
        "" | "builtin" => None,
        "unconfined" => Some("unconfined".to_owned()),
        path => {
            Some(std::fs::read_to_string(path).with_context(|| format!("opening seccomp profile ({path}) failed"))?)
        }
    };
    let mut engine = EngineConfig::new(data_root, exec_root);
    engine.socket = socket;
    engine.rootless = config.places.rootless;
    engine.log_driver = config.text("log-driver", "json-file").to_owned();
    engine.log_opts = config.map("log-opts");
    engine.default_ulimits = config.ulimits();
    engine.init = config.bool("init", false);
    engine.no_new_privileges = config.bool("no-new-privileges", false);
    engine.seccomp_profile = seccomp_profile;
    engine.dns = config.list("dns");
    engine.dns_options = config.list("dns-opts");
    engine.dns_search = config.list("dns-search");
    engine.networks = networks(config)?;
    engine.start_netd = Some(super::bootstrap::start_netd);
    engine.cdi_dirs = match config.list("cdi-spec-dirs") {
        dirs if dirs.is_empty() => config.places.cdi_dirs(),
        dirs => dirs.into_iter().filter(|d| !d.is_empty()).collect(),
    };
    engine.experimental = config.bool("experimental", false);
    engine.keep_blobs = config.bool("keep-blobs", true);
    engine.set_live(live(config));
    registry(config, &mut engine.registry);
    engine.shutdown_timeout = config.int("shutdown-timeout", 15);
    Ok(engine)
}

/// What is said about networks.
fn networks(config: &Config) -> Result<Defaults> {
    let host = |key: &str| match config.text(key, "") {
        "" => Ok(None),
        text => {
            Subnet::parse_host(text).map(Some).ok_or_else(|| Error::invalid(format!("invalid CIDR address: {text}")))
        }
    };
    let address = |key: &str| config.text(key, "").parse::<IpAddr>().ok();
    let mut pools = Vec::new();
    for pool in config.get("default-address-pools").and_then(Value::as_array).into_iter().flatten() {
        pools.push(address_pool(pool)?);
    }
    let options = config.get("default-network-opts").and_then(Value::as_object).cloned().unwrap_or_default();
    let text = |v: Value| v.as_str().map(str::to_owned).unwrap_or_default();
    let map = |v: Value| v.as_object().cloned().unwrap_or_default().into_iter().map(|(k, v)| (k, text(v))).collect();
    let defaults = Defaults {
        bip: [host("bip")?, host("bip6")?],
        fixed_cidr: [host("fixed-cidr")?.map(Subnet::masked), host("fixed-cidr-v6")?.map(Subnet::masked)],
        gateway: [address("default-gateway"), address("default-gateway-v6")],
        ipv6: config.bool("ipv6", false),
        bridge: config.text("bridge", "").to_owned(),
        mtu: u32::try_from(config.int("mtu", 0)).ok().filter(|n| *n > 0).unwrap_or(1500),
        icc: config.bool("icc", true),
        masquerade: config.bool("ip-masq", true),
        binding: address("ip"),
        pools,
        options: options.into_iter().map(|(driver, v)| (driver, map(v))).collect(),
        host_gateways: config.list("host-gateway-ips").iter().filter_map(|a| a.parse().ok()).collect(),
    };
    defaults.check()?;
    Ok(defaults)
}

/// `{"base": CIDR, "size": N}`; Go's decoder does not care for the case of keys.
fn address_pool(pool: &Value) -> Result<(Subnet, u8)> {
    let field =
        |name: &str| pool.as_object().into_iter().flatten().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v);
    let base = field("base").and_then(Value::as_str).unwrap_or_default();
    let subnet = Subnet::parse_host(base)
        .ok_or_else(|| Error::invalid(format!("invalid base pool {base:?}: invalid CIDR address")))?
        .masked();
    let size = field("size").and_then(Value::as_u64).unwrap_or(0);
    let most = if subnet.is_ipv4() { 32 } else { 128 };
    match u8::try_from(size) {
        Ok(n) if n >= subnet.prefix && n <= most => Ok((subnet, n)),
        _ => Err(Error::invalid(format!("invalid pools size: {size}"))),
    }
}

pub fn live(config: &Config) -> LiveConfig {
    let default = LiveConfig::default();
    LiveConfig {
        labels: config.list("labels"),
        live_restore: config.bool("live-restore", false),
        shm_size: config.int("default-shm-size", default.shm_size),
        cgroupns_mode: config.text("default-cgroupns-mode", &default.cgroupns_mode).to_owned(),
        userns_mode: config.text("default-userns-mode", &default.userns_mode).to_owned(),
        ipc_mode: config.text("default-ipc-mode", &default.ipc_mode).to_owned(),
        stop_timeout: config.int("default-stop-timeout", default.stop_timeout),
    }
}

/// What `docker info` says about listeners that anybody may use.
pub fn open_listeners(config: &Config) -> Result<Vec<String>> {
    if super::tls::verifies(config) {
        return Ok(Vec::new());
    }
    let how = if config.tls_asked() { "without TLS client verification" } else { "without encryption" };
    let scheme = if config.tls_asked() { "https" } else { "http" };
    let tcp = config.hosts()?.into_iter().filter(|h| matches!(h, Host::Tcp { .. }));
    Ok(tcp
        .map(|host| {
            let address = host.to_string().replacen("tcp", scheme, 1);
            format!(
                "[DEPRECATION NOTICE]: API is accessible on {address} {how}.\n         Access to the remote API is equivalent to root access on the host. Refer\n         to the 'Docker daemon attack surface' section in the documentation for\n         more information: https://docs.docker.com/go/attack-surface/\nIn future versions this will be a hard failure preventing the daemon from starting! Learn more at: https://docs.docker.com/go/api-security/"
            )
        })
        .collect())
}

pub fn registry(config: &Config, settings: &mut Settings) {
    settings.mirrors = config.list("registry-mirrors");
    settings.insecure = config.list("insecure-registries");
    for (key, slot) in [
        ("proxies.http-proxy", &mut settings.http_proxy),
        ("proxies.https-proxy", &mut settings.https_proxy),
        ("proxies.no-proxy", &mut settings.no_proxy),
    ] {
        if config.has(key) {
            if !slot.is_empty() {
                crate::warn!("overriding existing proxy variable with value from configuration", "name" = key);
            }
            *slot = config.text(key, "").to_owned();
        }
    }
    let count = |key: &str, default: usize| match usize::try_from(config.int(key, 0)) {
        Ok(n) if n > 0 => n,
        _ => default,
    };
    settings.max_downloads = count("max-concurrent-downloads", settings.max_downloads);
    settings.max_uploads = count("max-concurrent-uploads", settings.max_uploads);
    settings.attempts = count("max-download-attempts", settings.attempts as usize) as u32;
}
