//! What an interrupted pull has so far, kept for the next try: layers that are in
//! place but belong to no image yet, and the beginnings of compressed layers.
//!
//!     image/unfinished/<config>.json   which layers and blobs a pull works on
//!     image/unfinished/<blob>          the first bytes of a compressed layer
//!
//! A pull leaves its ticket behind when it is cut off, cancelled or killed; it
//! takes it away when it succeeds or when a further try is pointless. What no
//! ticket names is removed at start; `image prune` removes what is left of all.
//!
//! Invariants: finished layers are believed only within the boot that wrote them,
//! since they are synced no earlier than their image; the beginning of a blob
//! needs no belief, because the digest of the whole is checked at its end.

use super::digest::Digest;
use super::gc::InUse;
use super::layer::TempFile;
use super::store::Store;
use crate::error::{Context, Result};
use crate::util::atomic_file::{self, Durability};
use crate::util::json;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// After so long nobody will go on with it.
const KEPT: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);

/// One pull's work, by the digest of the image's configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Ticket {
    boot: String,
    /// Chain IDs.
    layers: Vec<Digest>,
    blobs: Vec<Digest>,
}

#[derive(Debug, Default)]
pub(super) struct Unfinished {
    tickets: Mutex<BTreeMap<Digest, Ticket>>,
}

/// The beginning of a blob, locked for one transfer.
#[derive(Debug)]
pub struct Partial {
    pub(super) file: TempFile,
    /// How much of it there is.
    pub length: u64,
}

impl Unfinished {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Ticket>> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chain IDs of layers that a pull may come back for.
    pub fn layers(&self) -> Vec<Digest> {
        self.lock().values().flat_map(|t| t.layers.iter().copied()).collect()
    }

    /// Blobs that a pull may have fetched already.
    pub fn blobs(&self) -> Vec<Digest> {
        self.lock().values().flat_map(|t| t.blobs.iter().copied()).collect()
    }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn directory(root: &Path) -> PathBuf {
    root.join("unfinished")
}

impl Store {
    fn ticket_path(&self, image: &Digest) -> PathBuf {
        directory(&self.root).join(format!("{}.json", image.hex()))
    }

    /// A pull of the image (by its configuration's digest) begins: its layers and
    /// blobs are not rubbish from now on.
    pub fn begin_pull(&self, image: &Digest, layers: &[Digest], blobs: Vec<Digest>) -> Result<()> {
        let ticket = Ticket { boot: boot(), layers: layers.to_vec(), blobs };
        let path = self.ticket_path(image);
        atomic_file::write(&path, &json::to_vec(&ticket)?, Durability::Renamed).context("note a pull")?;
        self.unfinished.lock().insert(*image, ticket);
        Ok(())
    }

    /// The image is there, or will not be: nothing is kept for another try.
    pub fn end_pull(&self, image: &Digest) {
        let ticket = {
            let mut tickets = self.unfinished.lock();
            let Some(mut ticket) = tickets.remove(image) else { return };
            let wanted: HashSet<Digest> = tickets.values().flat_map(|t| t.blobs.iter().copied()).collect();
            ticket.blobs.retain(|b| !wanted.contains(b));
            ticket
        };
        // What another pull of the image still writes is its business, under the ticket.
        let busy: Vec<Digest> = ticket.blobs.iter().copied().filter(|b| self.remove_partial(b).is_none()).collect();
        if busy.is_empty() || self.begin_pull(image, &[], busy).is_err() {
            let _ = fs::remove_file(self.ticket_path(image));
        }
        self.sweep(ticket.blobs);
    }

    /// The beginning of a blob, possibly empty, to go on with. None if somebody is
    /// at it, or if compressed layers are not kept at all.
    pub fn partial(&self, blob: &Digest, size: u64) -> Option<Partial> {
        if !self.options.keep_blobs {
            return None;
        }
        let path = directory(&self.root).join(blob.hex());
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).ok()?;
        file.try_lock().ok()?;
        let found = file.metadata().ok()?;
        // Removed between the opening and the lock.
        if found.nlink() == 0 {
            return None;
        }
        let mut length = found.len();
        if length > size {
            file.set_len(0).ok()?;
            length = 0;
        }
        Some(Partial { file: TempFile { path, file, resumable: true }, length })
    }

    /// Removes the beginning of a blob; its size. None if it is being written.
    fn remove_partial(&self, blob: &Digest) -> Option<u64> {
        let path = directory(&self.root).join(blob.hex());
        let Ok(file) = File::open(&path) else { return Some(0) };
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return None;
        }
        let size = file.metadata().map_or(0, |m| m.len());
        let _ = fs::remove_file(path);
        Some(size)
    }

    /// Nobody will go on with any of it, pulls under way left out. Layers become
    /// rubbish for [`Store::collect`]; the bytes of blobs are given back.
    pub fn give_up_unfinished(&self) -> u64 {
        let mut freed = 0;
        let before = self.unfinished.blobs();
        self.unfinished.lock().retain(|image, ticket| {
            let mut busy = false;
            for blob in &ticket.blobs {
                match self.remove_partial(blob) {
                    Some(size) => freed += size,
                    None => busy = true,
                }
            }
            if !busy {
                let _ = fs::remove_file(self.ticket_path(image));
            }
            busy
        });
        self.sweep(before);
        freed
    }

    /// The disk is full: what only waits for another try goes.
    pub fn make_room(&self, in_use: InUse<'_>) -> Result<()> {
        self.give_up_unfinished();
        self.collect(in_use).map(drop)
    }

    /// At start: reads the tickets, and removes what none of them names.
    pub(super) fn load_unfinished(&self) -> Result<()> {
        let dir = directory(&self.root);
        fs::create_dir_all(&dir).with_context(|| format!("mkdir {}", dir.display()))?;
        let boot = boot();
        let mut tickets = BTreeMap::new();
        let mut blobs = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            if let Some(blob) = Digest::from_hex(name) {
                blobs.push(blob);
                continue;
            }
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            let ticket = fs::read(entry.path()).ok().and_then(|data| json::from_slice::<Ticket>(&data).ok());
            let image = name.strip_suffix(".json").and_then(Digest::from_hex);
            match (image, ticket) {
                (Some(image), Some(mut ticket)) if age.is_none_or(|age| age < KEPT) => {
                    if ticket.boot != boot {
                        ticket.layers.clear();
                    }
                    tickets.insert(image, ticket);
                }
                _ => drop(fs::remove_file(entry.path())),
            }
        }
        let wanted: HashSet<Digest> = tickets.values().flat_map(|t| t.blobs.iter().copied()).collect();
        for blob in blobs.iter().filter(|b| !wanted.contains(b)) {
            self.remove_partial(blob);
        }
        *self.unfinished.lock() = tickets;
        Ok(())
    }
}
