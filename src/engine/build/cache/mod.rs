//! The build cache: which layer a step gave when it was last carried out on the
//! same tree with the same inputs. One per daemon, any thread; the lock is held
//! for small records only.
//!
//!     build-cache/steps/<key>.json   a step's layer
//!     build-cache/times/<key>        when an image of this content was first made
//!     build-cache/mounts/<name>      folders of `--mount=type=cache`, a record beside each
//!
//! Invariant: a record names a layer that was committed before it, and
//! [`Cache::layers`] keeps the layers of all records from being collected. A
//! record whose layer is missing all the same counts as none.

pub mod mounts;
pub mod prune;
pub mod spread;

use crate::engine::Engine;
use crate::error::{Context, Result};
use crate::image::digest::Digest;
use crate::image::store::LayerRef;
use crate::util::atomic_file::{self, Durability};
use crate::util::json;
use crate::util::time::{Timestamp, now, parse_rfc3339, rfc3339_nano};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A use this soon after the one on disk is not written down.
const FORGETFUL: i128 = 60_000_000_000;

/// What is known of a step or of a cache mount.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    /// Hex, as storage names layers; empty of a cache mount.
    chain_id: String,
    description: String,
    created: String,
    last_used: String,
    uses: i64,
}

impl Record {
    fn new(chain_id: String, description: &str) -> Self {
        let time = rfc3339_nano(now());
        Self { chain_id, description: description.to_owned(), created: time.clone(), last_used: time, uses: 1 }
    }

    fn last(&self) -> Timestamp {
        parse_rfc3339(&self.last_used).or_else(|| parse_rfc3339(&self.created)).unwrap_or(Timestamp(0))
    }

    /// True if it should be written down.
    fn used(&mut self) -> bool {
        self.uses += 1;
        let (before, time) = (self.last(), now());
        let late = time.0 - before.0 > FORGETFUL;
        self.last_used = rfc3339_nano(time);
        late
    }

    fn write(&self, path: &Path) -> Result<()> {
        let data = json::to_vec(self)?;
        atomic_file::write(path, &data, Durability::Renamed).context("write a record of the build cache")
    }
}

#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    steps: Mutex<BTreeMap<String, Record>>,
    /// Cache mounts that a step has now, with how many use them.
    mounts: Mutex<BTreeMap<String, usize>>,
    free: Condvar,
}

/// A digest of parts that cannot run into each other.
pub fn key(parts: &[&str]) -> Digest {
    let mut text = String::new();
    for part in parts {
        text.push_str(&format!("{}:", part.len()));
        text.push_str(part);
    }
    Digest::of(text.as_bytes())
}

impl Cache {
    pub fn open(root: PathBuf) -> Result<Self> {
        for dir in ["steps", "times", "mounts"] {
            let path = root.join(dir);
            fs::create_dir_all(&path).with_context(|| format!("mkdir {}", path.display()))?;
            atomic_file::clear_unfinished(&path);
        }
        let mut steps = BTreeMap::new();
        for entry in fs::read_dir(root.join("steps"))? {
            let path = entry?.path();
            let key = path.file_stem().and_then(|n| n.to_str()).filter(|k| Digest::from_hex(k).is_some());
            let record = fs::read(&path).ok().and_then(|data| json::from_slice(&data).ok());
            match (key, record) {
                (Some(key), Some(record)) => drop(steps.insert(key.to_owned(), record)),
                // Cut short, or no file of ours.
                _ => drop(fs::remove_file(&path)),
            }
        }
        Ok(Self { root, steps: Mutex::new(steps), mounts: Mutex::default(), free: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chain IDs that must stay.
    pub fn layers(&self) -> HashSet<String> {
        self.lock().values().map(|r| r.chain_id.clone()).collect()
    }

    /// The layer of an earlier run, pinned.
    pub fn find(&self, engine: &Engine, key: &Digest) -> Option<LayerRef> {
        let mut steps = self.lock();
        let record = steps.get_mut(&key.hex())?;
        let layer = engine.images.layer(&Digest::from_hex(&record.chain_id)?)?;
        if record.used() {
            // A use that is not written down only makes the record look older.
            let _ = record.write(&self.step_path(key));
        }
        Some(layer)
    }

    fn step_path(&self, key: &Digest) -> PathBuf {
        self.root.join("steps").join(format!("{}.json", key.hex()))
    }

    pub fn remember(&self, key: &Digest, chain: &Digest, description: &str) -> Result<()> {
        let record = Record::new(chain.hex(), description);
        let mut steps = self.lock();
        record.write(&self.step_path(key))?;
        steps.insert(key.hex(), record);
        Ok(())
    }

    /// When an image of this content was first made: now, if it never was. The
    /// same content so has the same id each time it is built.
    pub fn first_made(&self, key: &Digest) -> Result<String> {
        let path = self.root.join("times").join(key.hex());
        match fs::read_to_string(&path) {
            Ok(text) if crate::util::time::parse_rfc3339(&text).is_some() => Ok(text),
            _ => {
                let text = rfc3339_nano(now());
                atomic_file::write(&path, text.as_bytes(), Durability::Renamed)
                    .context("write a record of the build cache")?;
                Ok(text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_parts() {
        assert_ne!(key(&["x", "yz"]), key(&["xy", "z"]));
        assert_eq!(key(&["x", "yz"]), key(&["x", "yz"]));
    }
}
