//! What a container takes from its image: the one place where containers see
//! the image store.

use crate::api::container::ContainerConfig;
use crate::engine::Engine;
use crate::error::{Error, Result};

#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// `sha256:…`
    pub id: String,
    /// Chain IDs, bottom first.
    pub layers: Vec<String>,
    pub config: ContainerConfig,
    pub os: String,
    /// Bytes of all layers.
    pub size: u64,
}

/// Looks an image up by any reference; 404 is what makes the client pull.
pub fn facts(_engine: &Engine, reference: &str) -> Result<Facts> {
    Err(Error::no_such_image(reference))
}

/// Bytes of all layers of an image, 0 if it is gone.
pub fn size(engine: &Engine, id: &str) -> u64 {
    facts(engine, id).map(|f| f.size).unwrap_or_default()
}

/// Ids of the images that the references name and of all that are built on them.
/// A reference that names nothing stands for itself.
pub fn descendants(engine: &Engine, references: &[String]) -> std::collections::BTreeSet<String> {
    references.iter().map(|r| facts(engine, r).map_or_else(|_| r.clone(), |f| f.id)).collect()
}

/// Whether `name` still means the image `id`.
pub fn still_names(engine: &Engine, name: &str, id: &str) -> bool {
    facts(engine, name).map_or(true, |f| f.id == id)
}
