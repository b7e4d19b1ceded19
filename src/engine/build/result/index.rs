//! A build for several platforms: each is built by itself, and what comes out is
//! one index. In the store it is an image that is kept whole
//! ([`crate::image::platforms`]), so that it is pushed and saved under its own
//! digest. Runs on the build's thread.

use super::finish::{configuration, image_of, stored_names};
use super::output;
use crate::engine::build::execute::Build;
use crate::engine::build::steps::base::Made;
use crate::engine::image::{image_event, names};
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{
    DOCKER_LAYER_GZIP, Descriptor, Index, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST,
};
use crate::image::platforms::Packed;
use crate::image::store::{Image, LayerRef, NewImage};
use crate::util::json;
use std::collections::BTreeMap;
use std::sync::Arc;

pub fn finish(builds: &[Build<'_>], made: &[Arc<Made>]) -> Result<()> {
    let Some(first) = builds.first() else { return Ok(()) };
    let options = &first.request.options;
    let (mut images, mut held) = (Vec::new(), Vec::new());
    for (build, made) in builds.iter().zip(made) {
        build.abort.check()?;
        let (config, squashed) = configuration(build, made)?;
        held.extend(squashed);
        images.push(Arc::new(image_of(made, config)));
    }
    let mut metadata = serde_json::json!({});
    let names = stored_names(options)?;
    if !names.is_empty() {
        metadata["image.name"] = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",").into();
    }
    let mut whole = None;
    if output::is_stored(options) {
        let (image, index) = keep(first, &images)?;
        metadata["containerimage.digest"] = index.to_string().into();
        for reference in &names {
            names::give(first.engine, &image, reference)?;
        }
        whole = Some(image);
    }
    first.deliver(made, &images, &mut metadata)?;
    first.export_caches(made)?;
    first.report.metadata(&metadata);
    if let Some(image) = whole {
        first.tell_result(&image.id, &names);
    }
    Ok(())
}

/// Everything that one platform's manifest names.
struct Part {
    packed: Packed,
    manifest: Vec<u8>,
    /// So that no layer goes, and its blob with it, before the image is there.
    _held: Vec<LayerRef>,
}

/// The index with every platform's blobs, as one image.
fn keep(build: &Build<'_>, images: &[Arc<Image>]) -> Result<(Arc<Image>, Digest)> {
    let store = &build.engine.images;
    let parts = images.iter().map(|image| part(build, image)).collect::<Result<Vec<_>>>()?;
    let index = Index {
        schema_version: 2,
        media_type: OCI_INDEX.into(),
        manifests: parts.iter().map(|p| p.packed.entry.clone()).collect(),
        annotations: notes(output::annotations_of_index(&build.request.options)),
    };
    let bytes = json::to_vec(&index)?;
    let top = Digest::of(&bytes);
    let main = index.main().map(|m| m.digest);
    let at = parts.iter().position(|p| Some(p.packed.entry.digest) == main).unwrap_or(0);
    let blobs = parts.iter().flat_map(|p| p.packed.blobs().chain([&p.packed.entry]).map(|b| b.digest));
    store.begin_pull(&top, &[], blobs.collect())?;
    for (part, image) in parts.iter().zip(images) {
        store.put_blob(&part.packed.config.digest, &image.config.raw)?;
        store.put_blob(&part.packed.entry.digest, &part.manifest)?;
    }
    let known = store.get(&images[at].digest()).is_some();
    let image = store.put(NewImage {
        config: images[at].config.raw.clone(),
        manifests: vec![(OCI_INDEX.into(), bytes), (OCI_MANIFEST.into(), parts[at].manifest.clone())],
        packed: parts.into_iter().map(|p| p.packed).collect(),
        ..NewImage::default()
    })?;
    store.end_pull(&top);
    if !known {
        image_event(build.engine, &image, "create", &image.id);
    }
    Ok((image, top))
}

fn notes(all: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!all.is_empty()).then_some(all)
}

fn part(build: &Build<'_>, image: &Image) -> Result<Part> {
    let store = &build.engine.images;
    let (mut layers, mut held) = (Vec::new(), Vec::new());
    for chain in crate::image::digest::chain_ids(&image.diff_ids) {
        let layer = store.layer(&chain).ok_or_else(|| Error::system(format!("layer {chain} does not exist")))?;
        let mut blob = store.pack(&layer, &|| build.abort.cancel.fired())?;
        // Named as the manifest around it is; the bytes are the same.
        if blob.media_type == DOCKER_LAYER_GZIP {
            blob.media_type = OCI_LAYER_GZIP.into();
        }
        layers.push(blob);
        held.push(layer);
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.into(),
        config: Descriptor::new(OCI_CONFIG, image.digest(), image.config.raw.len() as u64),
        layers,
        annotations: notes(output::annotations_of_manifests(&build.request.options)),
    };
    let bytes = json::to_vec(&manifest)?;
    let mut entry = Descriptor::new(OCI_MANIFEST, Digest::of(&bytes), bytes.len() as u64);
    entry.platform = Some(image.platform());
    Ok(Part { packed: Packed::new(&entry, &manifest), manifest: bytes, _held: held })
}
