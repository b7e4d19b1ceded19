//! What a container changed, and trees as tars: for `diff`, `commit`, `export`,
//! `cp` and builds. Runs in dockerd, any thread.
//!
//! Invariant: trees belong to containers, so every entry is opened below its
//! root with no symlink followed, a file that shrinks while it is read does not
//! tear the tar, and entries come in one order whatever the file system gives.

use super::owners::Owners;
use super::tar::{Entry, Kind, write};
use super::tree;
use crate::error::{Context, Error, Result};
use crate::sys::fs as sysfs;
use crate::util::order;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Modified,
    Added,
    Deleted,
}

/// The two trees that are compared. `upper` is overlay's upper directory; where
/// a driver has none, `merged` is compared with `lower` file by file.
pub struct Trees<'a> {
    pub upper: Option<BorrowedFd<'a>>,
    /// The image's tree; none of an image without layers.
    pub lower: Option<BorrowedFd<'a>>,
    pub merged: BorrowedFd<'a>,
    /// Paths (no slash in front) that are the engine's, not the container's:
    /// targets that were made for mounts.
    pub ignore: &'a dyn Fn(&[u8]) -> bool,
    /// Later times become this one in a layer, in unix seconds.
    pub epoch: Option<i64>,
    /// On the disk they have changed places; in a layer they have not.
    pub owners: Option<Owners>,
}

/// Every changed path, without a slash in front, in order. No walk here recurses:
/// containers nest as deep as a path is long.
pub fn changes(trees: &Trees<'_>) -> Result<BTreeMap<Vec<u8>, Change>> {
    let mut found = BTreeMap::new();
    match trees.upper {
        Some(upper) => {
            let mut open = vec![(Vec::new(), false)];
            while let Some((dir, hidden)) = open.pop() {
                overlay(trees, upper, &dir, hidden, &mut found, &mut open)?;
            }
        }
        None => {
            let mut open = vec![Vec::new()];
            while let Some(dir) = open.pop() {
                compare(trees, &dir, &mut found, &mut open)?;
            }
        }
    }
    Ok(found)
}

/// The changes as a layer: whiteouts for what is gone.
pub fn layer(trees: &Trees<'_>, out: &mut dyn Write) -> Result<()> {
    let changes = changes(trees)?;
    let mut packer = Packer::new(out);
    packer.epoch = trees.epoch;
    packer.owners = trees.owners;
    for (path, change) in &changes {
        match change {
            Change::Deleted => packer.whiteout(path)?,
            Change::Added | Change::Modified if path.rsplit(|b| *b == b'/').next().is_some_and(is_mark) => {
                let name = String::from_utf8_lossy(path);
                return Err(Error::invalid(format!(
                    "/{name} cannot be a part of a layer: names that begin with .wh. stand for deleted files"
                )));
            }
            Change::Added | Change::Modified => packer.entry(trees.merged, path, path)?,
        }
    }
    packer.finish()
}

fn is_mark(name: &[u8]) -> bool {
    name.starts_with(b".wh.")
}

/// One directory of overlay's upper. `hidden`: an opaque directory above hides the
/// lower tree, so nothing below it can be a modification.
fn overlay(
    trees: &Trees<'_>,
    upper: BorrowedFd<'_>,
    dir: &[u8],
    hidden: bool,
    found: &mut BTreeMap<Vec<u8>, Change>,
    open: &mut Vec<(Vec<u8>, bool)>,
) -> Result<()> {
    let fd = open_dir(upper, dir)?;
    let opaque = hidden || sysfs::fgetxattr(fd.as_fd(), c"user.overlay.opaque").is_ok_and(|v| v == b"y");
    let mut here = Vec::new();
    for (name, _) in sorted(fd.as_fd())? {
        let path = below(dir, &name);
        here.push(path.clone());
        let stat = fstatat(&fd, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let before = if hidden { None } else { trees.lower.and_then(|lower| stat_at(lower, &path)) };
        if (trees.ignore)(&path) && before.is_none() {
            continue;
        }
        if kind(&stat) == SFlag::S_IFCHR && stat.st_rdev == 0 {
            if before.is_some() {
                found.insert(path, Change::Deleted);
            }
            continue;
        }
        let was_dir = before.as_ref().is_some_and(|b| kind(b) == SFlag::S_IFDIR);
        found.insert(path.clone(), if before.is_some() { Change::Modified } else { Change::Added });
        if kind(&stat) == SFlag::S_IFDIR {
            open.push((path, opaque || !was_dir));
        }
    }
    if opaque && !hidden {
        // What the lower directory had and the new one has not is gone.
        let lower = trees.lower.and_then(|lower| open_dir(lower, dir).ok());
        for (name, _) in lower.map(|l| sorted(l.as_fd())).transpose()?.unwrap_or_default() {
            let path = below(dir, &name);
            if here.binary_search(&path).is_err() {
                found.insert(path, Change::Deleted);
            }
        }
    }
    Ok(())
}

/// Compares one directory of two trees by type, mode, owner, size, time and target.
fn compare(
    trees: &Trees<'_>,
    dir: &[u8],
    found: &mut BTreeMap<Vec<u8>, Change>,
    open: &mut Vec<Vec<u8>>,
) -> Result<()> {
    let now = open_dir(trees.merged, dir)?;
    let before = trees.lower.and_then(|lower| open_dir(lower, dir).ok());
    let names = |fd: Option<BorrowedFd<'_>>| -> Result<Vec<CString>> {
        Ok(fd.map(sorted).transpose()?.unwrap_or_default().into_iter().map(|(n, _)| n).collect())
    };
    let (new, old) = (names(Some(now.as_fd()))?, names(before.as_ref().map(AsFd::as_fd))?);
    for name in old.iter().filter(|n| new.binary_search(n).is_err()) {
        found.insert(below(dir, name), Change::Deleted);
    }
    for name in &new {
        let path = below(dir, name);
        let stat = fstatat(&now, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let was = before.as_ref().and_then(|b| fstatat(b, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok());
        match was {
            None if (trees.ignore)(&path) => continue,
            None => drop(found.insert(path.clone(), Change::Added)),
            Some(was) if differs(&was, &stat) => {
                parents_changed(&path, found);
                found.insert(path.clone(), Change::Modified);
            }
            Some(_) => {}
        }
        if kind(&stat) == SFlag::S_IFDIR {
            open.push(path);
        }
    }
    Ok(())
}

fn parents_changed(path: &[u8], found: &mut BTreeMap<Vec<u8>, Change>) {
    for end in path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i) {
        found.entry(path[..end].to_vec()).or_insert(Change::Modified);
    }
}

fn differs(a: &FileStat, b: &FileStat) -> bool {
    let dir = kind(a) == SFlag::S_IFDIR && kind(b) == SFlag::S_IFDIR;
    (a.st_mode, a.st_uid, a.st_gid, a.st_rdev) != (b.st_mode, b.st_uid, b.st_gid, b.st_rdev)
        || (a.st_mtime, a.st_mtime_nsec) != (b.st_mtime, b.st_mtime_nsec)
        || (!dir && a.st_size != b.st_size)
}

/// Writes trees as a tar.
pub struct Packer<'a> {
    out: &'a mut dyn Write,
    /// First name of each inode with several.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    /// Later times become this one, in unix seconds.
    pub epoch: Option<i64>,
    /// See [`Trees::owners`].
    pub owners: Option<Owners>,
}

impl<'a> Packer<'a> {
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, links: HashMap::new(), buffer: vec![0; 128 << 10], epoch: None, owners: None }
    }

    /// The end marker.
    pub fn finish(self) -> Result<()> {
        self.out.write_all(&write::END)?;
        Ok(())
    }

    /// `path` and everything below it, under the name `name` ("" for what is
    /// below alone). What vanishes meanwhile is left out.
    pub fn tree(&mut self, root: BorrowedFd<'_>, path: &[u8], name: &[u8]) -> Result<()> {
        let mut open = vec![(path.to_vec(), name.to_vec())];
        while let Some((path, name)) = open.pop() {
            let Some(stat) = stat_at(root, &path) else { continue };
            if !name.is_empty() {
                self.entry(root, &path, &name)?;
            }
            if kind(&stat) != SFlag::S_IFDIR {
                continue;
            }
            let dir = match open_dir(root, &path) {
                Ok(dir) => dir,
                Err(_) if stat_at(root, &path).is_none() => continue,
                Err(e) => return Err(e),
            };
            for (child, _) in sorted(dir.as_fd())?.into_iter().rev() {
                open.push((below(&path, &child), below(&name, &child)));
            }
        }
        Ok(())
    }

    /// One entry. Sockets are left out, as every tar leaves them out.
    pub fn entry(&mut self, root: BorrowedFd<'_>, path: &[u8], name: &[u8]) -> Result<()> {
        let c = c_path(path)?;
        let handle = match sysfs::open_in(root, &c, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::ENOENT) => return Ok(()),
            Err(e) => return Err(Error::from(e).context(String::from_utf8_lossy(path))),
        };
        let stat = fstat(&handle)?;
        let mut entry = Entry::of(name, &stat);
        if matches!(entry.kind, Kind::Other(_)) {
            return Ok(());
        }
        if let Some(epoch) = self.epoch {
            entry.mtime.secs = entry.mtime.secs.min(epoch);
        }
        if let Some(owners) = &self.owners {
            let (uid, gid) = owners.shown(stat.st_uid, stat.st_gid);
            (entry.uid, entry.gid) = (uid.into(), gid.into());
        }
        if kind(&stat) != SFlag::S_IFDIR && stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode) {
                (entry.kind, entry.size, entry.link) = (Kind::HardLink, 0, first.clone());
                return Ok(self.out.write_all(&write::header(&entry))?);
            }
            self.links.insert(inode, name.to_vec());
        }
        if entry.kind == Kind::Symlink {
            entry.link = readlinkat(&handle, c"")?.into_vec();
        }
        if !matches!(entry.kind, Kind::File | Kind::Dir) {
            return Ok(self.out.write_all(&write::header(&entry))?);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let mut file: File = match sysfs::open_in(root, &c, flags, Mode::empty()) {
            Ok(file) => File::from(OwnedFd::from(file)),
            Err(Errno::ENOENT) => return Ok(()),
            Err(e) => return Err(Error::from(e).context(String::from_utf8_lossy(path))),
        };
        entry.xattrs = xattrs(file.as_fd(), &mut entry.mode, &mut entry.uid, &mut entry.gid);
        if let Some(owners) = &self.owners {
            for (name, value) in &mut entry.xattrs {
                *value = owners.shown_xattr(name, std::mem::take(value));
            }
        }
        self.out.write_all(&write::header(&entry))?;
        if entry.kind == Kind::File { self.content(&mut file, entry.size) } else { Ok(()) }
    }

    /// A `.wh.NAME` beside where the path was.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let cut = path.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
        let name = [&path[..cut], b".wh.", &path[cut..]].concat();
        Ok(self.out.write_all(&write::header(&Entry { name, mode: 0o600, ..Entry::default() }))?)
    }

    /// Exactly `size` bytes: a file that shrinks is padded, one that grows is cut.
    fn content(&mut self, file: &mut File, size: u64) -> Result<()> {
        let mut left = size;
        while left > 0 {
            let want = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let mut n = file.read(&mut self.buffer[..want]).context("read file")?;
            if n == 0 {
                self.buffer[..want].fill(0);
                n = want;
            }
            self.out.write_all(&self.buffer[..n])?;
            left -= n as u64;
        }
        let padding = write::padding(size);
        Ok(self.out.write_all(&[0; super::tar::BLOCK][..padding])?)
    }
}

/// What belongs to the file itself; overlay's own attributes do not, and the
/// recorded owner of single-id mode becomes the owner.
fn xattrs(file: BorrowedFd<'_>, mode: &mut u32, uid: &mut u64, gid: &mut u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    for name in sysfs::flistxattr(file).unwrap_or_default() {
        let Ok(c) = CString::new(name.clone()) else { continue };
        let Ok(value) = sysfs::fgetxattr(file, &c) else { continue };
        if name == b"user.containers.override_stat" {
            let text = String::from_utf8_lossy(&value).into_owned();
            let mut parts = text.split(':');
            let mut number = |radix| parts.next().and_then(|p| u32::from_str_radix(p, radix).ok());
            if let (Some(u), Some(g), Some(m)) = (number(10), number(10), number(8)) {
                (*uid, *gid, *mode) = (u64::from(u), u64::from(g), m & 0o7777);
            }
        } else if !name.starts_with(b"user.overlay.") && !name.starts_with(b"trusted.") && name != b"security.selinux" {
            found.push((name, value));
        }
    }
    order::sort(&mut found);
    found
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn below(dir: &[u8], name: &CStr) -> Vec<u8> {
    if dir.is_empty() { name.to_bytes().to_vec() } else { [dir, b"/", name.to_bytes()].concat() }
}

fn c_path(path: &[u8]) -> Result<CString> {
    CString::new(if path.is_empty() { b"." } else { path }).map_err(|_| Error::invalid("a path holds a NUL byte"))
}

fn open_dir(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = sysfs::open_in(root, &c_path(path)?, flags, Mode::empty());
    opened.map(Into::into).with_context(|| String::from_utf8_lossy(path).into_owned())
}

fn stat_at(root: BorrowedFd<'_>, path: &[u8]) -> Option<FileStat> {
    let handle = sysfs::open_in(root, &c_path(path).ok()?, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()).ok()?;
    fstat(&handle).ok()
}

fn sorted(dir: BorrowedFd<'_>) -> Result<Vec<(CString, Option<nix::dir::Type>)>> {
    // A second descriptor: listing moves the first one's position.
    let again = openat(dir, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut names = tree::list(again.as_fd())?;
    order::sort_by(&mut names, |a, b| a.0.cmp(&b.0));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("coracle-diff-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("lower")).unwrap();
        fs::create_dir_all(dir.join("now")).unwrap();
        dir
    }

    #[test]
    fn compares_trees() {
        let dir = scratch("compare");
        for tree in ["lower", "now"] {
            fs::create_dir(dir.join(tree).join("etc")).unwrap();
            fs::write(dir.join(tree).join("etc/same"), "x").unwrap();
        }
        fs::write(dir.join("lower/gone"), "x").unwrap();
        fs::write(dir.join("lower/etc/changed"), "1").unwrap();
        fs::write(dir.join("now/etc/changed"), "22").unwrap();
        fs::write(dir.join("now/new"), "n").unwrap();
        fs::write(dir.join("now/mine"), "").unwrap();
        for path in ["etc/same", "etc"] {
            let time = fs::metadata(dir.join("lower").join(path)).unwrap().modified().unwrap();
            File::open(dir.join("now").join(path)).unwrap().set_modified(time).unwrap();
        }
        let (lower, now) = (File::open(dir.join("lower")).unwrap(), File::open(dir.join("now")).unwrap());
        let trees = Trees {
            upper: None,
            lower: Some(lower.as_fd()),
            merged: now.as_fd(),
            ignore: &|p| p == b"mine",
            epoch: None,
            owners: None,
        };
        let found: Vec<(String, Change)> =
            changes(&trees).unwrap().into_iter().map(|(p, c)| (String::from_utf8(p).unwrap(), c)).collect();
        assert_eq!(
            found,
            [
                ("etc".into(), Change::Modified),
                ("etc/changed".into(), Change::Modified),
                ("gone".into(), Change::Deleted),
                ("new".into(), Change::Added)
            ]
        );
        let mut tar = Vec::new();
        layer(&trees, &mut tar).unwrap();
        let mut archive = tar::Archive::new(tar.as_slice());
        let names: Vec<String> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["etc/", "etc/changed", ".wh.gone", "new"]);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn packs_what_a_tree_is_made_of() {
        let dir = scratch("pack");
        let now = dir.join("now");
        fs::create_dir(now.join("d")).unwrap();
        fs::write(now.join("d/f"), vec![7; 1000]).unwrap();
        fs::set_permissions(now.join("d/f"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(now.join("d/f"), now.join("h")).unwrap();
        symlink("/nowhere", now.join("s")).unwrap();
        let root = File::open(&now).unwrap();
        let mut tar = Vec::new();
        let mut packer = Packer::new(&mut tar);
        packer.tree(root.as_fd(), b"", b"top").unwrap();
        packer.finish().unwrap();
        let mut archive = tar::Archive::new(tar.as_slice());
        let seen: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                let link = e.link_name().unwrap().map(|l| l.display().to_string()).unwrap_or_default();
                format!(
                    "{} {:?} {:o} {link}",
                    e.path().unwrap().display(),
                    e.header().entry_type(),
                    e.header().mode().unwrap() & 0o7000
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                "top/ Directory 0 ", "top/d/ Directory 0 ", "top/d/f Regular 4000 ", "top/h Link 4000 top/d/f",
                "top/s Symlink 0 /nowhere"
            ]
        );
        fs::remove_dir_all(&dir).unwrap();
    }
}
