//! `GET /system/df`: what each kind of object takes on the disk.

use crate::api::image::ImageSummary;
use crate::api::system::DiskUsage;
use crate::api::version::Version;
use crate::engine::{Engine, container, image, volume};
use crate::error::{Error, Result};

const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

/// `kinds` empty: all. Kinds that were not asked for are null.
pub fn disk_usage(engine: &Engine, asked: Version, kinds: &[&str]) -> Result<DiskUsage<ImageSummary>> {
    let kinds = if asked < Version(42) { &[] } else { kinds };
    if let Some(unknown) = kinds.iter().find(|k| !KINDS.contains(k)) {
        return Err(Error::invalid(format!("unknown object type: {unknown}")));
    }
    let wanted = |kind: &str| kinds.is_empty() || kinds.contains(&kind);
    let mut usage = DiskUsage::default();
    if wanted("image") {
        let (size, images) = image::list::disk_usage(engine, asked);
        usage.layers_size = size;
        usage.images = Some(images);
    }
    if wanted("container") {
        usage.containers = Some(container::list::usage(engine)?);
    }
    if wanted("volume") {
        usage.volumes = Some(volume::list::usage(engine));
    }
    if wanted("build-cache") {
        usage.build_cache = Some(engine.builds.cache.usage(engine)?);
    }
    Ok(usage)
}
