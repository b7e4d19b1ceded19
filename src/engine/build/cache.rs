//! The build cache: which layer a step gave when it was last carried out on the
//! same tree with the same inputs. One per daemon, any thread; the lock is held
//! for small records only.
//!
//!     build-cache/steps/<key>.json   a step's layer
//!     build-cache/times/<key>        when an image of this content was first made
//!     build-cache/mounts/<name>      folders of `--mount=type=cache`
//!
//! Invariant: a record names a layer that was committed before it, and
//! [`Cache::layers`] keeps the layers of all records from being collected. A
//! record whose layer is missing all the same counts as none.

use crate::engine::Engine;
use crate::engine::image::layers_in_use;
use crate::error::{Context, Error, Result};
use crate::image::digest::Digest;
use crate::image::store::LayerRef;
use crate::util::atomic_file::{self, Durability};
use crate::util::time::{now, rfc3339_nano};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    /// Hex, as storage names layers.
    chain_id: String,
    description: String,
    created: String,
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

/// What `docker builder prune` reports.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pruned {
    pub caches_deleted: Vec<String>,
    pub space_reclaimed: u64,
}

impl Cache {
    pub fn open(root: PathBuf) -> Result<Self> {
        for dir in ["steps", "times", "mounts"] {
            let path = root.join(dir);
            fs::create_dir_all(&path).with_context(|| format!("mkdir {}", path.display()))?;
        }
        let mut steps = BTreeMap::new();
        for entry in fs::read_dir(root.join("steps"))? {
            let path = entry?.path();
            let key = path.file_stem().and_then(|n| n.to_str()).filter(|k| Digest::from_hex(k).is_some());
            let record = fs::read(&path).ok().and_then(|data| serde_json::from_slice(&data).ok());
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
        let chain = Digest::from_hex(&self.lock().get(&key.hex())?.chain_id)?;
        engine.images.layer(&chain)
    }

    pub fn remember(&self, key: &Digest, chain: &Digest, description: &str) -> Result<()> {
        let record =
            Record { chain_id: chain.hex(), description: description.to_owned(), created: rfc3339_nano(now()) };
        let path = self.root.join("steps").join(format!("{}.json", key.hex()));
        let data = serde_json::to_vec(&record)?;
        let mut steps = self.lock();
        atomic_file::write(&path, &data, Durability::Renamed).context("write a record of the build cache")?;
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

    /// A folder for `--mount=type=cache`. `alone`: nobody else has it meanwhile;
    /// with `wait` that is waited for, else another folder is taken.
    pub fn mount(&self, id: &str, alone: bool, wait: bool, cancelled: &dyn Fn() -> bool) -> Result<CacheMount<'_>> {
        let base = key(&["mount", id]).hex();
        let mut used = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut name = base.clone();
        let mut n = 0;
        while alone && used.contains_key(&name) {
            if wait {
                // Cancelled builds free their mounts as they end; the time-out is for our own end.
                let patience = std::time::Duration::from_millis(200);
                used = self.free.wait_timeout(used, patience).unwrap_or_else(PoisonError::into_inner).0;
                if cancelled() {
                    return Err(Error::cancelled());
                }
            } else {
                n += 1;
                name = format!("{base}-{n}");
            }
        }
        *used.entry(name.clone()).or_default() += 1;
        drop(used);
        let mount = CacheMount { cache: self, path: self.root.join("mounts").join(&name), name };
        Ok(mount)
    }

    /// Removes records (`all`, or those whose layer nothing else stands on) and
    /// the cache mounts that nobody has now.
    pub fn prune(&self, engine: &Engine, all: bool) -> Result<Pruned> {
        let needed: HashSet<String> = engine.images.list().iter().flat_map(|i| i.chain_ids.clone()).collect();
        let mut report = Pruned::default();
        {
            let mut steps = self.lock();
            let doomed: Vec<String> =
                steps.iter().filter(|(_, r)| all || !needed.contains(&r.chain_id)).map(|(k, _)| k.clone()).collect();
            for key in doomed {
                fs::remove_file(self.root.join("steps").join(format!("{key}.json")))
                    .context("remove a record of the build cache")?;
                steps.remove(&key);
                report.caches_deleted.push(key);
            }
        }
        let before: u64 = engine.images.layer_sizes().values().sum();
        engine.images.collect(&|| layers_in_use(engine))?;
        let after: u64 = engine.images.layer_sizes().values().sum();
        report.space_reclaimed = before.saturating_sub(after);
        let used = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in fs::read_dir(self.root.join("mounts"))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !used.contains_key(&name) {
                report.space_reclaimed += weight(&entry.path());
                fs::remove_dir_all(entry.path()).context("remove a cache mount")?;
                report.caches_deleted.push(name);
            }
        }
        Ok(report)
    }
}

/// Bytes of all files below a folder.
fn weight(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => weight(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// Held while a step has the folder.
pub struct CacheMount<'a> {
    cache: &'a Cache,
    name: String,
    pub path: PathBuf,
}

impl Drop for CacheMount<'_> {
    fn drop(&mut self) {
        let mut used = self.cache.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = used.get_mut(&self.name) {
            *n -= 1;
            if *n == 0 {
                used.remove(&self.name);
            }
        }
        self.cache.free.notify_all();
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
