//! From a valid configuration to the last log line. Main thread.

use super::config::Config;
use super::listen::{self, Bound, SocketFile};
use super::ownership::{Ownership, make_dir};
use super::signals::{Signals, Woken};
use super::{activation, bootstrap, minimum_version, set_level, threads};
use crate::api::version;
use crate::engine::{Engine, EngineConfig, Parts};
use crate::error::{Context, Error, Kind, Result};
use crate::server::Server;
use crate::server::accept::Acceptor;
use nix::sys::signal::Signal;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
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
    let bound = bind_all(&config)?;
    let files: Vec<SocketFile> = bound.iter().filter_map(|b| b.file.clone()).collect();
    let result = serve(&mut config, data_root, exec_root, bound);
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

fn bind_all(config: &Config) -> Result<Vec<Bound>> {
    let group = config.get("group").and_then(|v| v.as_str());
    let mut bound: Vec<Bound> = Vec::new();
    for host in config.hosts()? {
        match listen::bind(&host, group, config.places.rootless) {
            Ok(more) => bound.extend(more),
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

fn serve(config: &mut Config, data_root: PathBuf, exec_root: PathBuf, bound: Vec<Bound>) -> Result<ExitCode> {
    let began = Instant::now();
    let parts = enter(&exec_root)?;
    raise_descriptor_limit();
    let signals = Signals::block()?;
    let socket = bound.iter().find(|b| !b.tcp).map(|b| PathBuf::from(&b.name));
    let engine = Engine::new(engine_config(config, data_root, exec_root.clone(), socket)?, parts)?;
    let minimum = match config.text("min-api-version", "") {
        "" => match std::env::var("DOCKER_MIN_API_VERSION") {
            Ok(text) if !text.is_empty() => minimum_version(&text)?,
            _ => version::MIN,
        },
        text => minimum_version(text)?,
    };
    let server = Server::new(engine.clone(), version::PRODUCT, minimum, config.bool("experimental", false));
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
    let code = attend(&signals, config, &engine, &exec_root, || {
        server.stop();
        acceptor.stop();
    });
    crate::info!("Daemon shutdown complete");
    Ok(code)
}

/// Until the bootstrap is complete the daemon serves what needs no container.
fn enter(exec_root: &std::path::Path) -> Result<Parts> {
    let spawner = match bootstrap::enter(&bootstrap::BootstrapConfig { exec_root: exec_root.into(), netd: None }) {
        Ok(bootstrap) => bootstrap.spawner,
        Err(e) if e.kind() == Kind::NotImplemented => UnixStream::pair().context("make a socket pair")?.0.into(),
        Err(e) => return Err(e),
    };
    Ok(Parts { spawner, driver: Arc::new(super::absent::Absent), support: Default::default() })
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
    engine.labels = config.list("labels");
    engine.shutdown_timeout = config.int("shutdown-timeout", 15);
    Ok(engine)
}

/// Waits for signals until the daemon is to end, and ends it.
fn attend(
    signals: &Signals,
    config: &mut Config,
    engine: &Arc<Engine>,
    exec_root: &std::path::Path,
    close: impl FnOnce(),
) -> ExitCode {
    let watchdog = activation::watchdog();
    let signal = loop {
        match signals.wait(None, watchdog) {
            Woken::Signal(Signal::SIGHUP) => reload(config, engine),
            Woken::Signal(Signal::SIGUSR1) => threads::dump(exec_root),
            Woken::Signal(signal) => break signal,
            Woken::Timeout => activation::notify("WATCHDOG=1\n"),
            Woken::Other => {}
        }
    };
    let name = if signal == Signal::SIGINT { "interrupt" } else { "terminated" };
    crate::info!(format!("Processing signal '{name}'"));
    activation::notify("STOPPING=1\n");
    close();
    let (done, ending) = match UnixStream::pair() {
        Ok(pair) => pair,
        Err(e) => {
            crate::error!("cannot stop in order", "error" = e);
            return ExitCode::FAILURE;
        }
    };
    let stopping = engine.clone();
    let live = config.bool("live-restore", false);
    let stopper = std::thread::Builder::new().name("shutdown".into()).spawn(move || {
        stop_engine(&stopping, live);
        drop(ending);
    });
    if let Err(e) = stopper {
        crate::error!("cannot stop in order", "error" = e);
        return ExitCode::FAILURE;
    }
    let mut again = 1;
    loop {
        match signals.wait(Some(done.as_fd()), None) {
            Woken::Other => return ExitCode::SUCCESS,
            Woken::Signal(Signal::SIGTERM | Signal::SIGINT) => {
                again += 1;
                if again > 3 {
                    crate::info!("Forcing docker daemon shutdown without cleanup: 3 interrupts received");
                    return ExitCode::from(128 + signal as u8);
                }
            }
            _ => {}
        }
    }
}

fn stop_engine(_engine: &Arc<Engine>, _live_restore: bool) {}

/// SIGHUP: the file again. What is wrong with it changes nothing.
fn reload(config: &mut Config, engine: &Arc<Engine>) {
    crate::info!("Got signal to reload configuration", "config-file" = config.file.display());
    activation::notify("RELOADING=1\n");
    match config.reread() {
        Ok(fresh) => {
            let changed = config.adopt_reloadable(&fresh);
            set_level(config);
            apply(config, engine);
            crate::info!(format!("Reloaded configuration: {}", config.reloadable()), "changed" = changed.join(","));
        }
        Err(e) => crate::error!("cannot reload the configuration, the old one stays", "error" = e),
    }
    activation::notify("READY=1\n");
}

fn apply(_config: &Config, _engine: &Arc<Engine>) {
    let _ = Error::cancelled;
}
