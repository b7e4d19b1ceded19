//! What an image is made of, platform by platform: for `images --tree` and
//! `image inspect` with manifests.

use crate::api::image::{
    AttestationData, ImageData, ManifestDescriptor, ManifestSize, ManifestSummary, Platform, UnpackedSize,
};
use crate::engine::Engine;
use crate::image::digest::Digest;
use crate::image::manifest::{self, Descriptor, Index, Manifest, OCI_MANIFEST};
use crate::image::store::Image;
use crate::util::json;

/// Which manifest an attestation speaks of.
const ATTESTED: &str = "vnd.docker.reference.digest";

/// Every entry of the image's index, here or not; without one the manifest that
/// it came with, or that it would be saved under.
pub fn manifests(engine: &Engine, image: &Image) -> Vec<ManifestSummary> {
    let read = |d: &Descriptor| engine.images.read_blob(&d.digest).ok();
    let index = image.manifests.iter().find(|d| manifest::is_index(&d.media_type)).and_then(read);
    let index: Option<Index> = index.and_then(|bytes| json::from_slice(&bytes).ok());
    let mut out: Vec<ManifestSummary> =
        index.iter().flat_map(|index| &index.manifests).map(|entry| of_entry(engine, image, entry)).collect();
    let own = image.manifests.iter().filter(|d| manifest::is_manifest(&d.media_type));
    for descriptor in own {
        if !out.iter().any(|m| m.id == descriptor.digest.to_string()) {
            out.push(of_entry(engine, image, descriptor));
        }
    }
    if out.is_empty() {
        let size = image.config.raw.len() as u64;
        out.push(line(&Descriptor::new(OCI_MANIFEST, image.digest(), size), Some(size), Some(data(engine, image))));
    }
    out
}

fn of_entry(engine: &Engine, image: &Image, entry: &Descriptor) -> ManifestSummary {
    if image.manifests.iter().any(|m| m.digest == entry.digest) {
        let parsed = engine.images.read_blob(&entry.digest).ok();
        let parsed = parsed.and_then(|bytes| json::from_slice::<Manifest>(&bytes).ok());
        let content = parsed.map_or(0, |m| m.config.size + m.layers.iter().map(|l| l.size).sum::<u64>());
        return line(entry, Some(content), Some(data(engine, image)));
    }
    let packed = image.packed.iter().find(|p| p.entry.digest == entry.digest);
    let platform = entry.platform.clone().unwrap_or_default();
    let mut data = ImageData { platform: wire(&platform), ..ImageData::default() };
    if let Some(packed) = packed {
        data.containers = users(engine, &packed.config.digest);
        if let Some(unpacked) = engine.images.get(&packed.config.digest) {
            data.size.unpacked = i64::try_from(unpacked.size).unwrap_or(i64::MAX);
        }
    }
    line(entry, packed.map(|p| p.content()), Some(data))
}

fn wire(p: &manifest::Platform) -> Platform {
    Platform {
        architecture: p.architecture.clone(),
        os: p.os.clone(),
        os_version: p.os_version.clone(),
        variant: p.variant.clone(),
    }
}

fn users(engine: &Engine, image: &Digest) -> Vec<String> {
    let id = image.to_string();
    engine.containers.all().iter().filter(|c| c.record().image_id == id).map(|c| c.id.clone()).collect()
}

fn data(engine: &Engine, image: &Image) -> ImageData {
    let platform = Platform { os_version: image.config.os_version.clone(), ..wire(&image.platform()) };
    let size = UnpackedSize { unpacked: i64::try_from(image.size).unwrap_or(i64::MAX) };
    ImageData { platform, containers: users(engine, &image.digest()), size }
}

/// `content` is none of what is not here.
fn line(entry: &Descriptor, content: Option<u64>, data: Option<ImageData>) -> ManifestSummary {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let size = number(content.unwrap_or(0));
    let attests = entry.is_attestation();
    let of = entry.annotation(ATTESTED).unwrap_or_default().to_owned();
    ManifestSummary {
        id: entry.digest.to_string(),
        descriptor: ManifestDescriptor {
            media_type: entry.media_type.clone(),
            digest: entry.digest.to_string(),
            size: number(entry.size),
        },
        available: content.is_some(),
        size: ManifestSize { content: size, total: size + data.as_ref().map_or(0, |d| d.size.unpacked) },
        kind: if attests { "attestation" } else { "image" }.into(),
        attestation_data: attests.then_some(AttestationData { of }),
        image_data: data.filter(|_| !attests),
    }
}
