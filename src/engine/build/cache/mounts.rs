//! Folders of `RUN --mount=type=cache`. They outlive builds; who has one now is
//! counted, so that none is pruned or lent twice where it must not be.

use super::{Cache, Record, key};
use crate::error::{Error, Result};
use crate::util::json;
use std::fs;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

/// Held while a step has the folder.
pub struct CacheMount<'a> {
    cache: &'a Cache,
    name: String,
    pub path: PathBuf,
}

impl Cache {
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
                let patience = Duration::from_millis(200);
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
        self.note_mount(&name, id);
        Ok(CacheMount { cache: self, path: self.root.join("mounts").join(&name), name })
    }

    fn note_mount(&self, name: &str, id: &str) {
        let path = self.root.join("mounts").join(format!("{name}.json"));
        let known = fs::read(&path).ok().and_then(|data| json::from_slice::<Record>(&data).ok());
        let shown = id.trim_end().replace('\n', " ");
        let (record, late) = match known {
            Some(mut record) => {
                let late = record.used();
                (record, late)
            }
            None => (Record::new(String::new(), &format!("cached mount {shown} from exec")), true),
        };
        if late && let Err(e) = record.write(&path) {
            crate::warn!("cannot note the use of a cache mount", "id" = shown, "error" = e);
        }
    }
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
