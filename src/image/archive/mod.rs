//! Images as tar files: `docker save`'s layout (manifest.json), the OCI layout
//! (index.json), and plain root file systems for `import`. Runs on the request's
//! thread.

pub mod import;
pub mod load;
pub mod save;
mod whole;

use crate::image::digest::Digest;
use serde::{Deserialize, Serialize};

/// One entry of manifest.json.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Item {
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_sources: Option<std::collections::BTreeMap<String, crate::image::manifest::Descriptor>>,
}

/// `blobs/sha256/<hex>`
fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

#[cfg(test)]
mod tests;
