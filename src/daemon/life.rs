//! From a valid configuration to the last log line. Main thread.

use super::bootstrap::{self, Mode};
use super::config::Config;
use super::host::Host;
use super::listen::{self, Bound, SocketFile};
use super::ownership::{Ownership, own_dir};
use super::signals::{Signals, Woken};
use super::{activation, minimum_version, set_level, settings, threads};
use crate::api::version;
use crate::engine::container::shutdown;
use crate::engine::system::{self, hostname};
use crate::engine::{Engine, Parts, events};
use crate::error::{Context, Result};
use crate::image::registry::endpoint::Settings;
use crate::log;
use crate::server::Server;
use crate::server::accept::Acceptor;
use crate::server::metrics::Metrics;
use crate::server::origin::Rules;
use crate::server::tls::Tls;
use crate::storage::probe;
use crate::util::thread;
use nix::sys::signal::Signal;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

pub fn run(mut config: Config) -> Result<ExitCode> {
    if let Some(path) = config.get("log-file").and_then(|v| v.as_str()).filter(|p| !p.is_empty()) {
        log::to_file(&absolute(path, PathBuf::new())).with_context(|| format!("cannot write the log to {path}"))?;
    }
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
    own_dir(&exec_root)
        .map_err(|e| e.with_hint("give a folder of yours with XDG_RUNTIME_DIR (or --exec-root, --pidfile and -H)"))?;
    let ownership = Ownership::take(&data_root, &pid_file)?;
    let tls = super::tls::load(&config)?.map(Tls::new);
    let bound = bind_all(&config, tls.as_ref())?;
    let ports = activation::ports()?;
    let files: Vec<SocketFile> = bound.iter().filter_map(|b| b.file.clone()).collect();
    let result = serve(&mut config, data_root, exec_root, Sockets { bound, ports }, tls.as_ref());
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

/// What clients of the API come by, and what those of containers come by.
struct Sockets {
    bound: Vec<Bound>,
    ports: Vec<OwnedFd>,
}

fn serve(
    config: &mut Config,
    data_root: PathBuf,
    exec_root: PathBuf,
    Sockets { bound, ports }: Sockets,
    tls: Option<&Arc<Tls>>,
) -> Result<ExitCode> {
    let began = Instant::now();
    let mut warnings = settings::open_listeners(config)?;
    let parts = enter(config, &data_root, &exec_root, &mut warnings)?;
    raise_descriptor_limit();
    let signals = Signals::block()?;
    crate::info!("Loading containers: start.");
    let socket = bound.iter().find(|b| !b.tcp).map(|b| PathBuf::from(&b.name));
    let mut for_engine = settings::engine(config, data_root, exec_root.clone(), socket)?;
    for_engine.warnings = warnings;
    for_engine.port_sockets = ports.into();
    let engine = Engine::new(for_engine, parts)?;
    crate::info!("Loading containers: done.");
    let from_environment = std::env::var("DOCKER_MIN_API_VERSION").unwrap_or_default();
    let minimum = match config.text("min-api-version", &from_environment) {
        "" => version::MIN,
        text => minimum_version(text)?,
    };
    let own_names = config.hosts()?.into_iter().filter_map(|h| match h {
        Host::Tcp { host, .. } => Some(host),
        _ => None,
    });
    let rules = Rules::from_environment(own_names.collect());
    let server = Server::new(engine.clone(), version::PRODUCT, minimum, config.bool("experimental", false), rules)
        .context("set up the server")?;
    crate::info!(
        "Docker daemon",
        "commit" = version::COMMIT,
        "storage-driver" = engine.driver.name(),
        "version" = version::PRODUCT
    );
    crate::info!("Daemon has completed initialization");
    let metrics = match config.text("metrics-addr", "") {
        "" => None,
        address => Some(Metrics::start(engine.clone(), address).context("failed to start metrics server")?),
    };
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
        drop(metrics);
    });
    crate::info!("Daemon shutdown complete");
    Ok(code)
}

/// The user namespace and the processes beside us, then the storage driver,
/// which wants the namespace's rights.
fn enter(config: &Config, data_root: &Path, exec_root: &Path, warnings: &mut Vec<String>) -> Result<Parts> {
    let entered = bootstrap::enter(exec_root)?;
    if let Mode::SingleId { reason, .. } = &entered.mode {
        let text = format!("only one user id is available to containers: {reason}");
        crate::warn!(text);
        warnings.push(format!("WARNING: {text}"));
    }
    let wanted = Some(config.text("storage-driver", "")).filter(|name| !name.is_empty());
    let driver = probe::open(data_root, wanted).context("error initializing graphdriver")?;
    Ok(Parts { spawner: entered.spawner, driver })
}

/// Each connection, container and log has descriptors; containers get limits of
/// their own.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
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
            thread::start("shutdown", 2 << 20, work).map(|_| done)
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
        log::reopen();
        let fresh = config.reread().and_then(|fresh| Ok((super::tls::load(&config.with_reloadable(&fresh))?, fresh)));
        match fresh {
            Ok((policy, fresh)) => {
                if let (Some(tls), Some(policy)) = (self.tls, policy) {
                    tls.replace(policy);
                }
                let changed = config.adopt_reloadable(&fresh);
                set_level(config);
                self.engine.config.set_live(settings::live(config));
                let mut fresh = Settings::clone(&self.engine.registries.settings());
                settings::registry(config, &mut fresh);
                self.engine.registries.set_settings(fresh);
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
