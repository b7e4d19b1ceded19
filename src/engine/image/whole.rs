//! `docker pull --platform all`: the index with everything it names, for pushing
//! and saving it as it is. What runs here is pulled as ever; this fetches the
//! rest and leaves it packed (`image::platforms`).

use super::layers_in_use;
use super::progress::Lines;
use super::pull::{Wanted, image_of_index, listen};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::layer::{Expected, Ingest};
use crate::image::manifest::{Descriptor, Index, Manifest, is_manifest};
use crate::image::platforms::Packed;
use crate::image::registry::blob::{self, BlobReader};
use crate::image::registry::client::Client;
use crate::image::registry::fault::{Class, Fault};
use crate::image::registry::transfer::{Handle, Job, Step};
use crate::image::registry::transport::Cancel;
use crate::util::id::short;
use crate::util::json;
use std::sync::Arc;
use std::sync::mpsc::channel;

/// Every entry of the index; all blobs are in the store afterwards, and kept
/// there until [`crate::image::store::Store::end_pull`] of the index.
pub fn fetch(
    engine: &Arc<Engine>,
    client: &Arc<Client>,
    (top, index): (Digest, &Index),
    lines: &mut Lines<'_>,
    cancel: &Arc<Cancel>,
) -> Result<Vec<Packed>> {
    let mut packed = Vec::new();
    let mut documents = Vec::new();
    for entry in &index.manifests {
        if !is_manifest(&entry.media_type) {
            return Err(Error::system(format!("{top}: an entry of type {:?} cannot be kept", entry.media_type)));
        }
        let fetched = image_of_index(engine, client, entry)?;
        let manifest: Manifest = json::from_slice(&fetched.bytes)
            .map_err(|e| Error::system(format!("manifest {} is not readable: {e}", entry.digest)))?;
        packed.push(Packed::new(entry, &manifest));
        documents.push(fetched);
    }
    let mut blobs: Vec<Digest> = packed.iter().flat_map(|p| p.blobs().map(|b| b.digest)).collect();
    blobs.extend(documents.iter().map(|d| d.digest));
    engine.images.begin_pull(&top, &[], blobs)?;
    for document in &documents {
        engine.images.put_blob(&document.digest, &document.bytes)?;
    }
    let result = fetch_blobs(engine, client, &packed, lines, cancel);
    if let Err(fault) = result {
        if !fault.resumable() {
            engine.images.end_pull(&top);
        }
        if fault.class == Class::NoSpace {
            engine.images.make_room(&|| layers_in_use(engine))?;
        }
        return Err(fault.into());
    }
    Ok(packed)
}

fn fetch_blobs(
    engine: &Arc<Engine>,
    client: &Arc<Client>,
    packed: &[Packed],
    lines: &mut Lines<'_>,
    cancel: &Arc<Cancel>,
) -> Result<(), Fault> {
    let (to, from) = channel();
    let mut all: Vec<Wanted> = Vec::new();
    for one in packed {
        if !engine.images.has_blob(&one.config) {
            let bytes = blob::document(client, one.config.digest, one.config.size)?;
            engine.images.put_blob(&one.config.digest, &bytes)?;
        }
        for layer in one.layers.iter().filter(|l| !l.is_foreign() && !engine.images.has_blob(l)) {
            // A key of its own: the same bytes may be on their way as a layer.
            let key = Digest::of(format!("blob {}", layer.digest).as_bytes());
            if all.iter().any(|w| w.key == key) {
                continue;
            }
            let id = short(&layer.digest.to_string()).to_owned();
            lines.step(&id, "Pulling fs layer")?;
            let plan = Plan { engine: engine.clone(), client: client.clone(), blob: layer.clone() };
            let downloads = &engine.registries.downloads;
            let watch = downloads.join(client.source(), key, None, to.clone(), move |cancel| plan.job(cancel))?;
            all.push(Wanted { key, id, _watch: Some(watch), done: false, told: false });
        }
    }
    drop(to);
    listen(&mut all, &from, lines, cancel)
}

struct Plan {
    engine: Arc<Engine>,
    client: Arc<Client>,
    blob: Descriptor,
}

impl Plan {
    fn job(self, cancel: Arc<Cancel>) -> Job {
        Box::new(move |handle| self.run(handle, &cancel))
    }

    fn run(self, handle: &Arc<Handle>, cancel: &Arc<Cancel>) -> Result<(), Fault> {
        let total = self.blob.size;
        let partial = self.engine.images.partial(&self.blob.digest, total);
        let client = Arc::new(self.client.fork(cancel));
        let teller = handle.clone();
        let mut reader = BlobReader::new(client, self.blob.digest, total)
            .starting_at(partial.as_ref().map_or(0, |p| p.length))
            .on_retry(move |seconds| teller.report(Step::Retrying { seconds }));
        let mut progress = |current: u64| handle.report(Step::Downloading { current, total });
        let mut ingest = Ingest::new(Expected::default(), cancel.flag(), &mut progress);
        ingest.partial = partial;
        match self.engine.images.take_blob(&self.blob, &mut reader, ingest) {
            Ok(()) => {
                handle.report(Step::Downloaded);
                Ok(())
            }
            Err(e) => Err(reader.take_fault().unwrap_or_else(|| e.into())),
        }
    }
}
