//! `docker save`: the OCI layout with Docker's manifest.json beside it, as
//! Docker 25 and later write it: layers as plain tars under their diff IDs.
//!
//! Invariant: every layer's bytes are checked against its diff ID while they are
//! sent; a layer that is no longer what it was ends the stream with an error and
//! without an end marker, so that no reader takes it for whole.

use super::whole;
use super::{Item, blob_name};
use crate::error::{Context, Error, Result};
use crate::image::digest::{Digest, Hasher};
use crate::image::layer::stream_error;
use crate::image::manifest::{
    ANNOTATION_CONTAINERD_NAME, ANNOTATION_REF_NAME, Descriptor, Index, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER,
    OCI_MANIFEST,
};
use crate::image::platforms::Blobs;
use crate::image::reference::Reference;
use crate::image::store::{Image, LayerRef, Store};
use crate::storage::tar::{Entry, Kind, Time, write};
use crate::util::json;
use crate::util::time::{self, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::sync::Arc;

/// One image with the names to save it under.
pub struct Saved {
    pub image: Arc<Image>,
    pub names: Vec<Reference>,
}

/// What can fail is looked up before the first byte goes out.
pub struct Archive<'a> {
    store: &'a Store,
    images: Vec<Saved>,
    layers: Vec<(Digest, LayerRef)>,
    /// With manifest.json and repositories; else the OCI layout alone.
    pub docker: bool,
    /// Of every manifest.
    pub annotations: BTreeMap<String, String>,
    /// All images under one index of their own, which has these names.
    pub joined: Option<Vec<Reference>>,
}

impl<'a> Archive<'a> {
    pub fn new(store: &'a Store, images: Vec<Saved>) -> Result<Self> {
        let mut layers: Vec<(Digest, LayerRef)> = Vec::new();
        let mut seen = BTreeSet::new();
        for saved in images.iter().filter(|s| Blobs::of(store, &s.image).is_none()) {
            let chains = crate::image::digest::chain_ids(&saved.image.diff_ids);
            for (chain, diff_id) in chains.iter().zip(&saved.image.diff_ids) {
                if seen.insert(*diff_id) {
                    let layer = store.layer(chain);
                    let layer = layer.ok_or_else(|| Error::system(format!("layer {chain} is missing")))?;
                    layers.push((*diff_id, layer));
                }
            }
        }
        Ok(Self { store, images, layers, docker: true, annotations: BTreeMap::new(), joined: None })
    }

    pub fn write(&self, out: &mut dyn Write) -> Result<()> {
        let now = time::now();
        let dir = |out: &mut dyn Write, name: &str| emit_dir(out, name, now);
        dir(out, "blobs/")?;
        dir(out, "blobs/sha256/")?;
        for (diff_id, layer) in &self.layers {
            write_layer(self.store, out, diff_id, layer, now)?;
        }
        let mut items = Vec::new();
        let mut index = Vec::new();
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut written = BTreeSet::new();
        for saved in &self.images {
            let (top, item) = self.image(out, saved, now, &mut written)?;
            for name in &saved.names {
                if let (Some(tag), Some(top)) = (name.tag(), saved.image.diff_ids.last()) {
                    repositories.entry(name.familiar_name()).or_default().insert(tag.to_owned(), top.hex());
                }
            }
            index.extend(entries(&top, &saved.names));
            items.extend(item);
        }
        if let Some(names) = &self.joined {
            let all = Index { schema_version: 2, media_type: OCI_INDEX.into(), manifests: index, annotations: None };
            let bytes = json::to_vec(&all)?;
            let top = Descriptor::new(OCI_INDEX, Digest::of(&bytes), bytes.len() as u64);
            emit(out, &blob_name(&top.digest), &bytes, now)?;
            index = entries(&top, names);
        }
        let index = Index { schema_version: 2, media_type: OCI_INDEX.into(), manifests: index, annotations: None };
        emit(out, "index.json", &json::to_vec(&index)?, now)?;
        if self.docker {
            emit(out, "manifest.json", &[json::to_vec(&items)?, b"\n".to_vec()].concat(), Timestamp(0))?;
        }
        emit(out, "oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}", now)?;
        if self.docker && !repositories.is_empty() {
            emit(out, "repositories", &[json::to_vec(&repositories)?, b"\n".to_vec()].concat(), Timestamp(0))?;
        }
        out.write_all(&write::END)?;
        Ok(out.flush()?)
    }

    /// The blobs of an image besides the layers that are written already; its entries in
    /// the index and in manifest.json.
    fn image(
        &self,
        out: &mut dyn Write,
        saved: &Saved,
        now: Timestamp,
        written: &mut BTreeSet<Digest>,
    ) -> Result<(Descriptor, Option<Item>)> {
        let image = &saved.image;
        let mtime = image.created.unwrap_or(now);
        if let Some(blobs) = Blobs::of(self.store, image) {
            for (digest, size) in blobs.all().into_iter().filter(|(d, _)| written.insert(*d)) {
                out.write_all(&write::header(&file_entry(&blob_name(&digest), size, mtime)))?;
                whole::copy(self.store, &digest, size, out)?;
                out.write_all(&vec![0; write::padding(size)])?;
            }
            return Ok((blobs.top.clone(), whole::item(&blobs, image, &saved.names)));
        }
        let mut small = |bytes: &[u8]| -> Result<Digest> {
            let digest = Digest::of(bytes);
            if written.insert(digest) {
                emit(out, &blob_name(&digest), bytes, mtime)?;
            }
            Ok(digest)
        };
        let config = small(&image.config.raw)?;
        let bytes = json::to_vec(&self.manifest(image, config)?)?;
        let mut top = Descriptor::new(OCI_MANIFEST, small(&bytes)?, bytes.len() as u64);
        top.platform = Some(image.platform());
        Ok((top, Some(self.item(saved, &config))))
    }

    fn manifest(&self, image: &Image, config: Digest) -> Result<Manifest> {
        let mut layers = Vec::new();
        for diff_id in &image.diff_ids {
            let size = self.layers.iter().find(|(d, _)| d == diff_id).map_or(0, |(_, l)| l.layer.tar_size);
            layers.push(Descriptor::new(OCI_LAYER, *diff_id, size));
        }
        Ok(Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.into(),
            config: Descriptor::new(OCI_CONFIG, config, image.config.raw.len() as u64),
            layers,
            annotations: (!self.annotations.is_empty()).then(|| self.annotations.clone()),
        })
    }

    fn item(&self, saved: &Saved, config: &Digest) -> Item {
        let mut sources = BTreeMap::new();
        for diff_id in &saved.image.diff_ids {
            let size = self.layers.iter().find(|(d, _)| d == diff_id).map_or(0, |(_, l)| l.layer.tar_size);
            sources.insert(diff_id.to_string(), Descriptor::new(OCI_LAYER, *diff_id, size));
        }
        let tags: Vec<String> = saved.names.iter().filter(|n| n.tag().is_some()).map(Reference::familiar).collect();
        Item {
            config: blob_name(config),
            repo_tags: (!tags.is_empty()).then_some(tags),
            layers: saved.image.diff_ids.iter().map(blob_name).collect(),
            layer_sources: Some(sources),
        }
    }
}

/// Something that is no image, as an OCI layout: layers and a document about them.
pub fn artifact(
    store: &Store,
    layers: &[LayerRef],
    (media_type, document): (&str, &[u8]),
    out: &mut dyn Write,
) -> Result<()> {
    let now = Timestamp(0);
    emit_dir(out, "blobs/", now)?;
    emit_dir(out, "blobs/sha256/", now)?;
    let mut written = BTreeSet::new();
    for layer in layers {
        if written.insert(layer.layer.diff_id) {
            write_layer(store, out, &layer.layer.diff_id, layer, now)?;
        }
    }
    let entry = |l: &LayerRef| Descriptor::new(OCI_LAYER, l.layer.diff_id, l.layer.tar_size);
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.into(),
        config: Descriptor::new(media_type, Digest::of(document), document.len() as u64),
        layers: layers.iter().map(entry).collect(),
        annotations: None,
    };
    emit(out, &blob_name(&manifest.config.digest), document, now)?;
    let bytes = json::to_vec(&manifest)?;
    let top = Descriptor::new(OCI_MANIFEST, Digest::of(&bytes), bytes.len() as u64);
    emit(out, &blob_name(&top.digest), &bytes, now)?;
    let index = Index { schema_version: 2, media_type: OCI_INDEX.into(), manifests: vec![top], annotations: None };
    emit(out, "index.json", &json::to_vec(&index)?, now)?;
    emit(out, "oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}", now)?;
    out.write_all(&write::END)?;
    Ok(out.flush()?)
}

fn write_layer(store: &Store, out: &mut dyn Write, diff_id: &Digest, layer: &LayerRef, now: Timestamp) -> Result<()> {
    let entry = file_entry(&blob_name(diff_id), layer.layer.tar_size, now);
    out.write_all(&write::header(&entry))?;
    let mut tar = store.layer_tar(&layer.chain_id)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let n = tar.read(&mut buffer).map_err(stream_error).with_context(|| format!("layer {diff_id}"))?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        size += n as u64;
        out.write_all(&buffer[..n])?;
    }
    let got = hasher.finish();
    if got != *diff_id || size != layer.layer.tar_size {
        return Err(Error::system(format!("layer {diff_id} is not what it was: its tar has digest {got}")));
    }
    Ok(out.write_all(&vec![0; write::padding(size)])?)
}

/// An entry of index.json for each name, or one without.
fn entries(top: &Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    let named = |name: &Reference| {
        let mut notes = BTreeMap::from([(ANNOTATION_CONTAINERD_NAME.to_owned(), name.to_string())]);
        notes.extend(name.tag().map(|tag| (ANNOTATION_REF_NAME.to_owned(), tag.to_owned())));
        Descriptor { annotations: Some(notes), ..top.clone() }
    };
    if names.is_empty() { vec![top.clone()] } else { names.iter().map(named).collect() }
}

fn file_entry(name: &str, size: u64, mtime: Timestamp) -> Entry {
    Entry { name: name.into(), mode: 0o644, size, mtime: Time { secs: mtime.secs(), nanos: 0 }, ..Entry::default() }
}

fn emit(out: &mut dyn Write, name: &str, data: &[u8], mtime: Timestamp) -> Result<()> {
    out.write_all(&write::header(&file_entry(name, data.len() as u64, mtime)))?;
    out.write_all(data)?;
    Ok(out.write_all(&vec![0; write::padding(data.len() as u64)])?)
}

fn emit_dir(out: &mut dyn Write, name: &str, mtime: Timestamp) -> Result<()> {
    let entry = Entry { kind: Kind::Dir, mode: 0o755, ..file_entry(name, 0, mtime) };
    Ok(out.write_all(&write::header(&entry))?)
}
