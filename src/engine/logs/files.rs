//! Which files a container's log consists of, and opening them so that a
//! rotation in the middle loses and repeats nothing.

use super::Format;
use crate::engine::container::record::Record;
use crate::error::{Context, Error, Result};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Docker's own bound for `max-file` is none; nobody keeps more.
const MAX_FILES: u32 = 1000;

/// Where a container logs to.
#[derive(Debug, Clone)]
pub struct Place {
    pub format: Format,
    /// The file that is written now; older ones have a number behind.
    pub path: PathBuf,
}

impl Place {
    pub fn of(record: &Record, dir: &Path) -> Result<Self> {
        match record.host_config.log_config.kind.as_str() {
            "json-file" => Ok(Self { format: Format::JsonFile, path: dir.join(format!("{}-json.log", record.id)) }),
            "local" => Ok(Self { format: Format::Local, path: dir.join("local-logs").join("container.log") }),
            _ => Err(Error::not_implemented("configured logging driver does not support reading")),
        }
    }

    /// The folder to watch.
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    fn numbered(&self, number: u32, compressed: bool) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        if compressed {
            name.push(".gz");
        }
        name.into()
    }

    pub fn open_current(&self) -> Result<Option<Opened>> {
        open(&self.path, false)
    }

    /// Every file, oldest first.
    pub fn open_all(&self) -> Result<Vec<Opened>> {
        loop {
            let current = self.open_current()?;
            let before = current.as_ref().map(|f| f.key);
            let files = self.open_behind(current)?;
            // A rotation meanwhile may have put one file under two names, or two in disorder.
            if before == std::fs::metadata(&self.path).ok().map(|m| key_of(&m)) {
                return Ok(files);
            }
        }
    }

    /// With the older ones before it. Opened from the newest on, so that what one
    /// rotation moves comes twice, which its inode shows, or leaves one number free.
    fn open_behind(&self, current: Option<Opened>) -> Result<Vec<Opened>> {
        let mut files: Vec<Opened> = current.into_iter().collect();
        let mut missing = 0;
        for number in 1..MAX_FILES {
            let plain = open(&self.numbered(number, false), false)?;
            let Some(file) = (match plain {
                Some(file) => Some(file),
                None => open(&self.numbered(number, true), true)?,
            }) else {
                missing += 1;
                if missing == 2 {
                    break;
                }
                continue;
            };
            if files.iter().all(|f| f.key != file.key) {
                files.push(file);
            }
        }
        files.reverse();
        Ok(files)
    }

    /// The file that follows another after rotations. `is_it` knows the other,
    /// also compressed; if it is there no more, every file is newer.
    pub fn open_after(&self, is_it: impl Fn(&Opened) -> bool) -> Result<Option<Opened>> {
        let mut files = self.open_all()?;
        let next = files.iter().position(is_it).map_or(0, |at| at + 1);
        Ok((next < files.len()).then(|| files.swap_remove(next)))
    }
}

/// Device and inode.
pub type Key = (u64, u64);

#[derive(Debug)]
pub struct Opened {
    pub file: File,
    pub key: Key,
    pub compressed: bool,
}

pub fn key_of(meta: &Metadata) -> Key {
    (meta.dev(), meta.ino())
}

fn open(path: &Path, compressed: bool) -> Result<Option<Opened>> {
    let result = File::open(path).and_then(|file| {
        let key = key_of(&file.metadata()?);
        Ok(Opened { file, key, compressed })
    });
    match result {
        Ok(opened) => Ok(Some(opened)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("open {}", path.display())),
    }
}
