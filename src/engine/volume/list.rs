//! `volume ls`, `inspect`, `prune` and the sizes for `system df`.

use super::{Volume, remove};
use crate::api::filters::Filters;
use crate::api::volume::{self as api, VolumeUsage};
use crate::engine::Engine;
use crate::engine::events::{Attributes, Kind};
use crate::error::{Error, Result};
use crate::storage::tree;
use crate::sys::fs::open_beneath;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstatat};
use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// One prune at a time.
static ONE: Mutex<()> = Mutex::new(());

pub fn list(engine: &Engine, filters: &Filters) -> Result<api::VolumeList> {
    filters.check(&["dangling", "driver", "label", "name"])?;
    let dangling = match filters.contains("dangling") {
        true => Some(filters.bool("dangling", false)?),
        false => None,
    };
    let volumes = engine
        .volumes
        .all()
        .iter()
        .filter(|v| dangling.is_none_or(|d| d == engine.volumes.users(&v.record.name).is_empty()))
        .filter(|v| matches(v, filters))
        .map(|v| v.to_api())
        .collect();
    Ok(api::VolumeList { volumes, warnings: None })
}

fn matches(volume: &Volume, filters: &Filters) -> bool {
    let labels = volume.record.labels.clone().unwrap_or_default();
    filters.exact("driver", "local") && filters.regex("name", &volume.record.name) && filters.pairs("label", &labels)
}

/// All volumes with their sizes and numbers of users.
pub fn usage(engine: &Engine) -> Vec<api::Volume> {
    let with_usage = |v: &Arc<Volume>| {
        let mut volume = v.to_api();
        let ref_count = engine.volumes.users(&v.record.name).len() as i64;
        volume.usage_data = Some(VolumeUsage { ref_count, size: folder_size(&v.mountpoint(), &|_| false) as i64 });
        volume
    };
    engine.volumes.all().iter().map(with_usage).collect()
}

/// Bytes of all regular files below `dir`, each inode once, and of symlinks' targets,
/// but for the paths that `but` names; what cannot be read counts nothing. By
/// descriptors: whoever swaps a directory for a symlink meanwhile stays inside.
pub fn folder_size(dir: &Path, but: &dyn Fn(&str) -> bool) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let mut total = 0u64;
    let Ok(root) = std::fs::File::open(dir) else { return 0 };
    let mut open = vec![c".".to_owned()];
    while let Some(path) = open.pop() {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let Ok(dir) = open_beneath(root.as_fd(), &path, flags, Mode::empty()) else { continue };
        for (name, _) in tree::list(dir.as_fd()).unwrap_or_default() {
            let Ok(stat) = fstatat(&dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFDIR => {
                    open.push(CString::new([path.as_bytes(), b"/", name.as_bytes()].concat()).unwrap_or_default());
                }
                SFlag::S_IFREG | SFlag::S_IFLNK if stat.st_nlink == 1 || seen.insert((stat.st_dev, stat.st_ino)) => {
                    let full = [&path.as_bytes()[1..], b"/", name.as_bytes()].concat();
                    if !but(&String::from_utf8_lossy(&full)) {
                        total = total.saturating_add(stat.st_size.unsigned_abs());
                    }
                }
                _ => {}
            }
        }
    }
    total
}

/// `volume prune`: unused anonymous ones, with `all=1` the named ones too.
/// Below API 1.42 all was the rule.
pub fn prune(engine: &Engine, filters: &Filters, all_by_default: bool) -> Result<api::VolumesPruned> {
    filters.check(&["all", "label", "label!"])?;
    let all = filters.bool("all", all_by_default)?;
    ONE.clear_poison();
    let _one = ONE.try_lock().map_err(|_| Error::conflict("a prune operation is already running"))?;
    let mut report = api::VolumesPruned { volumes_deleted: Vec::new(), space_reclaimed: 0 };
    for volume in engine.volumes.all() {
        let labels = volume.record.labels.clone().unwrap_or_default();
        let name = &volume.record.name;
        if !(all || volume.is_anonymous()) || !engine.volumes.users(name).is_empty() || !passes_labels(filters, &labels)
        {
            continue;
        }
        let size = folder_size(&volume.mountpoint(), &|_| false);
        if remove(engine, name, false).is_ok() {
            report.volumes_deleted.push(name.clone());
            report.space_reclaimed += size;
        }
    }
    let reclaimed = Attributes::from([("reclaimed".to_owned(), report.space_reclaimed.to_string())]);
    engine.events.publish(Kind::Volume, "prune", "", reclaimed);
    Ok(report)
}

/// The label filters of all prunes: every `label` fits and no `label!` does.
pub fn passes_labels(filters: &Filters, labels: &std::collections::BTreeMap<String, String>) -> bool {
    let unwanted = |wanted: &String| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
        None => labels.contains_key(wanted),
    };
    filters.pairs("label", labels) && !filters.get("label!").iter().any(unwanted)
}
