//! The store's content: layers in their places, and blobs. Any thread; a layer is
//! read or written with no lock but `disk`, which is held while one comes into or
//! goes from the driver's directory.
//!
//! Invariants: a layer is there if its record is; no layer stands on more others
//! than the driver can stack, so that every image that is here can be run.

use super::digest::{self, Digest};
use super::layer::{self, Body, Ingest, Place, Staged};
use super::manifest::Descriptor;
use super::platforms;
use super::store::{Image, Options, Store};
use crate::error::{Context, Error, Result};
use crate::storage::split::{self, Assemble, SPLIT};
use crate::util::atomic_file::{self, Durability};
use crate::util::json;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

/// One layer's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Layer {
    pub diff_id: Digest,
    pub parent: Option<Digest>,
    /// Docker's size: lengths of files and of symlink targets.
    pub size: u64,
    pub tar_size: u64,
    /// The compressed form as it was pulled or as it was once pushed. Its bytes
    /// are a blob only if [`Store::blob`] has them.
    #[serde(default)]
    pub blob: Option<Descriptor>,
}

pub(super) type Pins = Arc<Mutex<HashMap<Digest, usize>>>;

/// Keeps a layer from being collected while somebody builds on it.
#[derive(Debug)]
pub struct LayerRef {
    pub chain_id: Digest,
    pub layer: Arc<Layer>,
    pins: Pins,
}

impl LayerRef {
    fn new(chain_id: Digest, layer: Arc<Layer>, pins: &Pins) -> Self {
        *pins.lock().unwrap_or_else(PoisonError::into_inner).entry(chain_id).or_default() += 1;
        Self { chain_id, layer, pins: pins.clone() }
    }
}

impl Drop for LayerRef {
    fn drop(&mut self) {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = pins.get_mut(&self.chain_id) {
            *n -= 1;
            if *n == 0 {
                pins.remove(&self.chain_id);
            }
        }
    }
}

impl Store {
    /// The layer with this chain ID, pinned, if it is here.
    pub fn layer(&self, chain_id: &Digest) -> Option<LayerRef> {
        let tables = self.lock();
        let layer = tables.layers.get(chain_id)?.clone();
        Some(LayerRef::new(*chain_id, layer, &self.pins))
    }

    /// Chain IDs of all layers with their sizes.
    pub fn layer_sizes(&self) -> HashMap<Digest, u64> {
        self.lock().layers.iter().map(|(chain, layer)| (*chain, layer.size)).collect()
    }

    /// The same with what is kept packed of each: what its end gives back to the disk.
    pub fn layer_weights(&self) -> HashMap<Digest, u64> {
        let mut weights = self.layer_sizes();
        for (chain, weight) in &mut weights {
            let blob = self.layer(chain).and_then(|l| self.blob(&l.layer.blob.as_ref()?.digest));
            *weight += blob.and_then(|file| file.metadata().ok()).map_or(0, |m| m.len());
        }
        weights
    }

    /// Any layer with this diff ID: its content can be had without downloading.
    pub fn layer_by_diff_id(&self, diff_id: &Digest) -> Option<LayerRef> {
        let tables = self.lock();
        let (chain_id, layer) = tables.layers.iter().find(|(_, l)| l.diff_id == *diff_id)?;
        Some(LayerRef::new(*chain_id, layer.clone(), &self.pins))
    }

    /// Any layer whose compressed form has this digest.
    pub fn layer_by_blob(&self, blob: &Digest) -> Option<LayerRef> {
        let tables = self.lock();
        let matching = |l: &Layer| l.blob.as_ref().is_some_and(|b| b.digest == *blob);
        let (chain_id, layer) = tables.layers.iter().find(|(_, l)| matching(l))?;
        Some(LayerRef::new(*chain_id, layer.clone(), &self.pins))
    }

    fn place(&self) -> (PathBuf, &Options) {
        (self.root.join("tmp"), &self.options)
    }

    /// Takes a layer in: unpacked, hashed, verified, not yet in place. With the
    /// `parent` known (`Some(None)`: the bottom) a copying driver unpacks at
    /// once, else it waits for `commit_layer`.
    pub fn ingest(&self, input: &mut dyn Read, parent: Option<Option<&Digest>>, ingest: Ingest<'_>) -> Result<Staged> {
        let (tmp, options) = self.place();
        let place = Place {
            driver: &*self.driver,
            tmp: &tmp,
            keep_blobs: options.keep_blobs,
            single_id: options.single_id,
            devices: options.devices,
        };
        let hex = parent.map(|p| p.map(Digest::hex));
        layer::take_in(&place, input, hex.as_ref().map(Option::as_deref), ingest)
    }

    /// Whether an image may have so many layers, in the original's words.
    pub fn check_depth(&self, layers: usize) -> Result<()> {
        let most = self.driver.max_layers();
        if layers <= most {
            return Ok(());
        }
        let hint = format!("{layers} layers, and {} stacks {most}", self.driver.name());
        Err(Error::system("max depth exceeded").with_hint(hint))
    }

    fn depth(&self, mut top: Option<Digest>) -> usize {
        let tables = self.lock();
        let mut depth = 0;
        while let Some(layer) = top.and_then(|chain| tables.layers.get(&chain)) {
            depth += 1;
            top = layer.parent;
        }
        depth
    }

    /// Gives a layer its place over `parent`. If it is here already, the staged
    /// one is dropped.
    pub fn commit_layer(&self, staged: Staged, parent: Option<&Digest>) -> Result<LayerRef> {
        let chain_id = digest::chain_id(parent, &staged.diff_id);
        if let Some(existing) = self.layer(&chain_id) {
            return Ok(existing);
        }
        self.check_depth(self.depth(parent.copied()) + 1)?;
        let Staged { diff_id, tar_size, blob, body, .. } = staged;
        let (staging, outcome) = match body {
            Body::Tree(staging, outcome) => (staging, outcome),
            Body::Spooled(spool) => {
                let (tmp, options) = self.place();
                let place = Place {
                    driver: &*self.driver,
                    tmp: &tmp,
                    keep_blobs: false,
                    single_id: options.single_id,
                    devices: options.devices,
                };
                layer::unspool(&place, &spool, parent.map(Digest::hex).as_deref(), &AtomicBool::new(false))?
            }
        };
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(existing) = self.layer(&chain_id) {
            return Ok(existing);
        }
        let descriptor = match blob {
            Some(blob) => {
                let media_type = blob.compression.media_type().unwrap_or_default();
                let descriptor = Descriptor::new(media_type, blob.digest, blob.size);
                self.keep_blob(blob)?;
                Some(descriptor)
            }
            None => None,
        };
        staging.commit(&chain_id.hex())?;
        let layer = Layer { diff_id, parent: parent.copied(), size: outcome.size, tar_size, blob: descriptor };
        self.insert_layer(chain_id, layer)
    }

    fn insert_layer(&self, chain_id: Digest, layer: Layer) -> Result<LayerRef> {
        let mut tables = self.lock();
        self.write_layer(&chain_id, &layer)?;
        let layer = Arc::new(layer);
        tables.layers.insert(chain_id, layer.clone());
        Ok(LayerRef::new(chain_id, layer, &self.pins))
    }

    pub(super) fn layer_path(&self, chain_id: &Digest) -> PathBuf {
        self.root.join("layers").join(format!("{}.json", chain_id.hex()))
    }

    fn write_layer(&self, chain_id: &Digest, layer: &Layer) -> Result<()> {
        atomic_file::write(&self.layer_path(chain_id), &json::to_vec(layer)?, Durability::Renamed)
            .context("write layer record")
    }

    /// The layer's tar, byte for byte as it came.
    pub fn layer_tar(&self, chain_id: &Digest) -> Result<Assemble> {
        let hex = chain_id.hex();
        let aside = self.driver.layer_aside(&hex)?;
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let record =
            openat(&aside, SPLIT, flags, Mode::empty()).with_context(|| format!("open tar record of {hex}"))?;
        let moved = split::read_moved(&aside)?;
        Ok(Assemble::new(record.into(), self.driver.layer_root(&hex)?, aside, moved))
    }

    /// Remembers how a layer is called in its compressed form (after a push
    /// that compressed it), so that the next push can ask for it by digest.
    pub fn remember_blob(&self, chain_id: &Digest, blob: &Descriptor) -> Result<()> {
        let mut tables = self.lock();
        let Some(layer) = tables.layers.get(chain_id) else { return Ok(()) };
        if layer.blob.as_ref().is_some_and(|b| b.digest == blob.digest) {
            return Ok(());
        }
        let layer = Layer { blob: Some(blob.clone()), ..(**layer).clone() };
        self.write_layer(chain_id, &layer)?;
        tables.layers.insert(*chain_id, Arc::new(layer));
        Ok(())
    }

    /// Where unfinished files are; emptied at start.
    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    // ── blobs ───────────────────────────────────────────────────────────────

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// Small content: configurations and manifests. The caller has the digest.
    pub fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let path = self.blob_path(digest);
        if path.exists() {
            return Ok(());
        }
        atomic_file::write(&path, bytes, Durability::Renamed).with_context(|| format!("write blob {digest}"))
    }

    /// A compressed layer's bytes without the layer.
    pub(super) fn keep_blob(&self, blob: layer::Blob) -> Result<()> {
        let path = self.blob_path(&blob.digest);
        blob.keep(&path)
    }

    /// The bytes of a configuration, manifest or kept compressed layer.
    pub fn blob(&self, digest: &Digest) -> Option<File> {
        File::open(self.blob_path(digest)).ok()
    }

    /// What is kept packed of an image beside its layers, with the bytes it takes: these
    /// layers as they came, and platforms that are not unpacked.
    pub fn packed_sizes(&self, image: &Image) -> BTreeMap<Digest, u64> {
        let mut sizes = BTreeMap::new();
        let came_as = |chain: Digest| self.layer(&chain)?.layer.blob.as_ref().map(|b| b.digest);
        let layers = digest::chain_ids(&image.diff_ids).into_iter().filter_map(came_as);
        for blob in layers.chain(platforms::digests(&image.packed)) {
            if let Some(size) = self.blob(&blob).and_then(|file| Some(file.metadata().ok()?.len())) {
                sizes.insert(blob, size);
            }
        }
        sizes
    }

    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        fs::read(self.blob_path(digest)).with_context(|| format!("read blob {digest}"))
    }
}
