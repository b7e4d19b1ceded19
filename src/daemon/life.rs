//! From a valid configuration to the last log line. Main thread.

use super::config::Config;
use super::host::Host;
use super::listen::{self, Bound, SocketFile};
use super::ownership::{Ownership, make_dir};
use super::signals::{Signals, Woken};
use super::{activation, bootstrap, minimum_version, set_level, threads};
use crate::api::version;
use crate::engine::container::shutdown;
use crate::engine::system::{self, hostname};
use crate::engine::{Engine, EngineConfig, LiveConfig, Parts, events};
use crate::error::{Context, Kind, Result};
use crate::image::registry::endpoint::Settings;
use crate::server::Server;
use crate::server::accept::Acceptor;
use crate::server::origin::Rules;
use crate::server::tls::Tls;
use crate::storage::probe;
use nix::sys::signal::Signal;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

pub fn run(mut config: Config) -> Result<ExitCode> {
    crate::info!("Starting up");
    if config.places.rootless {
        config.places.require_runtime()?;
        crate::warn!("Running in rootless mode. This mode has feature limitations.");
    }
    for (name, reason) in config.without_effect() {
        crate::warn!(format!("the option {name} has no effect: {reason}"));
    }
    let data_root = absolute(config.text("data-root", ""), config.places.data_root());
    let exec_root = absolute(config.text("exec-root", ""), config.places.exec_root());
    let pid_file = match config.get("pidfile").and_then(|v| v.as_str()) {
        Some(path) => PathBuf::from(path),
        None => config.places.pid_file(),
    };
    make_dir(&exec_root, 0o700)?;
    let ownership = Ownership::take(&data_root, &pid_file)?;
    let tls = super::tls::load(&config)?.map(Tls::new);
    let bound = bind_all(&config, tls.as_ref())?;
    let files: Vec<SocketFile> = bound.iter().filter_map(|b| b.file.clone()).collect();
    let result = serve(&mut config, data_root, exec_root, bound, tls.as_ref());
    for file in &files {
        file.remove();
    }
    drop(ownership);
    result
}

fn absolute(text: &str, default: PathBuf) -> PathBuf {
    if text.is_empty() {
        return default;
    }
    std::path::absolute(text).unwrap_or_else(|_| PathBuf::from(text))
}

fn bind_all(config: &Config, tls: Option<&Arc<Tls>>) -> Result<Vec<Bound>> {
    let group = config.get("group").and_then(|v| v.as_str());
    let mut bound: Vec<Bound> = Vec::new();
    for host in config.hosts()? {
        if !super::tls::verifies(config) {
            listen::warn_open(&host, config.has("tls") || config.has("tlsverify"));
        }
        match listen::bind(&host, group, config.places.rootless) {
            Ok(more) => bound.extend(more.into_iter().map(|b| b.with_tls(tls))),
            Err(e) => {
                bound.iter().filter_map(|b| b.file.as_ref()).for_each(SocketFile::remove);
                return Err(e);
            }
        }
    }
    for b in &bound {
        let kind = if b.tcp { "tcp" } else { "unix" };
        crate::debug!(format!("Listener created for HTTP on {kind} ({})", b.name));
    }
    Ok(bound)
}

fn serve(
    config: &mut Config,
    data_root: PathBuf,
    exec_root: PathBuf,
    bound: Vec<Bound>,
    tls: Option<&Arc<Tls>>,
) -> Result<ExitCode> {
    let began = Instant::now();
    let parts = enter(config, &data_root, &exec_root)?;
    raise_descriptor_limit();
    let signals = Signals::block()?;
    crate::info!("Loading containers: start.");
    let socket = bound.iter().find(|b| !b.tcp).map(|b| PathBuf::from(&b.name));
    let engine = Engine::new(engine_config(config, data_root, exec_root.clone(), socket)?, parts)?;
    crate::info!("Loading containers: done.");
    let minimum = match config.text("min-api-version", "") {
        "" => match std::env::var("DOCKER_MIN_API_VERSION") {
            Ok(text) if !text.is_empty() => minimum_version(&text)?,
            _ => version::MIN,
        },
        text => minimum_version(text)?,
    };
    let own_names = config.hosts()?.into_iter().filter_map(|h| match h {
        Host::Tcp { host, .. } => Some(host),
        _ => None,
    });
    let rules = Rules::from_environment(own_names.collect());
    let server = Server::new(engine.clone(), version::PRODUCT, minimum, config.bool("experimental", false), rules);
    crate::info!("Docker daemon", "commit" = version::COMMIT, "version" = version::PRODUCT);
    crate::info!("Daemon has completed initialization");
    let names: Vec<String> = bound.iter().map(|b| b.name.clone()).collect();
    let listeners = bound.into_iter().map(|b| b.listener).collect();
    let acceptor = Acceptor::start(server.clone(), listeners).context("start accepting connections")?;
    for name in names {
        crate::info!(format!("API listen on {name}"));
    }
    crate::debug!("startup finished", "milliseconds" = began.elapsed().as_millis());
    activation::notify("READY=1\n");
    let daemon = Daemon { signals: &signals, engine: &engine, exec_root: &exec_root, tls };
    let code = daemon.attend(config, || {
        server.stop();
        acceptor.stop();
    });
    crate::info!("Daemon shutdown complete");
    Ok(code)
}

/// Until the bootstrap is complete the daemon serves what needs no container.
fn enter(config: &Config, data_root: &Path, exec_root: &Path) -> Result<Parts> {
    let spawner = match bootstrap::enter(&bootstrap::BootstrapConfig {
        exec_root: exec_root.into(),
        netd: Some(crate::net::netd::main),
    }) {
        Ok(bootstrap) => bootstrap.spawner,
        Err(e) if e.kind() == Kind::NotImplemented => UnixStream::pair().context("make a socket pair")?.0.into(),
        Err(e) => return Err(e),
    };
    let wanted = Some(config.text("storage-driver", "")).filter(|name| !name.is_empty());
    let driver = probe::open(data_root, wanted).context("error initializing graphdriver")?;
    Ok(Parts { spawner, driver, support: Default::default() })
}

/// Each connection, container and log has descriptors; containers get limits of
/// their own.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn engine_config(
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
    engine.warnings = open_listeners(config)?;
    engine.set_live(live_config(config));
    registry_settings(config, &mut engine.registry);
    engine.shutdown_timeout = config.int("shutdown-timeout", 15);
    Ok(engine)
}

fn live_config(config: &Config) -> LiveConfig {
    LiveConfig { labels: config.list("labels"), live_restore: config.bool("live-restore", false) }
}

/// What `docker info` says about listeners that anybody may use.
fn open_listeners(config: &Config) -> Result<Vec<String>> {
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

fn registry_settings(config: &Config, settings: &mut Settings) {
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

struct Daemon<'a> {
    signals: &'a Signals,
    engine: &'a Arc<Engine>,
    exec_root: &'a Path,
    tls: Option<&'a Arc<Tls>>,
}

impl Daemon<'_> {
    /// Waits for signals until the daemon is to end, and ends it.
    fn attend(&self, config: &mut Config, close: impl FnOnce()) -> ExitCode {
        let watchdog = activation::watchdog();
        let signal = loop {
            match self.signals.wait(None, watchdog) {
                Woken::Signal(Signal::SIGHUP) => self.reload(config),
                Woken::Signal(Signal::SIGUSR1) => threads::dump(self.exec_root),
                Woken::Signal(signal) => break signal,
                Woken::Timeout => activation::notify("WATCHDOG=1\n"),
                Woken::Other => {}
            }
        };
        let name = if signal == Signal::SIGINT { "interrupt" } else { "terminated" };
        crate::info!(format!("Processing signal '{name}'"));
        activation::notify("STOPPING=1\n");
        close();
        self.end(config, signal)
    }

    /// Stops the engine on a thread of its own, so that an impatient third signal
    /// is still heard.
    fn end(&self, config: &Config, signal: Signal) -> ExitCode {
        let (live_restore, timeout) = (config.bool("live-restore", false), config.int("shutdown-timeout", 15));
        let stopping = self.engine.clone();
        let started = UnixStream::pair().and_then(|(done, ending)| {
            let work = move || {
                stop_engine(&stopping, live_restore, timeout);
                drop(ending);
            };
            std::thread::Builder::new().name("shutdown".into()).spawn(work).map(|_| done)
        });
        let done = match started {
            Ok(done) => done,
            Err(e) => {
                crate::error!("cannot stop in order", "error" = e);
                return ExitCode::FAILURE;
            }
        };
        let mut count = 1;
        loop {
            match self.signals.wait(Some(done.as_fd()), None) {
                Woken::Other => return ExitCode::SUCCESS,
                Woken::Signal(Signal::SIGTERM | Signal::SIGINT) => {
                    count += 1;
                    if count > 3 {
                        crate::info!("Forcing docker daemon shutdown without cleanup: 3 interrupts received");
                        return ExitCode::from(128 + signal as u8);
                    }
                }
                _ => {}
            }
        }
    }

    /// SIGHUP: the file again, and the certificates. What is wrong with them
    /// changes nothing.
    fn reload(&self, config: &mut Config) {
        crate::info!("Got signal to reload configuration", "config-file" = config.file.display());
        activation::notify("RELOADING=1\n");
        let fresh = config.reread().and_then(|fresh| Ok((super::tls::load(config)?, fresh)));
        match fresh {
            Ok((certificates, fresh)) => {
                if let (Some(tls), Some(certificates)) = (self.tls, certificates) {
                    tls.replace(certificates);
                }
                let changed = config.adopt_reloadable(&fresh);
                set_level(config);
                self.engine.config.set_live(live_config(config));
                let mut settings = Settings::clone(&self.engine.registries.settings());
                registry_settings(config, &mut settings);
                self.engine.registries.set_settings(settings);
                let attributes = [("name".to_owned(), hostname()), ("changed".to_owned(), changed.join(","))];
                self.engine.events.publish(
                    events::Kind::Daemon,
                    "reload",
                    system::engine_id(&self.engine.config.data_root),
                    attributes.into(),
                );
                crate::info!(format!("Reloaded configuration: {}", config.reloadable()), "changed" = changed.join(","));
            }
            Err(e) => crate::error!("cannot reload the configuration, the old one stays", "error" = e),
        }
        activation::notify("READY=1\n");
    }
}

fn stop_engine(engine: &Arc<Engine>, live_restore: bool, timeout: i64) {
    if !live_restore {
        shutdown::stop_all(engine, timeout);
    }
    engine.records.flush();
}
