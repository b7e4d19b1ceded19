//! Docker's networks: the records, which names and rules they have, and the
//! seam between containers and the netd process. Runs in dockerd, any thread.
//!
//! Invariant: netd knows what is live (addresses, links, ports), the records
//! know what was asked for; nothing is kept twice. `live` is a copy of netd's
//! answer for readers, made anew at every start of the daemon.

pub mod allocate;
pub mod connect;
pub mod create;
pub mod defaults;
pub mod files;
pub mod ipam;
pub mod list;
pub mod options;
pub mod ports;
pub mod remove;
pub mod revive;
pub mod sandbox;

pub use allocate::{allocate, known, release, renamed, retain};
pub use sandbox::{Link, Namespace, Sandbox, Wanted};

use crate::api::network::{NetworkInspect, PortMap};
use crate::engine::events::{Attributes, Kind};
use crate::engine::{Engine, EngineConfig, store};
use crate::error::{Error, Result};
use crate::net::client::Client;
use crate::net::protocol::{NetworkSpec, SandboxState};
use crate::util::order;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

const FILE: &str = "network.json";

/// A network as it is kept: what inspect shows, less the containers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    pub network: NetworkInspect,
    /// The user chose the subnet of this family, so that static addresses make sense.
    pub own_subnet_v4: bool,
    pub own_subnet_v6: bool,
}

impl Deref for Record {
    type Target = NetworkInspect;
    fn deref(&self) -> &NetworkInspect {
        &self.network
    }
}

/// All networks, and the handle to netd.
#[derive(Debug)]
pub struct Networks {
    pub netd: Client,
    pub defaults: defaults::Defaults,
    dir: PathBuf,
    /// By id.
    all: RwLock<BTreeMap<String, Arc<Record>>>,
    live: Mutex<HashMap<String, SandboxState>>,
    /// Creating, removing and pruning take turns.
    changing: Mutex<()>,
    pruning: Mutex<()>,
}

impl Networks {
    /// Loads the records and makes the predefined networks if they are missing.
    /// netd is asked later, when somebody needs it.
    pub fn open(config: &EngineConfig) -> Result<Self> {
        let dir = config.data_root.join("networks");
        let mut all: BTreeMap<String, Arc<Record>> = BTreeMap::new();
        for (_, record) in store::load_all::<Record>(&dir, FILE)? {
            all.insert(record.id.clone(), Arc::new(record));
        }
        let networks = Self {
            netd: Client::new(&config.exec_root),
            defaults: config.networks.clone(),
            dir,
            all: RwLock::new(all),
            live: Mutex::default(),
            changing: Mutex::default(),
            pruning: Mutex::default(),
        };
        if let Ok(sandboxes) = networks.netd.list() {
            *networks.live() = sandboxes.into_iter().map(|s| (s.container.clone(), s)).collect();
        }
        create::predefined(&networks)?;
        Ok(networks)
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, SandboxState>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Record>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// By id, name, or unique id prefix; the full id wins, then the name.
    pub fn find(&self, reference: &str) -> Result<Arc<Record>> {
        let all = self.all();
        let found = all.iter().find(|n| n.id == reference).or_else(|| all.iter().find(|n| n.name == reference));
        if let Some(network) = found {
            return Ok(network.clone());
        }
        let mut matching = all.iter().filter(|n| !reference.is_empty() && n.id.starts_with(reference));
        match (matching.next(), matching.next()) {
            (Some(network), None) => Ok(network.clone()),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "network {reference} is ambiguous ({} matches found based on ID prefix)",
                2 + matching.count()
            ))),
            _ => Err(Error::not_found(format!("network {reference} not found"))),
        }
    }

    /// Published ports as they are after a live change: they follow the endpoint that leads out.
    fn ports_now(&self, wanted: &Wanted) -> Option<PortMap> {
        let state = self.netd.list().ok()?.into_iter().find(|s| s.container == wanted.id)?;
        if let Some(sandbox) = self.live().get_mut(&wanted.id) {
            sandbox.ports.clone_from(&state.ports);
        }
        Some(if state.endpoints.is_empty() { PortMap::default() } else { ports::bound(wanted, &state.ports) })
    }

    /// The endpoints that live containers have in a network: their ids and names.
    fn endpoint_ids(&self, network: &str) -> Vec<(String, String)> {
        let live = self.live();
        let of = |s: &SandboxState| {
            let endpoint = s.endpoints.iter().find(|e| e.network == network)?;
            Some((endpoint.id.clone(), s.name.clone()))
        };
        let mut found: Vec<_> = live.values().filter_map(of).collect();
        order::sort_by(&mut found, |a, b| a.1.cmp(&b.1));
        found
    }

    /// The live containers in a network: id, name.
    pub fn endpoints_of(&self, network: &str) -> Vec<(String, String)> {
        let live = self.live();
        let inside = |s: &&SandboxState| s.endpoints.iter().any(|e| e.network == network);
        let mut found: Vec<_> = live.values().filter(inside).map(|s| (s.container.clone(), s.name.clone())).collect();
        order::sort_by(&mut found, |a, b| a.1.cmp(&b.1));
        found
    }

    /// All bridges, as netd is to make them.
    fn specs(&self) -> Result<Vec<NetworkSpec>> {
        self.all().iter().filter(|n| n.driver == "bridge").map(|n| create::netd_spec(n)).collect()
    }

    /// Makes all bridges known to a netd that may be new.
    fn tell_netd(&self) -> Result<()> {
        self.specs()?.into_iter().try_for_each(|spec| self.netd.set_network(spec))
    }
}

/// One event about a network.
fn publish(engine: &Engine, network: &NetworkInspect, action: &str, container: Option<&str>) {
    let mut attributes = Attributes::new();
    attributes.insert("name".into(), network.name.clone());
    attributes.insert("type".into(), network.driver.clone());
    if let Some(container) = container {
        attributes.insert("container".into(), container.into());
    }
    engine.events.publish(Kind::Network, action, network.id.as_str(), attributes);
}
