//! The daemon's options as what the engine and its parts are configured with.
//! Main thread.

use super::config::Config;
use super::host::Host;
use crate::engine::{EngineConfig, LiveConfig};
use crate::error::{Context, Result};
use crate::image::registry::endpoint::Settings;
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
    engine.shm_size = config.int("default-shm-size", engine.shm_size);
    engine.init = config.bool("init", false);
    engine.cgroupns_mode = config.text("default-cgroupns-mode", "private").to_owned();
    engine.ipc_mode = config.text("default-ipc-mode", "private").to_owned();
    engine.no_new_privileges = config.bool("no-new-privileges", false);
    engine.seccomp_profile = seccomp_profile;
    engine.dns = config.list("dns");
    engine.dns_options = config.list("dns-opts");
    engine.dns_search = config.list("dns-search");
    engine.experimental = config.bool("experimental", false);
    engine.set_live(live(config));
    registry(config, &mut engine.registry);
    engine.shutdown_timeout = config.int("shutdown-timeout", 15);
    Ok(engine)
}

pub fn live(config: &Config) -> LiveConfig {
    LiveConfig { labels: config.list("labels"), live_restore: config.bool("live-restore", false) }
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
