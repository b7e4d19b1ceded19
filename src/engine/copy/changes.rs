//! `docker diff`: what the writable layer added, changed and deleted. Reads the
//! overlay's upper directory, or compares two trees where there is none.

use super::view;
use crate::api::container::Change;
use crate::engine::Engine;
use crate::engine::container::record::Record;
use crate::error::Result;
use crate::sys::fs::{fgetxattr, open_in};
use crate::util::order;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const MODIFIED: u8 = 0;
const ADDED: u8 = 1;
const DELETED: u8 = 2;

/// Made by every start, as in the init layer that Docker hides.
pub fn is_runtime_made(path: &str) -> bool {
    const FILES: [&str; 5] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab", "/.dockerenv"];
    const DIRS: [&str; 3] = ["/dev", "/proc", "/sys"];
    FILES.contains(&path)
        || DIRS.iter().any(|d| path.strip_prefix(d).is_some_and(|r| r.is_empty() || r.starts_with('/')))
}

pub fn changes(engine: &Engine, record: &Record) -> Result<Vec<Change>> {
    let base = if record.layers.is_empty() { None } else { Some(view::base(engine, record)?) };
    let mut found = Found { base: base.as_ref(), changes: BTreeMap::new(), quiet: BTreeSet::new() };
    match engine.driver.upper_root(&record.id)? {
        Some(upper) => found.upper(upper.as_fd(), "", false)?,
        None => {
            let options = crate::storage::RwOptions { volatile: record.volatile };
            let tree = engine.driver.mount_rw(&record.id, &record.lowers(), options)?;
            found.compare(tree.as_fd(), "")?;
        }
    }
    Ok(found.changes.into_iter().map(|(path, kind)| Change { path, kind }).collect())
}

struct Found<'a> {
    base: Option<&'a OwnedFd>,
    changes: BTreeMap<String, u8>,
    /// Directories in which something was hidden: their time says nothing.
    quiet: BTreeSet<String>,
}

impl Found<'_> {
    fn below(&self, path: &str) -> Option<FileStat> {
        let base = self.base?;
        let text = CString::new(path).ok()?;
        let found = open_in(base.as_fd(), &text, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()).ok()?;
        nix::sys::stat::fstat(&found).ok()
    }

    fn note(&mut self, path: String, kind: u8) {
        if kind != MODIFIED
            && let Some((parent, _)) = path.rsplit_once('/')
            && !parent.is_empty()
        {
            self.changes.entry(parent.to_owned()).or_insert(MODIFIED);
        }
        self.changes.insert(path, kind);
    }

    /// `opaque`: nothing of the image shows below here.
    fn upper(&mut self, dir: BorrowedFd<'_>, path: &str, opaque: bool) -> Result<()> {
        for name in names(dir)? {
            let full = format!("{path}/{}", name.to_string_lossy());
            if is_runtime_made(&full) {
                self.quiet.insert(path.to_owned());
                continue;
            }
            let Ok(stat) = fstatat(dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
            if kind == SFlag::S_IFCHR && stat.st_rdev == 0 {
                self.note(full, DELETED);
                continue;
            }
            let before = if opaque { None } else { self.below(&full) };
            let was_dir = before.as_ref().is_some_and(super::stat::is_dir);
            let mut inner_opaque = opaque;
            if kind == SFlag::S_IFDIR {
                let Some(inner) = open_dir(dir, &name) else { continue };
                inner_opaque |= fgetxattr(inner.as_fd(), c"user.overlay.opaque").is_ok_and(|v| v == b"y");
                self.upper(inner.as_fd(), &full, inner_opaque)?;
            }
            match before {
                None => self.note(full, ADDED),
                Some(before) if kind == SFlag::S_IFDIR && was_dir => {
                    if self.changed_directory(&full, &before, &stat) {
                        self.note(full, MODIFIED);
                    }
                }
                Some(_) => self.note(full, MODIFIED),
            }
        }
        Ok(())
    }

    fn changed_directory(&self, path: &str, before: &FileStat, now: &FileStat) -> bool {
        let owner = |s: &FileStat| (s.st_mode, s.st_uid, s.st_gid);
        let time = |s: &FileStat| (s.st_mtime, s.st_mtime_nsec);
        owner(before) != owner(now) || (!self.quiet.contains(path) && time(before) != time(now))
    }

    /// Without an upper directory: the whole tree against the image's.
    fn compare(&mut self, dir: BorrowedFd<'_>, path: &str) -> Result<()> {
        let mut seen = BTreeSet::new();
        for name in names(dir)? {
            let full = format!("{path}/{}", name.to_string_lossy());
            seen.insert(name.clone());
            if is_runtime_made(&full) {
                self.quiet.insert(path.to_owned());
                continue;
            }
            let Ok(stat) = fstatat(dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let is_dir = super::stat::is_dir(&stat);
            let before = self.below(&full);
            if is_dir && let Some(inner) = open_dir(dir, &name) {
                self.compare(inner.as_fd(), &full)?;
            }
            match before {
                None => self.note(full, ADDED),
                Some(before) if is_dir && super::stat::is_dir(&before) => {
                    if self.changed_directory(&full, &before, &stat) {
                        self.note(full, MODIFIED);
                    }
                }
                Some(before) => {
                    let state = |s: &FileStat| (s.st_mode, s.st_uid, s.st_gid, s.st_size, s.st_mtime, s.st_mtime_nsec);
                    if state(&before) != state(&stat) {
                        self.note(full, MODIFIED);
                    }
                }
            }
        }
        let text = CString::new(if path.is_empty() { "/" } else { path })?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        if let Some(base) = self.base
            && let Ok(base) = open_in(base.as_fd(), &text, flags, Mode::empty())
        {
            for name in names(base.as_fd())? {
                let full = format!("{path}/{}", name.to_string_lossy());
                if !seen.contains(&name) && !is_runtime_made(&full) {
                    self.note(full, DELETED);
                }
            }
        }
        Ok(())
    }
}

fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> Option<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::empty()).ok()
}

fn names(dir: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let list = openat(dir, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(list)?.iter() {
        match entry {
            Ok(entry) => names.push(entry.file_name().to_owned()),
            Err(Errno::ENOENT) => break,
            Err(e) => return Err(e.into()),
        }
    }
    names.retain(|n| n.as_c_str() != c"." && n.as_c_str() != c"..");
    order::sort(&mut names);
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtime_files_are_hidden() {
        assert!(is_runtime_made("/etc/hosts") && is_runtime_made("/dev") && is_runtime_made("/proc/x"));
        assert!(!is_runtime_made("/etc") && !is_runtime_made("/device"));
    }
}
