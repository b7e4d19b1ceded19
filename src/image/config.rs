//! The image configuration document (OCI image config, Docker's image JSON):
//! read from raw bytes, which are kept, because their digest is the image's id.
//! Pure, any thread.
//!
//! Invariant: what we did not write is never written again from the typed form;
//! `raw` is the truth, the fields are a view. Fields that we do not know survive
//! in `raw`. New documents are made by [`ImageConfig::encode`].

use super::digest::Digest;
use super::manifest::Platform;
use crate::error::{Error, Result};
use crate::util::json;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Go's empty struct as a map value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// The document. Keys come out sorted, as dockerd writes them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    pub architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub author: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// What a container of the image runs with.
    #[serde(rename = "config")]
    pub run: RunConfig,
    /// RFC 3339, as written; none in images that say nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    pub os: String,
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    pub rootfs: RootFs,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// The document's own bytes; `sha256` of them is the image id.
    #[serde(skip)]
    pub raw: Vec<u8>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RunConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Empty>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Windows only; carried along.
    #[serde(skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Seconds to wait after the stop signal; only docker-commit'ed images have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
}

/// Durations are nanoseconds; 0 inherits the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Healthcheck {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// One step of how the image came to be, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub author: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// The step has no layer.
    #[serde(skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    #[serde(rename = "type")]
    pub kind: String,
    /// Bottom first.
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

impl ImageConfig {
    /// Reads a document and keeps its bytes.
    pub fn parse(raw: Vec<u8>) -> Result<Self> {
        let mut config: ImageConfig =
            json::from_stranger(&raw).map_err(|e| Error::invalid(format!("invalid image configuration: {e}")))?;
        // `null` would be a document without fields.
        if raw.trim_ascii_start().first() != Some(&b'{') {
            return Err(Error::invalid("invalid image configuration: not an object"));
        }
        if config.rootfs.kind != "layers" {
            return Err(Error::invalid(format!("unsupported rootfs type {:?}", config.rootfs.kind)));
        }
        let layers = config.history.iter().filter(|h| !h.empty_layer).count();
        if layers > config.rootfs.diff_ids.len() {
            return Err(Error::invalid(format!(
                "invalid number of layers in history and rootfs: {layers} and {}",
                config.rootfs.diff_ids.len()
            )));
        }
        config.raw = raw;
        Ok(config)
    }

    /// Writes the typed form as a new document and makes it the raw one.
    pub fn encode(&mut self) -> Result<Digest> {
        self.raw = json::to_vec(self)?;
        Ok(self.id())
    }

    /// The image id: the digest of the document.
    pub fn id(&self) -> Digest {
        Digest::of(&self.raw)
    }
    pub fn diff_ids(&self) -> &[Digest] {
        &self.rootfs.diff_ids
    }
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone(),
            ..Platform::default()
        }
    }
}

fn is_false(b: &bool) -> bool {
    !*b
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_nulls_and_keeps_the_bytes() {
        let raw = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"Labels":null,
            "Volumes":{"/v":{}},"Healthcheck":{"Test":["CMD","true"],"Interval":5},"Unknown":1},
            "rootfs":{"type":"layers","diff_ids":null},"history":null,"x":[]}"#;
        let config = ImageConfig::parse(raw.to_vec()).unwrap();
        assert_eq!(config.run.cmd, Some(vec!["sh".into()]));
        assert_eq!(config.run.env, None);
        assert!(config.run.volumes.unwrap().contains_key("/v"));
        assert_eq!(config.raw, raw);
        assert_eq!(config.raw.len(), raw.len());
        assert_eq!(ImageConfig::parse(b"{}".to_vec()).unwrap().rootfs.kind, "layers");
        assert!(ImageConfig::parse(b"[]".to_vec()).is_err());
        assert!(ImageConfig::parse(br#"{"rootfs":{"type":"other"}}"#.to_vec()).is_err());
    }

    #[test]
    fn encodes_sorted() {
        let mut config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..Default::default() };
        let id = config.encode().unwrap();
        assert_eq!(
            std::str::from_utf8(&config.raw).unwrap(),
            r#"{"architecture":"amd64","config":{},"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#
        );
        assert_eq!(ImageConfig::parse(config.raw.clone()).unwrap().id(), id);
    }
}
