//! What the build cache takes on the disk, and removing it: `system df` and
//! `builder prune`. Any thread.

use super::{Cache, Record};
use crate::api::filters::Filters;
use crate::api::system::BuildCacheRecord;
use crate::engine::events::{Attributes, Kind};
use crate::engine::image::layers_in_use;
use crate::engine::volume::list::folder_size;
use crate::engine::{Engine, until};
use crate::error::{Context, Error, Result};
use crate::image::digest::Digest;
use crate::storage::tree;
use crate::util::json;
use crate::util::order;
use crate::util::time::{Timestamp, now, rfc3339_nano};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::sync::PoisonError;

/// What `docker builder prune` reports.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pruned {
    pub caches_deleted: Vec<String>,
    pub space_reclaimed: u64,
}

/// What is to go.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Also what images stand on.
    pub all: bool,
    pub filters: Filters,
    /// Bytes that may stay; the least recently used go first.
    pub keep: u64,
}

const FILTERS: &[&str] =
    &["until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private", "label", "label!"];

/// One thing that can be pruned, as it is told.
struct Part {
    row: BuildCacheRecord,
    last: Timestamp,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Step,
    Mount,
    Context,
}

impl Cache {
    /// The rows of `system df`, the most recently used first.
    pub fn usage(&self, engine: &Engine) -> Result<Vec<BuildCacheRecord>> {
        Ok(self.parts(engine)?.into_iter().map(|p| p.row).collect())
    }

    fn parts(&self, engine: &Engine) -> Result<Vec<Part>> {
        let sizes: HashMap<String, u64> =
            engine.images.layer_sizes().into_iter().map(|(chain, size)| (chain.hex(), size)).collect();
        // Below an image's top everything is the image's, too.
        let mut shared: HashSet<String> = engine.images.list().iter().flat_map(|i| i.chain_ids.clone()).collect();
        let mut parts = Vec::new();
        for (key, record) in self.lock().iter() {
            let kind = if record.description.starts_with("RUN ") { "regular" } else { "source.local" };
            // Of two steps with one layer, the first has its size.
            let theirs = !shared.insert(record.chain_id.clone());
            let size = sizes.get(&record.chain_id).copied().unwrap_or(0);
            parts.push(Part::new(What::Step, key, record, kind, size, (theirs, false)));
        }
        let used = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in fs::read_dir(self.root.join("mounts"))? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|n| !n.ends_with(".json")) else {
                continue;
            };
            let data = fs::read(path.with_file_name(format!("{name}.json"))).unwrap_or_default();
            let record: Record = json::from_slice(&data).unwrap_or_default();
            let (size, in_use) = (folder_size(&path, &|_| false), used.contains_key(name));
            parts.push(Part::new(What::Mount, name, &record, "exec.cachemount", size, (false, in_use)));
        }
        for (key, last, in_use) in engine.builds.contexts.all() {
            let time = last.map(|t| rfc3339_nano(Timestamp::from(t))).unwrap_or_default();
            let description = "local source for context".to_owned();
            let record = Record { description, created: time.clone(), last_used: time, ..Record::default() };
            let size = folder_size(&engine.builds.contexts.path(&key), &|_| false);
            parts.push(Part::new(What::Context, &key, &record, "source.local", size, (false, in_use)));
        }
        order::sort_by(&mut parts, |a, b| b.last.cmp(&a.last).then_with(|| a.row.id.cmp(&b.row.id)));
        Ok(parts)
    }

    /// Removes records and cache mounts, then the layers that nothing else needs.
    pub fn prune(&self, engine: &Engine, wanted: &Wanted) -> Result<Pruned> {
        wanted.filters.check(FILTERS)?;
        let before = age(&wanted.filters)?;
        let parts = self.parts(engine)?;
        let mut left: u64 = parts.iter().filter(|p| !p.row.shared).map(Part::size).sum();
        let mut report = Pruned::default();
        // From the least recently used on, until what may stay is reached.
        for part in parts.iter().rev() {
            if wanted.keep > 0 && left <= wanted.keep {
                break;
            }
            let row = &part.row;
            let goes = !row.in_use
                && (wanted.all || !row.shared)
                && before.is_none_or(|t| part.last < t)
                && matches(&wanted.filters, row)?;
            if !goes {
                continue;
            }
            match part.what {
                What::Mount if !self.remove_mount(&row.id)? => continue,
                What::Context if !engine.builds.contexts.remove(&row.id) => continue,
                What::Mount | What::Context => report.space_reclaimed += part.size(),
                What::Step => self.remove_step(&row.id)?,
            }
            if !row.shared {
                left = left.saturating_sub(part.size());
            }
            report.caches_deleted.push(row.id.clone());
        }
        let weight_of_layers = || engine.images.layer_sizes().values().sum::<u64>();
        let whole = weight_of_layers();
        engine.images.collect(&|| layers_in_use(engine))?;
        report.space_reclaimed += whole.saturating_sub(weight_of_layers());
        let attributes = Attributes::from([("reclaimed".to_owned(), report.space_reclaimed.to_string())]);
        engine.events.publish(Kind::Builder, "prune", "", attributes);
        Ok(report)
    }

    fn remove_step(&self, key: &str) -> Result<()> {
        let mut steps = self.lock();
        if let Some(digest) = Digest::from_hex(key) {
            fs::remove_file(self.step_path(&digest)).context("remove a record of the build cache")?;
        }
        steps.remove(key);
        Ok(())
    }

    /// False if somebody has it now.
    fn remove_mount(&self, name: &str) -> Result<bool> {
        let used = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        if used.contains_key(name) {
            return Ok(false);
        }
        let root = self.root.join("mounts");
        // Its files may be read-only directories of any owner: not `remove_dir_all`.
        tree::remove(File::open(&root)?.as_fd(), &CString::new(name)?).context("remove a cache mount")?;
        let _ = fs::remove_file(root.join(format!("{name}.json")));
        Ok(true)
    }
}

impl Part {
    fn new(what: What, id: &str, record: &Record, kind: &str, size: u64, (shared, in_use): (bool, bool)) -> Self {
        let row = BuildCacheRecord {
            id: id.to_owned(),
            kind: kind.to_owned(),
            description: record.description.clone(),
            in_use,
            shared,
            size: i64::try_from(size).unwrap_or(i64::MAX),
            created_at: record.created.clone(),
            last_used_at: Some(record.last_used.clone()).filter(|t| !t.is_empty()),
            usage_count: record.uses,
            ..BuildCacheRecord::default()
        };
        Self { row, last: record.last(), what }
    }

    fn size(&self) -> u64 {
        self.row.size.unsigned_abs()
    }
}

/// `until` is a point in time or a duration, `unused-for` always a duration.
fn age(filters: &Filters) -> Result<Option<Timestamp>> {
    if let [text] = filters.get("unused-for") {
        let back = until::duration(text);
        let back = back.ok_or_else(|| Error::invalid(format!("invalid filter 'unused-for=[{text}]'")))?;
        return Ok(Some(Timestamp(now().0 - back)));
    }
    until::parse(filters)
}

fn matches(filters: &Filters, row: &BuildCacheRecord) -> Result<bool> {
    let truth = |key: &str, is: bool| -> Result<bool> {
        let asked = filters.contains(key) && !matches!(filters.get(key), [v] if v.is_empty());
        Ok(if asked { filters.bool(key, is)? == is } else { !filters.contains(key) || is })
    };
    Ok(filters.prefix("id", &row.id)
        && filters.exact("type", &row.kind)
        && filters.regex("description", &row.description)
        && filters.get("parent").is_empty()
        && truth("inuse", row.in_use)?
        && truth("shared", row.shared)?
        && truth("private", !row.shared)?)
}
