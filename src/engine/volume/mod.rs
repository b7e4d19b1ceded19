//! Volumes of the `local` driver: a record and a folder each, and which
//! containers refer to them. Any thread of dockerd.
//!
//! Invariant: the table's lock covers name, existence and references together,
//! so a volume cannot be removed between its lookup and its first reference.

pub mod list;
pub mod populate;

use crate::engine::container::state::{Nanos, time_text};
use crate::engine::events::{Attributes, Kind};
use crate::engine::{Engine, store};
use crate::error::{Context, Error, Result};
use crate::util::atomic_file::Durability;
use crate::util::{id, time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Docker's mark on volumes that nobody named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    pub name: String,
    pub created: Nanos,
    pub labels: Option<BTreeMap<String, String>>,
    pub options: Option<BTreeMap<String, String>>,
}

#[derive(Debug)]
pub struct Volume {
    pub record: Record,
    /// `<data-root>/volumes/<name>`
    pub dir: PathBuf,
}

impl Volume {
    pub fn mountpoint(&self) -> PathBuf {
        self.dir.join("_data")
    }

    pub fn is_anonymous(&self) -> bool {
        self.record.labels.as_ref().is_some_and(|l| l.contains_key(ANONYMOUS))
    }

    pub fn to_api(&self) -> crate::api::volume::Volume {
        crate::api::volume::Volume {
            created_at: time_text(Some(Nanos(self.record.created.0 / 1_000_000_000 * 1_000_000_000))),
            driver: "local".into(),
            labels: self.record.labels.clone(),
            mountpoint: self.mountpoint().display().to_string(),
            name: self.record.name.clone(),
            options: self.record.options.clone(),
            scope: "local".into(),
            ..Default::default()
        }
    }

    fn option(&self, key: &str) -> Option<&str> {
        self.record.options.as_ref()?.get(key).map(String::as_str)
    }

    /// Where the data really is, for `-o type=none -o o=bind -o device=/x`.
    pub fn data(&self) -> Result<Data> {
        let device = self.option("device").unwrap_or_default();
        let words = self.option("o").unwrap_or_default();
        let bind = words.split(',').any(|w| matches!(w, "bind" | "rbind"));
        match self.option("type").unwrap_or_default() {
            "" if device.is_empty() && words.is_empty() => Ok(Data::Folder(self.mountpoint())),
            "" | "none" | "bind" if bind || device.starts_with('/') => match std::fs::metadata(device) {
                Ok(_) => Ok(Data::Folder(device.into())),
                Err(e) => {
                    let place = self.mountpoint();
                    Err(Error::system(format!(
                        "error while mounting volume '{0}': failed to mount local volume: mount {device}:{0}, flags: 0x1000: {1}",
                        place.display(),
                        crate::error::errno_text(&e)
                    )))
                }
            },
            "tmpfs" => Ok(Data::Tmpfs(words.to_owned())),
            kind => Err(Error::invalid(format!(
                "error while mounting volume '{}': failed to mount local volume: mount {device}:{}: operation not permitted",
                self.mountpoint().display(),
                self.mountpoint().display()
            ))
            .with_hint(format!("a rootless engine can mount no {kind} file system; mount it on the host and bind it"))),
        }
    }
}

/// What a volume is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    Folder(PathBuf),
    /// With these options.
    Tmpfs(String),
}

#[derive(Debug, Default)]
pub struct Volumes {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    map: BTreeMap<String, Arc<Volume>>,
    /// Container ids by volume name.
    users: BTreeMap<String, BTreeSet<String>>,
}

impl Volumes {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn load(&self, dir: &Path) -> Result<()> {
        let mut inner = self.lock();
        for (home, record) in store::load_all::<Record>(dir, "volume.json")? {
            let cut_short = |entry: &std::fs::DirEntry| {
                entry.file_name().as_encoded_bytes().starts_with(populate::FILLING.as_bytes())
            };
            for entry in std::fs::read_dir(&home).into_iter().flatten().flatten().filter(cut_short) {
                populate::discard(&entry.path());
            }
            inner.map.insert(record.name.clone(), Arc::new(Volume { record, dir: home }));
        }
        Ok(())
    }

    pub fn get(&self, name: &str) -> Result<Arc<Volume>> {
        self.lock().map.get(name).cloned().ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
    }

    pub fn all(&self) -> Vec<Arc<Volume>> {
        self.lock().map.values().cloned().collect()
    }

    /// Ids of the containers that mount it, running or not.
    pub fn users(&self, name: &str) -> Vec<String> {
        self.lock().users.get(name).map(|u| u.iter().cloned().collect()).unwrap_or_default()
    }

    pub fn add_user(&self, name: &str, container: &str) {
        self.lock().users.entry(name.to_owned()).or_default().insert(container.to_owned());
    }

    pub fn drop_user(&self, name: &str, container: &str) {
        let mut inner = self.lock();
        if let Some(users) = inner.users.get_mut(name) {
            users.remove(container);
            if users.is_empty() {
                inner.users.remove(name);
            }
        }
    }
}

/// What a create asks for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Empty: an anonymous one.
    pub name: String,
    pub driver: String,
    pub labels: Option<BTreeMap<String, String>>,
    pub options: Option<BTreeMap<String, String>>,
    /// Refer to it at once.
    pub user: Option<String>,
}

/// Finds or makes a volume.
pub fn create(engine: &Engine, wanted: Wanted) -> Result<Arc<Volume>> {
    let Wanted { mut name, driver, mut labels, options, user } = wanted;
    if name.is_empty() {
        name = id::random();
        labels.get_or_insert_default().insert(ANONYMOUS.into(), String::new());
    }
    let context = |e: Error| e.context(format_args!("create {name}"));
    if !matches!(driver.as_str(), "" | "local") {
        let text = format!("error looking up volume plugin {driver}: plugin \"{driver}\" not found");
        return Err(context(Error::not_found(text)));
    }
    if let Some(existing) = find(engine, &name, user.as_deref()) {
        return Ok(existing);
    }
    if !crate::engine::names::is_valid(&name) {
        return Err(context(Error::invalid(format!(
            "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed. If you intended to pass a host directory, use absolute path"
        ))));
    }
    check_options(options.as_ref()).map_err(context)?;
    let options = options.filter(|o| !o.is_empty());
    let record = Record { name: name.clone(), created: time::now().into(), labels, options };
    let dir = engine.config.data_root.join("volumes").join(&name);
    std::fs::create_dir_all(dir.join("_data")).with_context(|| format!("create {}", dir.display()))?;
    // A record that a crash loses would leave data that nobody finds: but the
    // first use is on the start path, and `_data` alone is taken up again.
    engine.records.save(&dir.join("volume.json"), &record, Durability::Renamed)?;
    let volume = Arc::new(Volume { record, dir });
    let winner = {
        let mut inner = engine.volumes.lock();
        if let Some(user) = user {
            inner.users.entry(name.clone()).or_default().insert(user);
        }
        inner.map.entry(name.clone()).or_insert_with(|| volume.clone()).clone()
    };
    if Arc::ptr_eq(&winner, &volume) {
        publish(engine, "create", &name, &[]);
    }
    Ok(winner)
}

fn find(engine: &Engine, name: &str, user: Option<&str>) -> Option<Arc<Volume>> {
    let mut inner = engine.volumes.lock();
    let found = inner.map.get(name).cloned()?;
    if let Some(user) = user {
        inner.users.entry(name.to_owned()).or_default().insert(user.to_owned());
    }
    Some(found)
}

fn check_options(options: Option<&BTreeMap<String, String>>) -> Result<()> {
    let Some(options) = options else { return Ok(()) };
    for key in options.keys() {
        if !["type", "device", "o", "size"].contains(&key.as_str()) {
            return Err(Error::invalid(format!("invalid option: \"{key}\"")));
        }
    }
    if options.contains_key("size") {
        return Err(Error::invalid("quota size requested but no quota support"));
    }
    if options.contains_key("type") != options.contains_key("device") {
        let missing = if options.contains_key("type") { "device" } else { "type" };
        return Err(Error::invalid(format!("missing required option: \"{missing}\"")));
    }
    if options.contains_key("o") && !options.contains_key("type") {
        return Err(Error::invalid("missing required option: \"type\""));
    }
    Ok(())
}

/// `volume rm`.
pub fn remove(engine: &Engine, name: &str, force: bool) -> Result<()> {
    let dir = {
        let mut inner = engine.volumes.lock();
        let Some(volume) = inner.map.get(name) else {
            return if force { Ok(()) } else { Err(Error::not_found(format!("get {name}: no such volume"))) };
        };
        if let Some(users) = inner.users.get(name).filter(|u| !u.is_empty()) {
            let list: Vec<&str> = users.iter().map(String::as_str).collect();
            return Err(Error::conflict(format!("remove {name}: volume is in use - [{}]", list.join(", "))));
        }
        let dir = volume.dir.clone();
        inner.map.remove(name);
        dir
    };
    remove_folder(&dir).with_context(|| format!("remove {name}"))?;
    publish(engine, "destroy", name, &[]);
    Ok(())
}

/// The record goes first: what a crash leaves is no volume any more.
fn remove_folder(dir: &Path) -> Result<()> {
    let _ = std::fs::remove_file(dir.join("volume.json"));
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// A volume event; the driver is always among the attributes.
pub fn publish(engine: &Engine, action: &str, name: &str, more: &[(&str, &str)]) {
    let mut attributes = Attributes::from([("driver".to_owned(), "local".to_owned())]);
    attributes.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    engine.events.publish(Kind::Volume, action, name, attributes);
}
