//! Removing: images with the layers that nobody else needs, and what a killed
//! daemon left behind. Any thread; the tables are locked while it is decided,
//! files are removed outside of the lock.
//!
//! Invariant: a record goes before the files it speaks of, so a kill in between
//! leaves unreferenced files, never a record without files.

use super::digest::{self, Digest};
use super::platforms;
use super::store::{Store, Tables};
use crate::error::{Context, Error, Result};
use crate::storage::owners;
use crate::util::atomic_file;
use std::collections::HashSet;
use std::fs;
use std::sync::PoisonError;

/// Chain IDs (hex) that containers stand on.
pub type InUse<'a> = &'a dyn Fn() -> HashSet<String>;

impl Store {
    /// Removes an image without names and gives back the chain IDs of the layers
    /// that went with it, top first. The caller has checked who uses it.
    pub fn remove(&self, id: &Digest, in_use: InUse<'_>) -> Result<Vec<Digest>> {
        let used = in_use();
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let (layers, blobs) = {
            let mut tables = self.lock();
            if tables.repositories.values().flatten().any(|(_, i)| i == id) {
                return Err(Error::conflict(format!("image {id} still has names")));
            }
            let Some(image) = tables.images.get(id).cloned() else {
                return Err(Error::no_such_image(&id.to_string()));
            };
            fs::remove_file(self.image_path(id)).context("remove image record")?;
            tables.images.remove(id);
            let mut chains = digest::chain_ids(&image.diff_ids);
            chains.reverse();
            let needed = self.needed_layers(&tables, &used);
            let doomed: Vec<Digest> = chains.into_iter().filter(|c| !needed.contains(c)).collect();
            let mut blobs = vec![*id];
            blobs.extend(image.manifests.iter().map(|m| m.digest));
            blobs.extend(platforms::digests(&image.packed));
            for chain in &doomed {
                blobs.extend(self.forget_layer(&mut tables, chain)?);
            }
            (doomed, blobs)
        };
        self.remove_trees(&layers, blobs)?;
        Ok(layers)
    }

    /// Layers that have no record any more, and those of the blobs that nobody needs.
    fn remove_trees(&self, layers: &[Digest], blobs: Vec<Digest>) -> Result<()> {
        for chain in layers {
            self.driver.remove_layer(&chain.hex())?;
        }
        self.sweep(blobs);
        Ok(())
    }

    /// Removes those of the blobs that nobody needs.
    pub(super) fn sweep(&self, mut blobs: Vec<Digest>) {
        let tables = self.lock();
        let kept = self.needed_blobs(&tables);
        blobs.retain(|b| !kept.contains(b));
        for blob in blobs {
            let _ = fs::remove_file(self.blob_path(&blob));
        }
    }

    /// Layers that an image, a container or somebody at work stands on.
    fn needed_layers(&self, tables: &Tables, used: &HashSet<String>) -> HashSet<Digest> {
        let mut needed: HashSet<Digest> = tables.images.values().flat_map(|i| digest::chain_ids(&i.diff_ids)).collect();
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let unfinished = self.unfinished.layers();
        let roots = used.iter().filter_map(|hex| Digest::from_hex(hex)).chain(pins.keys().copied()).chain(unfinished);
        for mut chain in roots.collect::<Vec<_>>() {
            // Down to the bottom, or to where somebody has been already.
            while needed.insert(chain) {
                match tables.layers.get(&chain).and_then(|l| l.parent) {
                    Some(parent) => chain = parent,
                    None => break,
                }
            }
        }
        needed
    }

    /// Takes the record away; the blob's digest is given back for removal.
    fn forget_layer(&self, tables: &mut Tables, chain: &Digest) -> Result<Option<Digest>> {
        let Some(layer) = tables.layers.remove(chain) else { return Ok(None) };
        match fs::remove_file(self.layer_path(chain)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).context("remove layer record"),
            _ => Ok(layer.blob.as_ref().map(|b| b.digest)),
        }
    }

    /// Removes layers that nothing stands on. `Ok` is how many went.
    pub fn collect(&self, in_use: InUse<'_>) -> Result<usize> {
        let used = in_use();
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let (layers, blobs) = {
            let mut tables = self.lock();
            let needed = self.needed_layers(&tables, &used);
            let doomed: Vec<Digest> = tables.layers.keys().filter(|c| !needed.contains(c)).copied().collect();
            let mut blobs = Vec::new();
            for chain in &doomed {
                blobs.extend(self.forget_layer(&mut tables, chain)?);
            }
            (doomed, blobs)
        };
        self.remove_trees(&layers, blobs)?;
        Ok(layers.len())
    }

    /// First of all at start: what was under way when the last daemon was killed.
    /// Nobody may be at work yet, for their beginnings look the same.
    pub fn clear_unfinished(&self) -> Result<()> {
        self.driver.clean_up()?;
        for entry in fs::read_dir(self.root.join("tmp"))? {
            let _ = fs::remove_file(entry?.path());
        }
        for dir in ["", "images", "layers", "blobs/sha256"] {
            atomic_file::clear_unfinished(&self.root.join(dir));
        }
        Ok(())
    }

    /// Once, at start, when the containers are known and before the first request:
    /// removes what nothing needs. Writable layers are the engine's to judge
    /// (`Driver::list`).
    pub fn clean_up(&self, in_use: InUse<'_>) -> Result<()> {
        self.collect(in_use)?;
        let tables = self.lock();
        let known: HashSet<String> = tables.layers.keys().map(Digest::hex).collect();
        let used = in_use();
        for name in self.driver.list()?.1 {
            let chain = owners::original(&name).unwrap_or(&name);
            if !known.contains(chain) && !used.contains(chain) {
                self.driver.remove_layer(&name)?;
            }
        }
        let kept = self.needed_blobs(&tables);
        for entry in fs::read_dir(self.root.join("blobs/sha256"))? {
            let path = entry?.path();
            let digest = path.file_name().and_then(|n| n.to_str()).and_then(Digest::from_hex);
            if digest.is_none_or(|d| !kept.contains(&d)) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    fn needed_blobs(&self, tables: &Tables) -> HashSet<Digest> {
        let mut needed: HashSet<Digest> = tables.images.keys().copied().collect();
        for image in tables.images.values() {
            needed.extend(image.manifests.iter().map(|m| m.digest));
            needed.extend(platforms::digests(&image.packed));
        }
        needed.extend(tables.layers.values().filter_map(|l| l.blob.as_ref().map(|b| b.digest)));
        needed.extend(self.unfinished.blobs());
        needed
    }
}
