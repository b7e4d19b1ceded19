//! Images that are kept whole: the index with every platform's manifest,
//! configuration and layers, as they came. The platform that is run here is an
//! ordinary image; the others stay packed until somebody asks for one of them.
//!
//! Invariant: what a [`Packed`] names is a blob in the store for as long as the
//! image has it, so that a whole image can be pushed and saved byte for byte.

use super::config::ImageConfig;
use super::digest::{self, Digest, Hasher};
use super::flow::{Copy, Meter, Source};
use super::layer::{Expected, Ingest, TempFile, stream_error};
use super::manifest::{Descriptor, Index, Manifest, OCI_LAYER_GZIP, Platform};
use super::store::{Image, LayerRef, NewImage, Store, describe};
use crate::error::{Context, Error, Result};
use crate::storage::behind::{Behind, Once};
use crate::util::atomic_file::Durability;
use crate::util::json;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;

/// One entry of an index, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// As the index has it: platform and annotations.
    pub entry: Descriptor,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

impl Packed {
    pub fn new(entry: &Descriptor, manifest: &Manifest) -> Self {
        Self { entry: entry.clone(), config: manifest.config.clone(), layers: manifest.layers.clone() }
    }
    /// Everything that must be here; what is foreign is nobody's.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.layers.iter().filter(|l| !l.is_foreign()).chain([&self.config])
    }
    fn digests(&self) -> impl Iterator<Item = Digest> {
        self.blobs().map(|b| b.digest).chain([self.entry.digest])
    }
    pub fn content(&self) -> u64 {
        self.entry.size + self.blobs().map(|b| b.size).sum::<u64>()
    }
}

impl Image {
    /// The index that the image is kept whole with.
    pub fn index(&self) -> Option<&Descriptor> {
        let whole = !self.packed.is_empty();
        self.manifests.iter().find(|m| whole && super::manifest::is_index(&m.media_type))
    }
    pub fn platform(&self) -> Platform {
        self.config.platform()
    }
    /// The kept platform that serves `wanted` best.
    pub fn packed_for(&self, wanted: &Platform) -> Option<&Packed> {
        let images = self.packed.iter().filter(|p| !p.entry.is_attestation());
        let ranked = images.filter_map(|p| Some((p.entry.platform.as_ref()?.rank(wanted)?, p)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, p)| p)
    }
}

/// An image that leaves as the blobs it came as, not from its unpacked layers.
pub struct Blobs<'a> {
    /// The index, or the one manifest.
    pub top: Descriptor,
    pub packed: &'a [Packed],
}

impl<'a> Blobs<'a> {
    /// None for an image that was unpacked and is not (or no longer) kept whole.
    pub fn of(store: &Store, image: &'a Image) -> Option<Self> {
        if let Some(top) = image.index() {
            let index: Index = json::from_slice(&store.read_blob(&top.digest).ok()?).ok()?;
            let here = |entry: &Descriptor| image.packed.iter().any(|p| p.entry.digest == entry.digest);
            return index.manifests.iter().all(here).then(|| Self { top: top.clone(), packed: &image.packed });
        }
        let one = image.packed.first().filter(|_| store.get(&image.digest()).is_none())?;
        Some(Self { top: one.entry.clone(), packed: &image.packed })
    }

    /// Digest and size of each, the documents among them.
    pub fn all(&self) -> BTreeMap<Digest, u64> {
        let below = self.packed.iter().flat_map(|p| p.blobs().chain([&p.entry]));
        below.chain([&self.top]).map(|d| (d.digest, d.size)).collect()
    }
}

pub(super) fn digests(images: &[Packed]) -> impl Iterator<Item = Digest> {
    images.iter().flat_map(Packed::digests)
}

impl Store {
    pub fn has_blob(&self, blob: &Descriptor) -> bool {
        self.blob(&blob.digest).is_some_and(|f| f.metadata().is_ok_and(|m| m.len() == blob.size))
    }

    /// Takes a blob in without looking into it. As with a layer, `ingest.partial`
    /// is what is here already.
    pub fn take_blob(&self, blob: &Descriptor, input: &mut dyn io::Read, ingest: Ingest<'_>) -> Result<()> {
        let have = ingest.partial.as_ref().map_or(0, |p| p.length);
        let mut file = match ingest.partial {
            Some(partial) => partial.file,
            None => TempFile::new(&self.temporary())?,
        };
        let mut source = Source { input, earlier: Some((&file.file, have)), at: 0, failed: false };
        let mut meter = Meter {
            input: &mut source,
            hasher: Some(Hasher::new()),
            count: 0,
            limit: Some(blob.size),
            copy: Some(Copy { file: &file.file, have, behind: Behind::from(have) }),
            cancel: ingest.cancel,
            progress: ingest.progress,
            failure: None,
        };
        let read = io::copy(&mut BufReader::with_capacity(64 * 1024, &mut meter), &mut io::sink());
        let Meter { hasher, count, failure, copy, .. } = meter;
        if let Some(copy) = copy {
            copy.behind.finish(copy.file, count);
        }
        let broken = source.failed || ingest.cancel.load(std::sync::atomic::Ordering::Relaxed);
        file.resumable &= broken;
        read.map_err(|e| failure.unwrap_or_else(|| stream_error(e)))?;
        let got = hasher.map(Hasher::finish);
        if got != Some(blob.digest) || count != blob.size {
            let got = got.map(|g| g.to_string()).unwrap_or_default();
            return Err(Error::invalid(format!(
                "blob {} of {} bytes came as {count} bytes with digest {got}",
                blob.digest, blob.size
            )));
        }
        file.keep(&self.blob_path(&blob.digest))
    }

    /// The layer as a compressed blob that is here, made now if need be: the same
    /// layer gives the same bytes each time.
    pub fn pack(&self, layer: &LayerRef, cancelled: &dyn Fn() -> bool) -> Result<Descriptor> {
        let known = self.layer(&layer.chain_id).and_then(|l| l.layer.blob.clone());
        if let Some(blob) = known.filter(|blob| self.has_blob(blob)) {
            return Ok(blob);
        }
        let file = TempFile::new(&self.temporary())?;
        let tar = self.layer_tar(&layer.chain_id)?;
        let mut packed = flate2::read::GzEncoder::new(tar, flate2::Compression::default());
        let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0, vec![0; 128 * 1024]);
        loop {
            let n = packed.read(&mut buffer).map_err(stream_error)?;
            if n == 0 {
                break;
            }
            if cancelled() {
                return Err(Error::cancelled());
            }
            hasher.update(&buffer[..n]);
            (&file.file).write_all(&buffer[..n]).context("write a compressed layer")?;
            size += n as u64;
        }
        let blob = Descriptor::new(OCI_LAYER_GZIP, hasher.finish(), size);
        file.keep(&self.blob_path(&blob.digest))?;
        self.remember_blob(&layer.chain_id, &blob)?;
        Ok(blob)
    }

    /// What an image is, for one of its platforms: itself, or one that is packed.
    pub fn for_platform(&self, image: Arc<Image>, wanted: &Platform) -> Result<Option<Arc<Image>>> {
        let own = image.platform().rank(wanted);
        let packed = image.packed_for(wanted).filter(|p| p.config.digest != image.digest());
        let better = packed.filter(|p| {
            let rank = p.entry.platform.as_ref().and_then(|p| p.rank(wanted));
            own.is_none_or(|own| rank.is_some_and(|rank| rank < own))
        });
        match better {
            Some(packed) => self.packed_image(&image, packed).map(Some),
            None => Ok(own.map(|_| image)),
        }
    }

    /// A packed platform as an image; its layers may not be unpacked.
    fn packed_image(&self, whole: &Image, packed: &Packed) -> Result<Arc<Image>> {
        if let Some(image) = self.get(&packed.config.digest) {
            return Ok(image);
        }
        let config = ImageConfig::parse(self.read_blob(&packed.config.digest)?)?;
        Ok(Arc::new(Image {
            repo_tags: whole.repo_tags.clone(),
            repo_digests: whole.repo_digests.clone(),
            last_tagged: whole.last_tagged,
            manifests: vec![packed.entry.clone()],
            packed: vec![packed.clone()],
            ..describe(config, packed.content())
        }))
    }

    /// Makes a packed platform an image that can be run.
    pub fn unpack(&self, image: Arc<Image>) -> Result<Arc<Image>> {
        if self.get(&image.digest()).is_some() {
            return Ok(image);
        }
        let [packed] = image.packed.as_slice() else { return Ok(image) };
        if packed.layers.len() != image.diff_ids.len() {
            return Err(Error::system("layers from manifest don't match image configuration"));
        }
        let mut held = Vec::new();
        let mut parent: Option<Digest> = None;
        let cancel = std::sync::atomic::AtomicBool::new(false);
        for (blob, diff_id) in packed.layers.iter().zip(&image.diff_ids) {
            let chain = digest::chain_id(parent.as_ref(), diff_id);
            let layer = match self.layer(&chain) {
                Some(layer) => layer,
                None => {
                    let Some(file) = self.blob(&blob.digest) else {
                        return Err(Error::system(format!("blob {} is missing", blob.digest)));
                    };
                    let expected =
                        Expected { digest: Some(blob.digest), size: Some(blob.size), diff_id: Some(*diff_id) };
                    let mut silent = |_| {};
                    let mut ingest = Ingest::new(expected, &cancel, &mut silent);
                    ingest.stored = true;
                    let staged = self.ingest(&mut Once::new(file), Some(parent.as_ref()), ingest)?;
                    self.commit_layer(staged, parent.as_ref())?
                }
            };
            self.remember_blob(&chain, blob)?;
            held.push(layer);
            parent = Some(chain);
        }
        let manifest = self.read_blob(&packed.entry.digest)?;
        let manifests = vec![(packed.entry.media_type.clone(), manifest)];
        self.put(NewImage { config: image.config.raw.clone(), manifests, ..NewImage::default() })
    }

    /// Removes what only one packed platform needs.
    pub fn remove_packed(&self, id: &Digest, manifest: &Digest) -> Result<()> {
        let gone = {
            let mut tables = self.lock();
            let Some(image) = tables.images.get_mut(id) else { return Ok(()) };
            let image = Arc::make_mut(image);
            let gone: Vec<Packed> = image.packed.extract_if(.., |p| p.entry.digest == *manifest).collect();
            self.write_image_record(&tables, id, Durability::Synced)?;
            gone
        };
        self.sweep(digests(&gone).collect());
        Ok(())
    }
}
