//! A tree as a tar stream: `docker cp` out and `export`.
//! Runs on the thread that sends it.

use crate::error::{Context, Error, Result};
use crate::storage::owners::Owners;
use crate::storage::tar::write::{END, header, padding};
use crate::storage::tar::{Entry, Kind, Time};
use crate::sys::fs::{fgetxattr, lgetxattr};
use crate::util::order;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// How a tree is to be written.
pub struct Archiver<'a> {
    out: &'a mut dyn Write,
    /// First names of files with several links.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Folders that replace a directory, by the path in the container.
    over: Vec<(String, Arc<OwnedFd>)>,
    /// Those of the container's user namespace.
    owners: Option<Owners>,
}

/// PATH_MAX without its NUL.
const MAX_PATH: usize = 4095;
const CAPABILITY: &CStr = c"security.capability";

/// A directory that is being written.
struct Level {
    dir: OwnedFd,
    names: std::vec::IntoIter<CString>,
    name: Vec<u8>,
    path: String,
}

impl Level {
    fn open(dir: BorrowedFd<'_>, name: &[u8], path: &str) -> Result<Self> {
        let list = openat(dir, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let dir = list.try_clone()?;
        let mut names: Vec<CString> = Vec::new();
        for entry in nix::dir::Dir::from_fd(list)?.iter() {
            let found = entry?.file_name().to_owned();
            if found.as_c_str() != c"." && found.as_c_str() != c".." {
                names.push(found);
            }
        }
        order::sort(&mut names);
        let path = path.trim_end_matches('/').to_owned();
        Ok(Self { dir, names: names.into_iter(), name: name.to_vec(), path })
    }

    /// Name and path of an entry in it.
    fn below(&self, child: &CStr) -> (Vec<u8>, String) {
        let mut name = self.name.clone();
        if !name.is_empty() && !name.ends_with(b"/") {
            name.push(b'/');
        }
        name.extend_from_slice(child.to_bytes());
        (name, format!("{}/{}", self.path, child.to_string_lossy()))
    }
}

impl<'a> Archiver<'a> {
    pub fn new(out: &'a mut dyn Write, owners: Option<Owners>) -> Self {
        Self { out, links: HashMap::new(), over: Vec::new(), owners }
    }

    #[must_use]
    fn with_over(mut self, over: Vec<(String, Arc<OwnedFd>)>) -> Self {
        self.over = over;
        self
    }

    /// The directory itself as `name` and all that is in it. `path` is where it
    /// is in the container.
    pub fn directory(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &str) -> Result<()> {
        self.own_header(dir, name)?;
        self.content(dir, name, path)
    }

    fn own_header(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let mut entry = self.describe(&fstat(dir)?, name);
        entry.xattrs = self.capability(dir);
        self.out.write_all(&header(&entry)).map_err(gone)
    }

    /// What is in a directory; `name` is put in front. A container can nest its
    /// directories as deep as it likes, so the way down is a list and no recursion.
    pub fn content(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &str) -> Result<()> {
        let mut open = vec![Level::open(dir, name, path)?];
        while let Some(level) = open.last_mut() {
            let Some(child) = level.names.next() else {
                open.pop();
                continue;
            };
            let (name, path) = level.below(&child);
            // What is deeper has no path, and the original says so too.
            if path.len() > MAX_PATH {
                return Err(Error::from(Errno::ENAMETOOLONG).context(path));
            }
            if let Some(inner) = self.visible(level.dir.as_fd(), &child, &name, &path)? {
                open.push(Level::open(inner.as_fd(), &name, &path)?);
            }
        }
        Ok(())
    }

    /// One entry of a directory. What has vanished meanwhile is left out.
    pub fn entry(&mut self, dir: BorrowedFd<'_>, child: &CStr, name: &[u8], path: &str) -> Result<()> {
        match self.visible(dir, child, name, path)? {
            Some(inner) => self.content(inner.as_fd(), name, path),
            None => Ok(()),
        }
    }

    /// The entry itself; a directory is given back, for what is in it.
    fn visible(&mut self, dir: BorrowedFd<'_>, child: &CStr, name: &[u8], path: &str) -> Result<Option<Arc<OwnedFd>>> {
        match self.try_entry(dir, child, name, path) {
            Err(e) if e.kind() == crate::error::Kind::NotFound => Ok(None),
            other => other,
        }
    }

    fn try_entry(
        &mut self,
        dir: BorrowedFd<'_>,
        child: &CStr,
        name: &[u8],
        path: &str,
    ) -> Result<Option<Arc<OwnedFd>>> {
        let vanished = |e: Errno| match e {
            Errno::ENOENT => Error::not_found("vanished"),
            e => Error::from(e).context(path.to_owned()),
        };
        let nofollow = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        if let Some((_, root)) = self.over.iter().find(|(d, _)| d == path)
            && SFlag::from_bits_truncate(fstat(root)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG
        {
            let root = root.clone();
            return self.file(File::open(crate::sys::fd::proc_path(&root))?, name);
        }
        let stat = fstatat(dir, child, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(vanished)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFDIR {
            let flags = nofollow | OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let inner = match self.over.iter().find(|(d, _)| d == path) {
                Some((_, root)) => root.clone(),
                None => Arc::new(openat(dir, child, flags, Mode::empty()).map_err(vanished)?),
            };
            self.own_header(inner.as_fd(), name)?;
            return Ok(Some(inner));
        }
        if stat.st_nlink > 1 && kind != SFlag::S_IFSOCK {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let mut entry = Entry { kind: Kind::HardLink, size: 0, ..self.describe(&stat, name) };
                entry.link.clone_from(first);
                self.out.write_all(&header(&entry)).map_err(gone)?;
                return Ok(None);
            }
            self.links.insert((stat.st_dev, stat.st_ino), name.to_vec());
        }
        let mut entry = self.describe(&stat, name);
        match entry.kind {
            Kind::File => {
                let flags = nofollow | OFlag::O_RDONLY | OFlag::O_NONBLOCK;
                return self.file(File::from(openat(dir, child, flags, Mode::empty()).map_err(vanished)?), name);
            }
            Kind::Symlink => {
                entry.link = std::os::unix::ffi::OsStringExt::into_vec(readlinkat(dir, child).map_err(vanished)?);
            }
            // Sockets cannot be archived.
            Kind::Other(_) => return Ok(None),
            _ => {}
        }
        self.out.write_all(&header(&entry)).map_err(gone)?;
        Ok(None)
    }

    fn file(&mut self, file: File, name: &[u8]) -> Result<Option<Arc<OwnedFd>>> {
        let stat = fstat(&file)?;
        let mut entry = self.describe(&stat, name);
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        entry.xattrs = self.capability(file.as_fd());
        self.out.write_all(&header(&entry)).map_err(gone)?;
        self.payload(file, entry.size)?;
        Ok(None)
    }

    /// A file that grows or shrinks while it is read gives what its header says.
    fn payload(&mut self, file: File, size: u64) -> Result<()> {
        let copied = std::io::copy(&mut file.take(size), self.out).map_err(gone)?;
        let missing = size - copied + padding(size) as u64;
        std::io::copy(&mut std::io::repeat(0).take(missing), self.out).map_err(gone)?;
        Ok(())
    }

    fn describe(&self, stat: &FileStat, name: &[u8]) -> Entry {
        let (uid, gid) = self.owners.map_or((stat.st_uid, stat.st_gid), |o| o.shown(stat.st_uid, stat.st_gid));
        Entry {
            uid: uid.into(),
            gid: gid.into(),
            mtime: Time { secs: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
            ..Entry::of(name, stat)
        }
    }

    fn capability(&self, fd: BorrowedFd<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let value = fgetxattr(fd, CAPABILITY).or_else(|_| {
            let path = CString::new(crate::sys::fd::proc_path(&fd)).map_err(|_| Errno::EINVAL)?;
            lgetxattr(&path, CAPABILITY)
        });
        let Ok(value) = value else { return Vec::new() };
        let name = CAPABILITY.to_bytes();
        vec![(name.to_vec(), self.owners.map_or_else(|| value.clone(), |o| o.shown_xattr(name, value.clone())))]
    }

    pub fn finish(self) -> Result<()> {
        self.out.write_all(&END).and_then(|()| self.out.flush()).map_err(gone)
    }
}

/// The reader of the stream went away.
fn gone(e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => Error::cancelled(),
        _ => Error::from(e).context("write an archive"),
    }
}

/// A path in a view as a tar whose root is the path's own last name.
pub fn path(view: &super::view::View, path: &str, container: &str, out: &mut dyn Write) -> Result<()> {
    use super::path::{absolute, base, follows};
    use super::view::path_error;
    let full = absolute(path);
    let failed = |e| path_error(e, path, container);
    let found = view.find(&full, follows(&full)).map_err(failed)?;
    let stat = fstat(&found)?;
    let name = base(&full).as_bytes();
    let over = view.over.iter().map(|o| (o.destination.clone(), o.root.clone())).collect();
    let mut archiver = Archiver::new(out, view.record.owners).with_over(over);
    if super::stat::is_dir(&stat) {
        archiver.directory(found.as_fd(), name, &crate::util::path::absolute(&full))?;
    } else {
        let cleaned = crate::util::path::absolute(&full);
        let (parent, last) = cleaned.rsplit_once('/').unwrap_or(("", &cleaned));
        let parent = view.find(if parent.is_empty() { "/" } else { parent }, true).map_err(failed)?;
        let last = CString::new(last).context("read the path")?;
        archiver.entry(parent.as_fd(), &last, name, &cleaned)?;
    }
    archiver.finish()
}

/// The root for `docker export`: the image and the writable layer, no volumes.
pub fn export(engine: &crate::engine::Engine, container: &crate::engine::container::Container) -> Result<OwnedFd> {
    let record = container.record();
    if record.state.phase == crate::engine::container::state::Phase::Dead {
        return Err(Error::conflict(format!("You cannot export container {} which is Dead", container.id)));
    }
    let options = crate::storage::RwOptions { volatile: record.volatile };
    engine.driver.mount_rw(&record.id, &record.lowers(), options)
}

impl From<std::ffi::NulError> for Error {
    fn from(_: std::ffi::NulError) -> Self {
        Error::invalid("a path cannot contain a zero byte")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tar::read::{Discard, Reader};

    #[test]
    fn a_tree_becomes_a_tar() {
        let base = std::env::temp_dir().join(format!("coracle-archive-{}", std::process::id()));
        std::fs::create_dir_all(base.join("d")).unwrap();
        std::fs::write(base.join("d/f"), b"hello").unwrap();
        std::fs::hard_link(base.join("d/f"), base.join("d/g")).unwrap();
        std::os::unix::fs::symlink("/x", base.join("l")).unwrap();
        let mut bytes = Vec::new();
        let mut archiver = Archiver::new(&mut bytes, None);
        archiver.directory(File::open(&base).unwrap().as_fd(), b"t", "/t").unwrap();
        archiver.finish().unwrap();
        let mut reader = Reader::new(&bytes[..], Discard);
        let mut names = Vec::new();
        while let Some(entry) = reader.entry().unwrap() {
            names.push((String::from_utf8(entry.name).unwrap(), entry.kind));
        }
        let expected = [
            ("t/", Kind::Dir),
            ("t/d/", Kind::Dir),
            ("t/d/f", Kind::File),
            ("t/d/g", Kind::HardLink),
            ("t/l", Kind::Symlink),
        ];
        assert_eq!(names, expected.map(|(n, k)| (n.to_owned(), k)));
        std::fs::remove_dir_all(&base).unwrap();
    }
}
