//! The image store: which images, names and layers there are. One per daemon,
//! any thread; one lock for the tables, held for copying and for small atomic
//! records, never while a layer is read or written.
//!
//!     image/blobs/sha256/<hex>   configurations, manifests, compressed layers
//!     image/layers/<chain>.json  a layer is there if this is there
//!     image/images/<hex>.json    an image is there if this is there
//!     image/repositories.json    names → image ids
//!     image/unfinished           see `unfinished`
//!     image/tmp                  emptied at start
//!
//! Invariant: everything that a record names was on disk before the record was
//! (one syncfs in front of each image record), and records are renamed into
//! place, so a kill or a power cut at any moment leaves whole images and, at
//! worst, unreferenced layers and blobs, which [`Store::collect`] removes.

use super::config::ImageConfig;
use super::digest::{self, Digest};
use super::layers::Pins;
pub use super::layers::{Layer, LayerRef};
use super::manifest::Descriptor;
use super::platforms::Packed;
use super::reference::{AnyReference, Reference};
use super::unfinished::Unfinished;
use crate::error::{Context, Error, Result};
use crate::storage::Driver;
use crate::util::atomic_file::{self, Durability};
use crate::util::json;
use crate::util::order;
use crate::util::time::{self, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An image as the rest of the program sees it. A snapshot: a later tag makes a
/// new one.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// `sha256:<hex>` of the configuration.
    pub id: String,
    pub config: ImageConfig,
    /// Chain IDs, bottom first, as storage names layers (hex only).
    pub chain_ids: Vec<String>,
    pub diff_ids: Vec<Digest>,
    /// `busybox:latest`, sorted.
    pub repo_tags: Vec<String>,
    /// `busybox@sha256:…`, sorted.
    pub repo_digests: Vec<String>,
    /// Sum of the layers' sizes.
    pub size: u64,
    pub created: Option<Timestamp>,
    /// The image that this one was built or committed from, if it is here.
    pub parent: Option<String>,
    pub last_tagged: Option<Timestamp>,
    /// Manifests (and indices) that this image came with; the bytes are blobs.
    pub manifests: Vec<Descriptor>,
    /// Every entry of its index, if it is kept whole.
    pub packed: Vec<Packed>,
}

impl Image {
    pub fn digest(&self) -> Digest {
        self.config.id()
    }
    /// Chain ID of the whole image, hex; none of an image without layers.
    pub fn top(&self) -> Option<&str> {
        self.chain_ids.last().map(String::as_str)
    }
}

/// What the daemon says to the store at start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Keep compressed layers for pushing; see `layer`.
    pub keep_blobs: bool,
    /// Only one id is mapped.
    pub single_id: bool,
    /// Device nodes can be made (no user namespace).
    pub devices: bool,
}

/// A new image for [`Store::put`].
#[derive(Debug, Clone, Default)]
pub struct NewImage {
    /// The document's bytes, kept as they are.
    pub config: Vec<u8>,
    /// Id of the image that it was made from.
    pub parent: Option<String>,
    /// Media type and bytes.
    pub manifests: Vec<(String, Vec<u8>)>,
    /// Every entry of its index, to keep the image whole; their blobs are here.
    pub packed: Vec<Packed>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ImageRecord {
    parent: Option<Digest>,
    last_tagged: Option<String>,
    manifests: Vec<Descriptor>,
    packed: Vec<Packed>,
}

/// Repository (`docker.io/library/busybox`) → reference → image id.
type Repositories = BTreeMap<String, BTreeMap<String, Digest>>;

#[derive(Default)]
pub(super) struct Tables {
    pub images: HashMap<Digest, Arc<Image>>,
    pub layers: HashMap<Digest, Arc<Layer>>,
    pub repositories: Repositories,
}

pub struct Store {
    pub(super) root: PathBuf,
    pub(super) driver: Arc<dyn Driver>,
    pub(super) options: Options,
    pub(super) tables: Mutex<Tables>,
    pub(super) pins: Pins,
    /// Held while a layer comes into or goes from the driver's directory, so
    /// that none comes while it goes. Taken before `tables`.
    pub(super) disk: Mutex<()>,
    pub(super) unfinished: Unfinished,
}

impl Store {
    /// `root` is `<data-root>/image`. Reads every record; what does not fit
    /// together is reported and left out.
    pub fn open(root: &Path, driver: Arc<dyn Driver>, options: Options) -> Result<Self> {
        for dir in ["blobs/sha256", "layers", "images", "tmp"] {
            let path = root.join(dir);
            fs::create_dir_all(&path).with_context(|| format!("mkdir {}", path.display()))?;
        }
        let store = Self {
            root: root.to_owned(),
            driver,
            options,
            tables: Mutex::default(),
            pins: Pins::default(),
            disk: Mutex::default(),
            unfinished: Unfinished::default(),
        };
        store.load()?;
        store.load_unfinished()?;
        Ok(store)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ── looking up ──────────────────────────────────────────────────────────

    /// By name, id or unique id prefix, in Docker's order.
    pub fn resolve(&self, name_or_id: &str) -> Result<Arc<Image>> {
        let named = match AnyReference::parse(name_or_id)? {
            AnyReference::Id(id) => {
                return self.get(&id).ok_or_else(|| Error::no_such_image(&format!("sha256:{}", id.hex())));
            }
            AnyReference::Named(reference) => reference,
        };
        if let Some(image) = self.by_reference(&named) {
            return Ok(image);
        }
        self.by_prefix(name_or_id).ok_or_else(|| Error::no_such_image(&named.or_latest().familiar()))
    }

    pub fn get(&self, id: &Digest) -> Option<Arc<Image>> {
        self.lock().images.get(id).cloned()
    }

    pub fn by_reference(&self, reference: &Reference) -> Option<Arc<Image>> {
        let key = reference.for_store();
        let tables = self.lock();
        let id = tables.repositories.get(&key.name())?.get(&key.to_string())?;
        tables.images.get(id).cloned()
    }

    fn by_prefix(&self, prefix: &str) -> Option<Arc<Image>> {
        let hex = prefix.strip_prefix("sha256:").unwrap_or(prefix);
        if hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let tables = self.lock();
        let mut found = tables.images.values().filter(|i| i.id["sha256:".len()..].starts_with(hex));
        match (found.next(), found.next()) {
            (Some(image), None) => Some(image.clone()),
            _ => None,
        }
    }

    /// Every image, newest first; of the same age by id.
    pub fn list(&self) -> Vec<Arc<Image>> {
        let mut images: Vec<_> = self.lock().images.values().cloned().collect();
        order::sort_by(&mut images, |a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        images
    }

    /// All names of an image, tags and digests, in order.
    pub fn references(&self, id: &Digest) -> Vec<Reference> {
        references(&self.lock().repositories, id)
    }

    /// Every name of a repository with the image behind it, in order.
    pub fn repository(&self, repository: &Reference) -> Vec<(Reference, Digest)> {
        let tables = self.lock();
        let Some(names) = tables.repositories.get(&repository.name()) else { return Vec::new() };
        names.iter().filter_map(|(name, id)| Some((Reference::parse(name).ok()?, *id))).collect()
    }

    pub fn children(&self, id: &str) -> Vec<Arc<Image>> {
        self.lock().images.values().filter(|i| i.parent.as_deref() == Some(id)).cloned().collect()
    }

    // ── names ───────────────────────────────────────────────────────────────

    /// Points `reference` at the image and gives back the one that it pointed at
    /// before, if that was another.
    pub fn tag(&self, id: &Digest, reference: &Reference) -> Result<Option<Digest>> {
        Ok(self.tag_all(id, std::slice::from_ref(reference))?.pop().flatten())
    }

    /// The same for all of them or none, by one write however many they are: an archive
    /// may name an image a hundred thousand times.
    pub fn tag_all(&self, id: &Digest, references: &[Reference]) -> Result<Vec<Option<Digest>>> {
        let keys: Vec<Reference> = references.iter().map(Reference::for_store).collect();
        let mut tables = self.lock();
        if !tables.images.contains_key(id) {
            return Err(Error::no_such_image(&id.to_string()));
        }
        let point = |tables: &mut Tables, key: &Reference, id: Digest| {
            tables.repositories.entry(key.name()).or_default().insert(key.to_string(), id)
        };
        let before: Vec<Option<Digest>> = keys.iter().map(|key| point(&mut tables, key, *id)).collect();
        let changed = before.iter().any(|b| *b != Some(*id));
        if changed && let Err(e) = self.write_repositories(&tables) {
            for (key, before) in keys.iter().zip(before).rev() {
                match before {
                    Some(before) => drop(point(&mut tables, key, before)),
                    None => drop(forget(&mut tables.repositories, key)),
                }
            }
            return Err(e);
        }
        if keys.iter().any(|key| key.tag().is_some()) {
            update(&mut tables, id, |image| image.last_tagged = Some(time::now()));
            // A time that a power cut may take back, where nothing else has changed.
            let durability = if changed { Durability::Synced } else { Durability::Renamed };
            self.write_image_record(&tables, id, durability)?;
        }
        refresh_names(&mut tables, id);
        let replaced: Vec<Option<Digest>> = before.into_iter().map(|b| b.filter(|b| b != id)).collect();
        for old in replaced.iter().flatten().collect::<std::collections::BTreeSet<_>>() {
            refresh_names(&mut tables, old);
        }
        Ok(replaced)
    }

    /// False if there was no such name.
    pub fn untag(&self, reference: &Reference) -> Result<bool> {
        let key = reference.for_store();
        let mut tables = self.lock();
        let Some(id) = forget(&mut tables.repositories, &key) else { return Ok(false) };
        if let Err(e) = self.write_repositories(&tables) {
            tables.repositories.entry(key.name()).or_default().insert(key.to_string(), id);
            return Err(e);
        }
        refresh_names(&mut tables, &id);
        Ok(true)
    }

    fn write_repositories(&self, tables: &Tables) -> Result<()> {
        let data = json::to_vec(&tables.repositories)?;
        atomic_file::write(&self.root.join("repositories.json"), &data, Durability::Synced)
            .context("write repositories.json")
    }

    pub(super) fn image_path(&self, id: &Digest) -> PathBuf {
        self.root.join("images").join(format!("{}.json", id.hex()))
    }

    pub(super) fn write_image_record(&self, tables: &Tables, id: &Digest, durability: Durability) -> Result<()> {
        let Some(image) = tables.images.get(id) else { return Ok(()) };
        let record = ImageRecord {
            parent: image.parent.as_deref().and_then(|p| p.parse().ok()),
            last_tagged: image.last_tagged.map(time::rfc3339_nano),
            manifests: image.manifests.clone(),
            packed: image.packed.clone(),
        };
        atomic_file::write(&self.image_path(id), &json::to_vec(&record)?, durability).context("write image record")
    }

    // ── images ──────────────────────────────────────────────────────────────

    /// Makes an image of a configuration whose layers are all here. One that is
    /// here already gains the manifests.
    pub fn put(&self, new: NewImage) -> Result<Arc<Image>> {
        let config = ImageConfig::parse(new.config)?;
        let id = config.id();
        let chains = digest::chain_ids(config.diff_ids());
        let mut manifests = Vec::new();
        if let Some(image) = self.get(&id).filter(|_| new.manifests.is_empty()) {
            // Nothing new: then nothing has to reach the disk either.
            return Ok(image);
        }
        for (media_type, bytes) in &new.manifests {
            let descriptor = Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
            self.put_blob(&descriptor.digest, bytes)?;
            manifests.push(descriptor);
        }
        self.put_blob(&id, &config.raw)?;
        let refs: Vec<LayerRef> = chains
            .iter()
            .map(|c| self.layer(c).ok_or_else(|| Error::system(format!("layer {c} of image {id} is missing"))))
            .collect::<Result<_>>()?;
        // Everything that the record will name is on disk before it.
        self.sync()?;
        let mut tables = self.lock();
        if let Some(image) = tables.images.get(&id) {
            let mut image = (**image).clone();
            let mut packed = new.packed;
            manifests.retain(|m| image.manifests.iter().all(|have| have.digest != m.digest));
            packed.retain(|p| image.packed.iter().all(|have| have.entry.digest != p.entry.digest));
            if manifests.is_empty() && packed.is_empty() {
                return Ok(Arc::new(image));
            }
            image.manifests.append(&mut manifests);
            image.packed.append(&mut packed);
            tables.images.insert(id, Arc::new(image));
        } else {
            let size = refs.iter().map(|r| r.layer.size).sum();
            let image = Image { parent: new.parent, manifests, packed: new.packed, ..describe(config, size) };
            tables.images.insert(id, Arc::new(image));
        }
        if let Err(e) = self.write_image_record(&tables, &id, Durability::Synced) {
            tables.images.remove(&id);
            return Err(e);
        }
        refresh_names(&mut tables, &id);
        tables.images.get(&id).cloned().ok_or_else(|| Error::system("image vanished"))
    }

    /// syncfs of the file system that layers and records are on.
    fn sync(&self) -> Result<()> {
        nix::unistd::syncfs(File::open(&self.root)?).context("sync the image store")
    }

    // ── reading records ─────────────────────────────────────────────────────

    fn load(&self) -> Result<()> {
        let mut tables = self.lock();
        for (chain_id, layer) in self.records::<Layer>("layers")? {
            if self.driver.has_layer(&chain_id.hex()) {
                tables.layers.insert(chain_id, Arc::new(layer));
            } else {
                crate::warn!("a layer's record has no files behind it", "layer" = chain_id);
                let _ = fs::remove_file(self.layer_path(&chain_id));
            }
        }
        for (id, record) in self.records::<ImageRecord>("images")? {
            match self.restore(&tables, &id, record) {
                Ok(image) => {
                    tables.images.insert(id, Arc::new(image));
                }
                Err(e) => crate::error!("an image cannot be used", "image" = id, "error" = e),
            }
        }
        let path = self.root.join("repositories.json");
        match fs::read(&path) {
            Ok(data) => match json::from_slice::<Repositories>(&data) {
                Ok(repositories) => tables.repositories = repositories,
                Err(e) => {
                    crate::error!("repositories.json cannot be read and is set aside", "error" = e);
                    fs::rename(&path, path.with_extension("json.unreadable"))?;
                }
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
        }
        let Tables { images, repositories, .. } = &mut *tables;
        for names in repositories.values_mut() {
            names.retain(|name, id| images.contains_key(id) && Reference::parse(name).is_ok());
        }
        repositories.retain(|_, names| !names.is_empty());
        let ids: Vec<Digest> = tables.images.keys().copied().collect();
        for id in ids {
            refresh_names(&mut tables, &id);
        }
        Ok(())
    }

    fn restore(&self, tables: &Tables, id: &Digest, record: ImageRecord) -> Result<Image> {
        let config = ImageConfig::parse(self.read_blob(id)?)?;
        if config.id() != *id {
            return Err(Error::system("its configuration has another digest"));
        }
        let mut size = 0;
        for chain in digest::chain_ids(config.diff_ids()) {
            let layer = tables.layers.get(&chain).ok_or_else(|| Error::system(format!("layer {chain} is missing")))?;
            size += layer.size;
        }
        let parent = record.parent.map(|p| p.to_string());
        let last_tagged = record.last_tagged.as_deref().and_then(time::parse_rfc3339);
        let ImageRecord { manifests, packed, .. } = record;
        Ok(Image { parent, last_tagged, manifests, packed, ..describe(config, size) })
    }

    /// `<hex>.json` files of a directory; unreadable ones are set aside.
    fn records<T: serde::de::DeserializeOwned>(&self, dir: &str) -> Result<Vec<(Digest, T)>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(self.root.join(dir))? {
            let path = entry?.path();
            let hex = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".json"));
            let Some(digest) = hex.and_then(Digest::from_hex) else { continue };
            match fs::read(&path).map_err(Error::from).and_then(|data| Ok(json::from_slice(&data)?)) {
                Ok(record) => records.push((digest, record)),
                Err(e) => {
                    crate::error!("a record cannot be read and is set aside", "file" = path.display(), "error" = e);
                    fs::rename(&path, path.with_extension("json.unreadable"))?;
                }
            }
        }
        Ok(records)
    }
}

pub(super) fn describe(config: ImageConfig, size: u64) -> Image {
    Image {
        id: config.id().to_string(),
        chain_ids: digest::chain_ids(config.diff_ids()).iter().map(Digest::hex).collect(),
        diff_ids: config.diff_ids().to_vec(),
        created: config.created.as_deref().and_then(time::parse_rfc3339),
        size,
        config,
        ..Image::default()
    }
}

fn references(repositories: &Repositories, id: &Digest) -> Vec<Reference> {
    let names = repositories.values().flatten().filter(|(_, i)| *i == id);
    names.filter_map(|(name, _)| Reference::parse(name).ok()).collect()
}

fn forget(repositories: &mut Repositories, key: &Reference) -> Option<Digest> {
    let names = repositories.get_mut(&key.name())?;
    let id = names.remove(&key.to_string());
    if names.is_empty() {
        repositories.remove(&key.name());
    }
    id
}

fn update(tables: &mut Tables, id: &Digest, change: impl FnOnce(&mut Image)) {
    if let Some(image) = tables.images.get_mut(id) {
        change(Arc::make_mut(image));
    }
}

fn refresh_names(tables: &mut Tables, id: &Digest) {
    let all = references(&tables.repositories, id);
    let (digests, tags): (Vec<_>, Vec<_>) = all.iter().partition(|r| r.digest().is_some());
    let names = |list: Vec<&Reference>| list.into_iter().map(Reference::familiar).collect::<Vec<_>>();
    let (tags, digests) = (names(tags), names(digests));
    update(tables, id, |image| {
        image.repo_tags = tags;
        image.repo_digests = digests;
    });
}
