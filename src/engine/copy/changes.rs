//! `docker diff`: what the writable layer added, changed and deleted. Reads the
//! overlay's upper directory, or compares two trees where there is none.

use super::view;
use crate::api::container::Change;
use crate::engine::Engine;
use crate::engine::container::record::Record;
use crate::error::{Error, Result};
use crate::sys::fs::{fgetxattr, open_beneath, open_in};
use crate::util::order;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
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
        Some(upper) => found.walk(upper.as_fd(), true)?,
        None => {
            let options = crate::storage::RwOptions { volatile: record.volatile };
            let tree = engine.driver.mount_rw(&record.id, &record.lowers(), options)?;
            found.walk(tree.as_fd(), false)?;
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

/// A directory that is still to be read.
struct Folder {
    /// Below the root; the text beside it may not be what the bytes are.
    place: Vec<u8>,
    path: String,
    /// Nothing of the image shows in it.
    opaque: bool,
}

impl Folder {
    fn inner(&self, name: &CString, path: &str, opaque: bool) -> Self {
        Self { place: [&self.place, &b"/"[..], name.as_bytes()].concat(), path: path.to_owned(), opaque }
    }
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

    /// Goes through a tree without recursion, since a container nests as deep as
    /// it likes. A directory is judged when all of it was seen.
    fn walk(&mut self, root: BorrowedFd<'_>, upper: bool) -> Result<()> {
        let mut open = vec![Folder { place: b".".to_vec(), path: String::new(), opaque: false }];
        let mut later: Vec<(String, Option<FileStat>, FileStat)> = Vec::new();
        while let Some(folder) = open.pop() {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let dir = match open_beneath(root, &CString::new(folder.place.clone())?, flags, Mode::empty()) {
                Ok(dir) => dir,
                // What is deeper has no path, and the original says so too.
                Err(e @ Errno::ENAMETOOLONG) => return Err(Error::from(e).context(folder.path)),
                Err(_) => continue,
            };
            let seen = self.scan(dir.as_fd(), &folder, upper, &mut open, &mut later)?;
            if !upper {
                self.deleted(&folder.path, &seen)?;
            }
        }
        for (path, before, now) in later.into_iter().rev() {
            match before {
                None => self.note(path, ADDED),
                Some(before) if super::stat::is_dir(&before) => {
                    if self.changed_directory(&path, &before, &now) {
                        self.note(path, MODIFIED);
                    }
                }
                Some(_) => self.note(path, MODIFIED),
            }
        }
        Ok(())
    }

    /// One directory, of the upper tree or of the whole; the names that it has.
    fn scan(
        &mut self,
        dir: BorrowedFd<'_>,
        folder: &Folder,
        upper: bool,
        open: &mut Vec<Folder>,
        later: &mut Vec<(String, Option<FileStat>, FileStat)>,
    ) -> Result<BTreeSet<CString>> {
        let opaque = upper && (folder.opaque || fgetxattr(dir, c"user.overlay.opaque").is_ok_and(|v| v == b"y"));
        let mut seen = BTreeSet::new();
        for name in names(dir)? {
            let full = format!("{}/{}", folder.path, name.to_string_lossy());
            if is_runtime_made(&full) {
                self.quiet.insert(folder.path.clone());
            } else if let Ok(stat) = fstatat(dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
                let before = if opaque { None } else { self.below(&full) };
                match before {
                    _ if kind == SFlag::S_IFDIR => {
                        open.push(folder.inner(&name, &full, opaque));
                        later.push((full, before, stat));
                    }
                    _ if upper && kind == SFlag::S_IFCHR && stat.st_rdev == 0 => self.note(full, DELETED),
                    None => self.note(full, ADDED),
                    // What is in an upper directory has been written to.
                    Some(before) if upper || state(&before) != state(&stat) => self.note(full, MODIFIED),
                    Some(_) => {}
                }
            }
            seen.insert(name);
        }
        Ok(seen)
    }

    fn changed_directory(&self, path: &str, before: &FileStat, now: &FileStat) -> bool {
        let owner = |s: &FileStat| (s.st_mode, s.st_uid, s.st_gid);
        let time = |s: &FileStat| (s.st_mtime, s.st_mtime_nsec);
        owner(before) != owner(now) || (!self.quiet.contains(path) && time(before) != time(now))
    }

    /// What the image has in a directory and `seen` has not.
    fn deleted(&mut self, path: &str, seen: &BTreeSet<CString>) -> Result<()> {
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

/// What tells a changed file from the image's.
fn state(s: &FileStat) -> (u32, u32, u32, i64, i64, i64) {
    (s.st_mode, s.st_uid, s.st_gid, s.st_size, s.st_mtime, s.st_mtime_nsec)
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
