//! Records on disk: written beside the old one, synced, renamed over it. Any
//! thread of the daemon or a shim.
//!
//! Invariant: a reader finds the whole old or the whole new content, also after
//! `kill -9` or a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How sure the caller must be before going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The data and the name are on the disk when this returns.
    Synced,
    /// Whole or absent after a crash of ours; a power cut may bring back the old
    /// record. For the start path, where an fsync costs more than the start.
    Renamed,
}

/// Replaces `path` with `data`, mode 0600.
pub fn write(path: &Path, data: &[u8], durability: Durability) -> io::Result<()> {
    let temporary = sibling(path);
    let result = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(data)?;
        if durability == Durability::Synced {
            file.sync_data()?;
        }
        fs::rename(&temporary, path)?;
        if durability == Durability::Synced {
            sync_parent(path)?;
        }
        Ok(())
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Removes what a killed process was about to write into `dir`.
pub fn clear_unfinished(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Makes a rename or creation in the parent directory durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn sibling(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.{n}.tmp", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_no_litter() {
        let dir = std::env::temp_dir().join(format!("coracle-atomic-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("record.json");
        write(&path, b"one", Durability::Synced).unwrap();
        write(&path, b"two", Durability::Renamed).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }
}
