//! Docker's verbs on images. Runs in dockerd.

pub mod archive;
pub mod changes;
pub mod distribution;
pub mod inspect;
pub mod list;
pub mod login;
mod manifests;
pub mod names;
pub mod progress;
pub mod pull;
pub mod push;
mod remote;
pub mod remove;
pub mod search;
mod whole;

use super::{Engine, EngineConfig};
use crate::engine::events::Kind;
use crate::error::{Context, Result};
use crate::image::store::{Image, Options, Store};
use crate::storage::{Driver, probe};
use std::collections::HashSet;
use std::sync::Arc;

/// Opens the store below the data root.
pub fn open_store(config: &EngineConfig, driver: Arc<dyn Driver>) -> Result<Store> {
    let ids = probe::ids();
    let options = Options { keep_blobs: config.keep_blobs, single_id: ids.single, devices: ids.initial };
    Store::open(&config.data_root.join("image"), driver, options).context("open the image store")
}

/// Chain IDs that containers and cached build steps stand on, whether their image
/// is still there or not.
pub fn layers_in_use(engine: &Engine) -> HashSet<String> {
    let mut used = engine.builds.cache.layers();
    used.extend(engine.containers.all().iter().flat_map(|c| c.record().layers.clone()));
    used
}

/// Says what happened to an image: its labels, and `name`.
pub fn image_event(engine: &Engine, image: &Image, action: &str, name: &str) {
    let mut attributes = image.config.run.labels.clone().unwrap_or_default();
    attributes.insert("name".to_owned(), name.to_owned());
    engine.events.publish(Kind::Image, action, image.id.clone(), attributes);
}
