//! Containers: the record, the live object around it, and the store.
//!
//! A `Container` has one small lock (`Live`) that is held for copying and
//! comparing only, and a turn that orders start, exit and removal. Readers
//! (`ps`, `inspect`, `logs`) take the small lock and never the turn.

pub mod attach;
pub mod caps;
pub mod cdi;
pub mod cgroup;
pub mod create;
pub mod exit;
pub mod health;
pub mod image;
pub mod inspect;
pub mod keep_id;
pub mod limits;
pub mod links;
pub mod list;
pub mod log_options;
mod log_tag;
pub mod merge;
pub mod mounts;
pub mod prune;
pub mod record;
pub mod recover;
pub mod remove;
pub mod rename;
pub mod restart;
pub mod shutdown;
pub mod size;
pub mod spec;
pub mod spec_mounts;
pub mod start;
pub mod state;
pub mod stats;
mod stats_read;
pub mod stop;
pub mod top;
pub mod update;
pub mod validate;
pub mod wait;

use crate::engine::names::Index;
use crate::engine::timer::Ticket;
use crate::engine::watch::Watched;
use crate::engine::{Engine, store};
use crate::error::{Error, Result};
use crate::runtime::Attach;
use crate::util::atomic_file::Durability;
use record::Record;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One container. Reach its data by [`Container::live`].
#[derive(Debug)]
pub struct Container {
    pub id: String,
    /// `<data-root>/containers/<id>`
    pub dir: PathBuf,
    live: Mutex<Live>,
    turn: Mutex<()>,
    /// Wakes on every change of state.
    pub changed: Watched,
    /// Wakes those who follow the log: it grew, or its container ended.
    pub output: Watched,
    /// Wakes the threads that keep an attach until the start takes it.
    pub attaches_taken: Watched,
}

/// The part under the small lock: the record, and what is not worth keeping.
#[derive(Debug, Default)]
pub struct Live {
    pub record: Record,
    /// Clients that attached before the start, oldest first.
    pub pending: Vec<Pending>,
    pub next_pending: u64,
    /// How often it exited, so that a waiter notices an exit even if the next
    /// start has already begun.
    pub exits: u64,
    /// The last exit's code; outlives a restart in `record.state`.
    pub last_exit: i32,
    pub removed: bool,
    pub exec_ids: Vec<String>,
    /// When the current run began, for the back-off.
    pub started: Option<Instant>,
    /// Failures in a row, as the back-off counts them.
    pub backoff: restart::Backoff,
    /// The pending automatic restart.
    pub restart_ticket: Option<Ticket>,
    /// The exit of this run must not be followed by a restart: somebody stopped it.
    pub no_restart: bool,
    /// Bumped by every start; a health probe of an older run stops.
    pub run: u64,
    pub health_ticket: Option<Ticket>,
    /// The terminal's size, if a client told it before the start: rows, columns.
    pub console_size: Option<(u16, u16)>,
    /// Secrets of a build's step, as environment: never in the record, which is
    /// on disk and shown by inspect.
    pub secret_env: Vec<String>,
}

/// An attach that waits for the start.
#[derive(Debug)]
pub struct Pending {
    pub token: u64,
    pub attach: Attach,
}

/// The right to start, settle or remove a container. One at a time.
#[derive(Debug)]
pub struct Turn<'a>(#[expect(dead_code, reason = "held, never read")] MutexGuard<'a, ()>);

impl Container {
    pub fn new(dir: PathBuf, record: Record) -> Self {
        Self {
            id: record.id.clone(),
            dir,
            live: Mutex::new(Live { record, ..Live::default() }),
            turn: Mutex::default(),
            changed: Watched::default(),
            output: Watched::default(),
            attaches_taken: Watched::default(),
        }
    }

    /// The small lock. Do nothing slow under it.
    pub fn live(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }

    /// Waits for whoever starts, settles or removes this container now.
    pub fn turn(&self) -> Turn<'_> {
        Turn(lock(&self.turn))
    }

    /// Waits for a start that is under way: clients hear a container's first words from its
    /// shim, before the start has noted that it runs.
    pub fn await_start(&self) {
        if !self.live().record.state.is_up() {
            drop(self.turn());
        }
    }

    pub fn record(&self) -> Record {
        self.live().record.clone()
    }

    /// The state changed.
    pub fn notify(&self) {
        self.changed.notify();
        self.output.notify();
    }

    pub fn name(&self) -> String {
        self.live().record.name.clone()
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// Writes the record. A removed container has no folder to write to.
    pub fn save(&self, engine: &Engine, durability: Durability) -> Result<()> {
        let record = {
            let live = self.live();
            if live.removed {
                return Ok(());
            }
            live.record.clone()
        };
        engine.records.save(&self.config_path(), &record, durability)
    }
}

/// All containers.
#[derive(Debug, Default)]
pub struct Containers {
    map: RwLock<HashMap<String, Arc<Container>>>,
    pub index: Index,
}

impl Containers {
    /// By full id, name or unique prefix.
    pub fn get(&self, reference: &str) -> Result<Arc<Container>> {
        let missing = || Error::no_such_container(reference);
        let id = self.index.resolve(reference)?.or_else(|| self.linked(reference)).ok_or_else(missing)?;
        self.by_id(&id).ok_or_else(missing)
    }

    /// What `PARENT/ALIAS` means by the links of the parent.
    fn linked(&self, reference: &str) -> Option<String> {
        let (parent, alias) = reference.trim_start_matches('/').rsplit_once('/')?;
        let parent = self.by_id(&self.index.resolve(parent).ok()??)?;
        let links = links::given(&parent.live().record.host_config)?.to_vec();
        let target = links.iter().map(|l| links::split(l)).find(|(_, a)| *a == alias)?.0;
        self.index.resolve(target).ok()?
    }

    pub fn by_id(&self, id: &str) -> Option<Arc<Container>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub fn insert(&self, container: Arc<Container>) {
        let id = container.id.clone();
        self.map.write().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), container);
        self.index.add_id(&id);
    }

    pub fn remove(&self, id: &str) {
        self.index.remove_id(id);
        self.map.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// In no order.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Reads every record below `dir`. Folders without one are left-overs of a
    /// creation or removal that was cut short.
    pub fn load(&self, dir: &Path) -> Result<()> {
        for (home, record) in store::load_all::<Record>(dir, "config.json")? {
            if self.index.reserve(&record.name, &record.id).is_err() {
                crate::warn!("two containers have one name", "name" = record.name, "id" = record.id);
            }
            self.insert(Arc::new(Container::new(home, record)));
        }
        Ok(())
    }
}

/// Attributes of a container's event: its labels, its image and its name.
fn event_attributes(record: &Record) -> crate::engine::events::Attributes {
    let mut attributes = record.config.labels.clone().unwrap_or_default();
    if !record.config.image.is_empty() {
        attributes.insert("image".into(), record.config.image.clone());
    }
    attributes.insert("name".into(), record.name.clone());
    attributes
}

/// Publishes `action` on the container, with further attributes.
pub fn publish(engine: &Engine, container: &Container, action: &str, more: &[(&str, &str)]) {
    let mut attributes = event_attributes(&container.live().record);
    for (key, value) in more {
        attributes.insert((*key).to_owned(), (*value).to_owned());
    }
    engine.events.publish(crate::engine::events::Kind::Container, action, container.id.clone(), attributes);
}
