//! DOCKER SEMANTICS: the only layer that joins runtime, storage, image and net.
//! `Engine` is the stores and drivers put together; it has no logic of its own.
//! Every verb is a free function in its own file that takes what it needs.
//!
//! Locking: each object has its own small lock, held for copying and comparing
//! only. What must not overlap on one container (start, exit, remove) takes that
//! container's turn (`container::Turn`), which readers never wait for. Order:
//! turn, then object, then index; never two objects at once.

#![forbid(unsafe_code)]

pub mod build;
pub mod container;
pub mod copy;
pub mod events;
pub mod exec;
pub mod image;
pub mod keys;
pub mod logs;
pub mod metrics;
pub mod names;
mod names_table;
pub mod network;
pub mod signal;
pub mod store;
pub mod system;
pub mod timer;
pub mod until;
pub mod volume;
pub mod watch;

use crate::error::{Context, Result};
use crate::runtime::Runtime;
use crate::storage::Driver;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

/// What the daemon decided before the engine exists.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// `$XDG_DATA_HOME/coracle`
    pub data_root: PathBuf,
    /// `$XDG_RUNTIME_DIR/coracle`
    pub exec_root: PathBuf,
    /// The API socket, for containers that ask for `/var/run/docker.sock`.
    pub socket: Option<PathBuf>,
    /// No real root behind us: uid 0 is the user.
    pub rootless: bool,
    /// `--log-driver` and `--log-opt`.
    pub log_driver: String,
    pub log_opts: Vec<(String, String)>,
    /// `--default-ulimit`: name, soft, hard.
    pub default_ulimits: Vec<(String, i64, i64)>,
    /// `--init`
    pub init: bool,
    /// `--no-new-privileges`
    pub no_new_privileges: bool,
    /// `--seccomp-profile`: the JSON of a file, none = built in, "unconfined".
    pub seccomp_profile: Option<String>,
    /// `--dns`, `--dns-opt`, `--dns-search`
    pub dns: Vec<String>,
    pub dns_options: Vec<String>,
    pub dns_search: Vec<String>,
    /// The default bridge, pools and options of networks.
    pub networks: network::defaults::Defaults,
    /// Bound sockets that the service manager passed for published ports.
    pub port_sockets: Arc<[std::os::fd::OwnedFd]>,
    /// Starts a network process in the place of one that died.
    pub start_netd: Option<fn(&std::path::Path) -> Result<()>>,
    /// `--cdi-spec-dir`
    pub cdi_dirs: Vec<String>,
    /// `--experimental`
    pub experimental: bool,
    /// `--keep-blobs`
    pub keep_blobs: bool,
    /// What the daemon found worth warning of, for `docker info`.
    pub warnings: Vec<String>,
    /// What SIGHUP may change.
    pub live: Arc<RwLock<Arc<LiveConfig>>>,
    /// `--shutdown-timeout`, seconds
    pub shutdown_timeout: i64,
    /// Mirrors, insecure registries, proxies, limits of transfers.
    pub registry: crate::image::registry::endpoint::Settings,
}

impl EngineConfig {
    /// Docker's defaults for the two folders.
    pub fn new(data_root: PathBuf, exec_root: PathBuf) -> Self {
        Self {
            data_root,
            exec_root,
            socket: None,
            rootless: true,
            log_driver: "json-file".into(),
            log_opts: Vec::new(),
            default_ulimits: Vec::new(),
            init: false,
            no_new_privileges: false,
            seccomp_profile: None,
            dns: Vec::new(),
            dns_options: Vec::new(),
            dns_search: Vec::new(),
            networks: network::defaults::Defaults::default(),
            port_sockets: Arc::from([]),
            start_netd: None,
            cdi_dirs: Vec::new(),
            experimental: false,
            keep_blobs: true,
            warnings: Vec::new(),
            live: Arc::default(),
            shutdown_timeout: 15,
            registry: Default::default(),
        }
    }
}

/// Options that take effect without a restart.
#[derive(Debug, Clone)]
pub struct LiveConfig {
    /// `--label`
    pub labels: Vec<String>,
    /// `--live-restore`
    pub live_restore: bool,
    /// `--default-shm-size`
    pub shm_size: i64,
    /// `--default-cgroupns-mode`, `--default-ipc-mode`
    pub cgroupns_mode: String,
    pub ipc_mode: String,
    /// `--default-userns-mode`
    pub userns_mode: String,
    /// `--default-stop-timeout`, seconds
    pub stop_timeout: i64,
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self {
            labels: Vec::new(),
            live_restore: false,
            shm_size: 64 << 20,
            cgroupns_mode: "private".into(),
            ipc_mode: "private".into(),
            userns_mode: String::new(),
            stop_timeout: container::stop::DEFAULT_TIMEOUT,
        }
    }
}

impl EngineConfig {
    pub fn live(&self) -> Arc<LiveConfig> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    pub fn set_live(&self, live: LiveConfig) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
    }
}

/// What exists before the engine and is handed to it.
pub struct Parts {
    /// From `daemon::bootstrap::enter`.
    pub spawner: OwnedFd,
    pub driver: Arc<dyn Driver>,
}

/// Everything the daemon knows, shared by all request threads.
pub struct Engine {
    pub config: EngineConfig,
    pub events: events::Bus,
    pub records: store::Records,
    pub networks: network::Networks,
    pub registries: crate::image::registry::service::Service,
    pub timers: timer::Timers,
    pub metrics: metrics::Metrics,
    pub log_hub: logs::notify::Hub,
    pub containers: container::Containers,
    pub execs: exec::Execs,
    pub volumes: volume::Volumes,
    pub driver: Arc<dyn Driver>,
    pub images: crate::image::store::Store,
    pub runtime: Runtime,
    /// What our cgroup can limit.
    pub support: container::limits::Support,
    pub builds: build::Builds,
}

impl Engine {
    /// Puts the engine together and takes up what earlier daemons left. No
    /// thread may exist before the helpers are forked, so this comes after the
    /// bootstrap.
    pub fn new(config: EngineConfig, parts: Parts) -> Result<Arc<Self>> {
        for dir in [&config.data_root, &config.exec_root] {
            std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        }
        let ordered = !parts.driver.independent_layers();
        let registries = crate::image::registry::service::Service::new(config.registry.clone(), ordered);
        // The runtime's events need the engine, the engine needs the runtime.
        let slot: Arc<OnceLock<Weak<Engine>>> = Arc::default();
        let seen = slot.clone();
        let on_event = move |event| {
            if let Some(engine) = seen.get().and_then(Weak::upgrade) {
                container::exit::on_event(&engine, event);
            }
        };
        let runtime = Runtime::new(parts.spawner, &config.exec_root, Box::new(on_event))?;
        let reason = runtime.cgroups().reason();
        if !reason.is_empty() {
            crate::warn!(format!("limits of containers cannot be applied: {reason}; see: docker system check"));
        }
        let images = image::open_store(&config, parts.driver.clone())?;
        let engine = Arc::new(Self {
            images,
            events: events::Bus::default(),
            registries,
            records: store::Records::new()?,
            timers: timer::Timers::new()?,
            metrics: metrics::Metrics::default(),
            log_hub: logs::notify::Hub::default(),
            containers: container::Containers::default(),
            execs: exec::Execs::default(),
            volumes: volume::Volumes::default(),
            driver: parts.driver,
            support: container::cgroup::support(runtime.cgroups()),
            runtime,
            networks: network::Networks::open(&config)?,
            builds: build::Builds::open(&config)?,
            config,
        });
        let _ = slot.set(Arc::downgrade(&engine));
        engine.images.clear_unfinished()?;
        container::recover::recover(&engine)?;
        build::clean_up(&engine);
        engine.images.clean_up(&|| image::layers_in_use(&engine))?;
        network::revive::watch(&engine);
        Ok(engine)
    }
}
