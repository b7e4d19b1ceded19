//! `config.json` of the user's docker folder, read only when a command needs it.
//!
//! Invariant: what we do not know stays in the file as it was when it is written back.

use crate::error::{Context as _, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Default)]
pub struct Config {
    pub path: PathBuf,
    /// The whole file.
    pub fields: Map<String, Value>,
}

impl Config {
    /// A missing or empty file is an empty configuration.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let fields = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(e) => return Err(e).context(format!("open {}", path.display())),
            Ok(bytes) if bytes.trim_ascii().is_empty() => Map::new(),
            Ok(bytes) => serde_json::from_slice(&bytes).context(path.display())?,
        };
        Ok(Self { path, fields })
    }

    /// A string field, absent when empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key)?.as_str().filter(|s| !s.is_empty())
    }

    /// A field of strings, as `HttpHeaders`.
    pub fn strings(&self, key: &str) -> Vec<(String, String)> {
        let Some(Value::Object(map)) = self.fields.get(key) else { return Vec::new() };
        map.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
    }
}
