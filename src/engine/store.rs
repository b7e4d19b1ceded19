//! Records on disk for containers, volumes and whatever else an owner keeps:
//! one JSON file per object, written whole and renamed. Any thread of dockerd,
//! plus one background thread that makes renamed records durable.
//!
//! Invariant: a record that cannot be read is reported and set aside, never a
//! crash and never deleted.

use crate::error::{Context, Result};
use crate::util::atomic_file::{self, Durability};
use crate::util::json;
use crate::util::thread;
use crate::warn;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Paths that wait for their fsync. More than that many are synced by the caller.
const QUEUE: usize = 1024;
/// Records of one burst are synced together: a `docker run --rm` writes its
/// record three times within milliseconds and then removes it.
const SETTLE: Duration = Duration::from_millis(200);

/// Writes records; the start path goes on after the rename, the disk follows.
#[derive(Debug)]
pub struct Records {
    queue: SyncSender<PathBuf>,
    idle: Arc<(Mutex<usize>, Condvar)>,
}

impl Records {
    /// Starts the syncing thread. Call only after the process has forked its helpers.
    pub fn new() -> Result<Self> {
        let (queue, receiver) = mpsc::sync_channel(QUEUE);
        let idle = Arc::new((Mutex::new(0), Condvar::new()));
        let done = idle.clone();
        thread::start("record-sync", 64 << 10, move || sync_all(&receiver, &done))
            .context("start the record syncing thread")?;
        Ok(Self { queue, idle })
    }

    /// Replaces the record at `path`; durable soon after if only `Renamed`.
    pub fn save<T: Serialize>(&self, path: &Path, record: &T, durability: Durability) -> Result<()> {
        let bytes = json::to_vec(record).with_context(|| format!("encode {}", path.display()))?;
        atomic_file::write(path, &bytes, durability).with_context(|| format!("write {}", path.display()))?;
        if durability == Durability::Renamed {
            *self.idle.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            if self.queue.try_send(path.to_owned()).is_err() {
                *self.idle.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
                make_durable(path);
            }
        }
        Ok(())
    }

    /// Waits until everything saved so far is durable (shutdown).
    pub fn flush(&self) {
        let mut pending = self.idle.0.lock().unwrap_or_else(PoisonError::into_inner);
        while *pending > 0 {
            pending = self.idle.1.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn sync_all(receiver: &Receiver<PathBuf>, done: &(Mutex<usize>, Condvar)) {
    while let Ok(first) = receiver.recv() {
        std::thread::sleep(SETTLE);
        let mut count = 1;
        let mut paths = BTreeSet::from([first]);
        while let Ok(path) = receiver.try_recv() {
            count += 1;
            paths.insert(path);
        }
        for path in &paths {
            make_durable(path);
        }
        let mut pending = done.0.lock().unwrap_or_else(PoisonError::into_inner);
        *pending = pending.saturating_sub(count);
        done.1.notify_all();
    }
}

/// A record that is gone by now needs no fsync; other trouble is worth a line.
fn make_durable(path: &Path) {
    let result = File::open(path).and_then(|f| f.sync_data()).and_then(|()| atomic_file::sync_parent(path));
    if let Err(e) = result
        && e.kind() != std::io::ErrorKind::NotFound
    {
        warn!("cannot sync a record", "path" = path.display(), "error" = e);
    }
}

/// Reads `<dir>/<entry>/<file>` for every entry. What cannot be read or parsed
/// is renamed to `<file>.unreadable` and reported.
pub fn load_all<T: DeserializeOwned>(dir: &Path, file: &str) -> Result<Vec<(PathBuf, T)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("read {}", dir.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let home = entry.with_context(|| format!("read {}", dir.display()))?.path();
        let path = home.join(file);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => continue,
            Err(e) => {
                warn!("cannot read a record", "path" = path.display(), "error" = e);
                continue;
            }
        };
        match json::from_slice(&bytes) {
            Ok(record) => found.push((home, record)),
            Err(e) => {
                warn!("a record is unreadable and set aside", "path" = path.display(), "error" = e);
                let _ = fs::rename(&path, path.with_extension("unreadable"));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn records_come_back_and_bad_ones_are_set_aside() {
        let dir = std::env::temp_dir().join(format!("coracle-store-{}", std::process::id()));
        fs::create_dir_all(dir.join("good")).unwrap();
        fs::create_dir_all(dir.join("bad")).unwrap();
        fs::create_dir_all(dir.join("empty")).unwrap();
        let records = Records::new().unwrap();
        records.save(&dir.join("good/config.json"), &BTreeMap::from([("a", 1)]), Durability::Renamed).unwrap();
        records.flush();
        fs::write(dir.join("bad/config.json"), b"{\"a\":").unwrap();
        let found: Vec<(PathBuf, BTreeMap<String, i32>)> = load_all(&dir, "config.json").unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1["a"], 1);
        assert!(dir.join("bad/config.unreadable").exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
