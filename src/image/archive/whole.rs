//! Images that are kept whole, in and out of archives: the index and its blobs
//! as they are, under their own digests. manifest.json names the one platform
//! that runs here, for readers that know nothing of indices.

use super::load::{Layer, Pending};
use super::{Item, blob_name};
use crate::error::{Context, Error, Result};
use crate::image::digest::{Digest, Hasher};
use crate::image::layer::{Expected, Ingest, stream_error};
use crate::image::manifest::{Descriptor, Index, Manifest, is_manifest};
use crate::image::platforms::{Blobs, Packed};
use crate::image::reference::Reference;
use crate::image::store::{Image, LayerRef, Store};
use crate::storage::behind::Once;
use crate::util::json;
use std::io::Read;
use std::sync::atomic::AtomicBool;

/// The entry of manifest.json.
pub(super) fn item(blobs: &Blobs<'_>, image: &Image, names: &[Reference]) -> Option<Item> {
    let own = blobs.packed.iter().find(|p| p.config.digest == image.digest())?;
    let sources = image.diff_ids.iter().zip(&own.layers).map(|(d, l)| (d.to_string(), l.clone()));
    let tags: Vec<String> = names.iter().filter(|n| n.tag().is_some()).map(Reference::familiar).collect();
    Some(Item {
        config: blob_name(&own.config.digest),
        repo_tags: (!tags.is_empty()).then_some(tags),
        layers: own.layers.iter().map(|l| blob_name(&l.digest)).collect(),
        layer_sources: Some(sources.collect()),
    })
}

/// Sends a blob and checks on the way that it is what its name says.
pub(super) fn copy(store: &Store, digest: &Digest, size: u64, out: &mut dyn std::io::Write) -> Result<()> {
    let file = store.blob(digest).ok_or_else(|| Error::system(format!("blob {digest} is missing")))?;
    let (mut file, mut hasher, mut buffer, mut read) = (Once::new(file), Hasher::new(), vec![0; 128 * 1024], 0);
    loop {
        let n = file.read(&mut buffer).map_err(stream_error).with_context(|| format!("blob {digest}"))?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        read += n as u64;
        out.write_all(&buffer[..n])?;
    }
    let got = hasher.finish();
    if got != *digest || read != size {
        return Err(Error::system(format!("blob {digest} is not what it was: it has digest {got}")));
    }
    Ok(())
}

impl Pending<'_> {
    /// The entries of an index, if the archive (or the store) has everything that
    /// they name and there is more than one.
    pub(super) fn whole(&self, index: &Index) -> Option<Vec<Packed>> {
        let mut packed = Vec::with_capacity(index.manifests.len());
        for entry in &index.manifests {
            let data = self.blob(entry).ok().filter(|_| is_manifest(&entry.media_type))?;
            let manifest: Manifest = json::from_slice(data).ok()?;
            let one = Packed::new(entry, &manifest);
            if !one.blobs().all(|b| self.has(b)) {
                return None;
            }
            packed.push(one);
        }
        (packed.len() > 1).then_some(packed)
    }

    fn has(&self, blob: &Descriptor) -> bool {
        let staged = || match self.layers.get(&blob_name(&blob.digest)) {
            Some(Layer::Staged(staged)) => staged.blob.as_ref().is_some_and(|b| b.digest == blob.digest),
            _ => false,
        };
        self.blob(blob).is_ok() || staged() || self.store.has_blob(blob) || self.unpacked(blob).is_some()
    }

    /// A layer whose plain tar the blob is, so that it can be made again.
    fn unpacked(&self, blob: &Descriptor) -> Option<LayerRef> {
        self.store.layer_by_diff_id(&blob.digest).filter(|layer| layer.layer.tar_size == blob.size)
    }

    /// Puts everything that the entries name into the store, trees dropped. What
    /// the image itself needs has been committed before.
    pub(super) fn keep_blobs(&mut self, packed: &[Packed]) -> Result<()> {
        for blob in packed.iter().flat_map(|p| p.blobs().chain([&p.entry])) {
            if self.store.has_blob(blob) {
                continue;
            }
            if let Ok(data) = self.blob(blob) {
                self.store.put_blob(&blob.digest, data)?;
                continue;
            }
            if let Some(layer) = self.unpacked(blob) {
                let (cancel, mut silent) = (AtomicBool::new(false), |_| {});
                let ingest = Ingest::new(Expected::default(), &cancel, &mut silent);
                self.store.take_blob(blob, &mut self.store.layer_tar(&layer.chain_id)?, ingest)?;
                continue;
            }
            if let Some(Layer::Staged(staged)) = self.layers.remove(&blob_name(&blob.digest))
                && let Some(kept) = staged.blob
            {
                self.store.keep_blob(kept)?;
            }
            if !self.store.has_blob(blob) {
                return Err(Error::system(format!("blob {} is missing in the archive", blob.digest)));
            }
        }
        Ok(())
    }
}
