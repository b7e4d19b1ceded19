//! Choosing a driver by really mounting: kernel versions and file system names
//! say too little (a distribution's patches, LSMs, NFS, nested overlay).

use super::fuse::FuseOverlay;
use super::overlay::Overlay;
use super::vfs::Vfs;
use super::{Driver, RwOptions};
use crate::error::{Context, Error, Result};
use crate::sys::fs as sysfs;
use crate::util::id;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statfs;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// Opens the driver that `wanted` names, or the first that works here. A data
/// root keeps the driver that it was begun with, as its layers are there.
pub fn open(data_root: &Path, wanted: Option<&str>) -> Result<Arc<dyn Driver>> {
    if let Some(name) = wanted {
        let driver = open_named(data_root, name)?;
        works(&*driver).with_context(|| format!("storage driver {name:?} does not work here"))?;
        return Ok(driver);
    }
    for name in NAMES {
        let used = fs::read_dir(data_root.join(name).join("layers")).is_ok_and(|mut d| d.next().is_some());
        if used && let Ok(driver) = open_named(data_root, name) {
            if works(&*driver).is_ok() {
                return Ok(driver);
            }
            crate::warn!("the storage driver of this data root no longer works; trying others", "driver" = name);
        }
    }
    let mut reasons = Vec::new();
    for name in NAMES {
        match open_named(data_root, name).and_then(|d| works(&*d).map(|()| d)) {
            Ok(driver) => return Ok(driver),
            Err(e) => reasons.push(format!("{name}: {e}")),
        }
    }
    Err(Error::system(format!("no storage driver works on {}: {}", data_root.display(), reasons.join("; "))))
}

const NAMES: [&str; 3] = ["overlay2", "fuse-overlayfs", "vfs"];

fn open_named(data_root: &Path, name: &str) -> Result<Arc<dyn Driver>> {
    // Both overlays share their layers.
    Ok(match name {
        "overlay2" | "overlay" => Arc::new(Overlay::open(&data_root.join("overlay2"))?),
        "fuse-overlayfs" => Arc::new(FuseOverlay::open(&data_root.join("fuse-overlayfs"))?),
        "vfs" => Arc::new(Vfs::open(&data_root.join("vfs"))?),
        other => {
            return Err(Error::invalid(format!("driver not supported: {other}"))
                .with_hint("this program has overlay2, fuse-overlayfs and vfs"));
        }
    })
}

/// Makes a writable layer, mounts it, writes and reads a file through the mount.
pub fn works(driver: &dyn Driver) -> Result<()> {
    let name = format!("probe-{}", &id::random()[..12]);
    let options = RwOptions::default();
    driver.create_rw(&name, &[])?;
    let result = (|| {
        let mount = driver.mount_rw(&name, &[], options)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let mut file: fs::File =
            sysfs::open_in(mount.as_fd(), c"probe", flags, Mode::from_bits_truncate(0o600))?.into();
        file.write_all(b"x")?;
        drop(file);
        let mut file: fs::File = sysfs::open_in(mount.as_fd(), c"probe", OFlag::O_RDONLY, Mode::empty())?.into();
        let mut back = String::new();
        file.read_to_string(&mut back)?;
        if back == "x" { Ok(()) } else { Err(Error::system("what was written could not be read")) }
    })();
    driver.remove_rw(&name)?;
    result
}

/// Which ids this process may give to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// Exactly one user id is mapped.
    pub single: bool,
    /// The initial user namespace: devices can be made, every id exists.
    pub initial: bool,
}

pub fn ids() -> Ids {
    parse_ids(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
}

fn parse_ids(map: &str) -> Ids {
    let counts: Vec<u64> = map.lines().filter_map(|l| l.split_ascii_whitespace().nth(2)?.parse().ok()).collect();
    Ids { single: counts.iter().sum::<u64>() == 1, initial: counts == [u64::from(u32::MAX)] }
}

/// As `docker info` names the file system below `path`.
pub(super) fn backing_filesystem(path: &Path) -> String {
    let Ok(stat) = statfs::statfs(path) else { return "<unknown>".into() };
    match stat.filesystem_type().0 as u32 {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        0x6969 => "nfs",
        0xf2f5_2010 => "f2fs",
        0xca45_1a4e => "bcachefs",
        0x2405_1905 => "ubifs",
        0x6573_5546 => "fuse",
        _ => "<unknown>",
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_id_maps() {
        assert_eq!(parse_ids("         0          0 4294967295\n"), Ids { single: false, initial: true });
        assert_eq!(parse_ids("0 1001 1\n"), Ids { single: true, initial: false });
        assert_eq!(parse_ids("0 1001 1\n1 100000 65536\n"), Ids { single: false, initial: false });
    }
}
