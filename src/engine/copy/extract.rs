//! A tar stream into a directory of a container: `docker cp` in. Runs on the
//! request's thread.
//!
//! An entry's parents are resolved inside the container's root, symlinks
//! included; the entry itself never follows one: what is there is replaced.
//!
//! Invariant: a file comes into its place whole. One that failed, for want of room
//! or of the rest of the stream, is not there, and what it was to replace still is.

use super::view::{View, path_error};

use crate::error::{Error, Result};
use crate::image::compress;
use crate::storage::apply::{Limits, clean};
use crate::storage::owners::Owners;
use crate::storage::tar::read::{Discard, Reader};
use crate::storage::tar::{Entry, Kind};
use crate::storage::tree::{self, Dirs};
use crate::sys::fs::fsetxattr;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstatat, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Refuse to put a directory over a file or a file over a directory.
    pub no_overwrite_dir_non_dir: bool,
    /// Everything belongs to this user instead of the ids in the tar.
    pub owner: Option<(u32, u32)>,
}

pub fn extract(view: &View, path: &str, container: &str, input: &mut dyn Read, options: Options) -> Result<()> {
    let full = super::path::absolute(path);
    let resolved = view.resolve(full.trim_end_matches("/.")).map_err(|e| path_error(e, path, container))?;
    let target = view.find(&resolved, true).map_err(|e| path_error(e, path, container))?;
    if !super::stat::is_dir(&nix::sys::stat::fstat(&target)?) {
        return Err(Error::invalid("extraction point is not a directory"));
    }
    view.check_writable(&resolved)?;
    let place = view.place(&resolved);
    let owners = view.record.owners;
    let dirs = Dirs::new(place.root).owned_by(owners.map(|o| o.stored(0, 0)));
    let mut this = Extract { dirs, prefix: place.path, options, owners, times: Vec::new() };
    let unpacked = compress::auto(input).map_err(|e| Error::invalid(e.to_string()))?;
    let mut reader = Reader::new(BufReader::with_capacity(64 << 10, unpacked), Discard);
    let mut before = 0;
    while let Some(entry) = reader.entry().map_err(tar_error)? {
        this.entry(&mut reader, &entry).map_err(|e| match before {
            0 => e.with_hint("Nothing was copied."),
            n => e.with_hint(format!("{n} entries of the archive before it were copied; nothing was after it.")),
        })?;
        before += 1;
    }
    reader.finish().map_err(tar_error)?;
    this.directory_times();
    Ok(())
}

fn tar_error(e: std::io::Error) -> Error {
    Error::invalid(e.to_string())
}

type Source<'r> = Reader<BufReader<Box<dyn Read + 'r>>, Discard>;

struct Extract<'a> {
    dirs: Dirs<'a>,
    prefix: String,
    options: Options,
    /// Those of the container's user namespace.
    owners: Option<Owners>,
    /// Directories get their times when nothing touches them any more.
    times: Vec<(Vec<u8>, TimeSpec)>,
}

impl Extract<'_> {
    fn entry(&mut self, reader: &mut Source<'_>, entry: &Entry) -> Result<()> {
        let name = clean(&entry.name, Limits::default())?;
        if name.is_empty() && entry.kind == Kind::Dir {
            // The archive's own root: the destination keeps its owner and mode.
            return Ok(());
        }
        let prefix = self.prefix.trim_matches('/').as_bytes();
        let path = match (prefix.is_empty(), name.is_empty()) {
            (true, _) => name,
            (false, true) => prefix.to_vec(),
            (false, false) => [prefix, b"/", &name].concat(),
        };
        let Some((parent, last)) = split(&path) else { return Ok(()) };
        let last = CString::new(last)?;
        let parent = self.dirs.parent(parent).map_err(|e| failed(e, &path))?;
        self.place(reader, parent.as_fd(), &last, &path, entry).map_err(|e| e.context(shown(&path)))
    }

    fn place(
        &mut self,
        reader: &mut Source<'_>,
        parent: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        entry: &Entry,
    ) -> Result<()> {
        let is_dir = entry.kind == Kind::Dir;
        if let Ok(stat) = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            let there = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
            if there != is_dir && self.options.no_overwrite_dir_non_dir {
                let (old, new) = if there { ("directory", "non-directory") } else { ("non-directory", "directory") };
                let shown = shown(path);
                return Err(Error::invalid(format!("cannot overwrite {old} \"{shown}\" with {new} \"{shown}\"")));
            }
            // A file takes the place of another in one step, at its end.
            if there != is_dir || !(is_dir || entry.kind == Kind::File) {
                if entry.kind == Kind::File {
                    return self.file(reader, parent, name, entry, true);
                }
                tree::remove(parent, name)?;
                self.dirs.forget();
            }
        }
        match entry.kind {
            Kind::Dir => return self.directory(parent, name, path, entry),
            Kind::File => return self.file(reader, parent, name, entry, false),
            Kind::Symlink => symlinkat(CString::new(entry.link.clone())?.as_c_str(), parent, name)?,
            Kind::HardLink => return self.hard_link(parent, name, entry),
            Kind::Fifo => mknodat(parent, name, SFlag::S_IFIFO, Mode::from_bits_truncate(entry.mode), 0)?,
            Kind::Char | Kind::Block => {
                let kind = if entry.kind == Kind::Char { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
                let device = nix::sys::stat::makedev(entry.major.into(), entry.minor.into());
                match mknodat(parent, name, kind, Mode::from_bits_truncate(entry.mode), device) {
                    // A user namespace makes none.
                    Err(Errno::EPERM) => return Ok(()),
                    other => other?,
                }
            }
            Kind::Other(_) => return Ok(()),
        }
        let (uid, gid) = self.owner(entry);
        tolerate(fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW))?;
        if entry.kind != Kind::Symlink {
            // The container may have put a symlink there meanwhile.
            fchmodat(parent, name, Mode::from_bits_truncate(entry.mode), FchmodatFlags::NoFollowSymlink)?;
        }
        let time = time(entry);
        utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)?;
        Ok(())
    }

    fn owner(&self, entry: &Entry) -> (Uid, Gid) {
        let (uid, gid) = self.options.owner.unwrap_or((entry.uid as u32, entry.gid as u32));
        let (uid, gid) = self.owners.map_or((uid, gid), |o| o.stored(uid, gid));
        (Uid::from_raw(uid), Gid::from_raw(gid))
    }

    fn attributes(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        let (uid, gid) = self.owner(entry);
        tolerate(fchown(fd, Some(uid), Some(gid)))?;
        for (name, value) in &entry.xattrs {
            // Not every file system has them all.
            let _ = fsetxattr(fd, &CString::new(name.clone())?, value);
        }
        fchmod(fd, Mode::from_bits_truncate(entry.mode))?;
        Ok(())
    }

    fn directory(&mut self, parent: BorrowedFd<'_>, name: &CStr, path: &[u8], entry: &Entry) -> Result<()> {
        match mkdirat(parent, name, Mode::from_bits_truncate(0o700)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = openat(parent, name, flags, Mode::empty())?;
        self.attributes(dir.as_fd(), entry)?;
        self.times.push((path.to_vec(), time(entry)));
        Ok(())
    }

    /// `over`: the place is a directory's, which goes when the file is whole.
    fn file(
        &mut self,
        reader: &mut Source<'_>,
        parent: BorrowedFd<'_>,
        name: &CStr,
        entry: &Entry,
        over: bool,
    ) -> Result<()> {
        let new = NewFile::make(parent)?;
        self.fill(reader, &new.file, entry)?;
        self.attributes(new.file.as_fd(), entry)?;
        let time = time(entry);
        nix::sys::stat::futimens(new.file.as_fd(), &time, &time)?;
        if over {
            tree::remove(parent, name)?;
            self.dirs.forget();
        }
        new.place(name)
    }

    fn fill(&self, reader: &mut Source<'_>, mut file: &File, entry: &Entry) -> Result<()> {
        let pieces = match &entry.sparse {
            Some(sparse) => sparse.pieces.clone(),
            None => vec![(0, entry.size)],
        };
        for (offset, length) in pieces {
            use std::io::Seek;
            file.seek(std::io::SeekFrom::Start(offset))?;
            let mut left = length;
            while left > 0 {
                let data = reader.payload().map_err(tar_error)?;
                let n = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                if n == 0 {
                    return Err(Error::invalid("unexpected EOF"));
                }
                file.write_all(&data[..n])?;
                reader.consume(n);
                left -= n as u64;
            }
        }
        if entry.sparse.is_some() {
            file.set_len(entry.length())?;
        }
        Ok(())
    }

    fn hard_link(&mut self, parent: BorrowedFd<'_>, name: &CStr, entry: &Entry) -> Result<()> {
        let target = clean(&entry.link, Limits::default())?;
        let prefix = self.prefix.trim_matches('/').as_bytes();
        let target = if prefix.is_empty() { target } else { [prefix, b"/", &target].concat() };
        let (dir, last) = split(&target).ok_or_else(|| Error::invalid("a hard link to the root"))?;
        let dir = self.dirs.existing(dir).map_err(|e| failed(e, &target))?;
        linkat(&*dir, CString::new(last)?.as_c_str(), parent, name, LinkatFlags::empty())?;
        Ok(())
    }

    fn directory_times(&mut self) {
        for (path, time) in std::mem::take(&mut self.times).into_iter().rev() {
            if let Some((parent, last)) = split(&path)
                && let (Ok(dir), Ok(last)) = (self.dirs.existing(parent), CString::new(last))
            {
                let _ = utimensat(&*dir, last.as_c_str(), &time, &time, UtimensatFlags::NoFollowSymlink);
            }
        }
    }
}

/// A file on its way to its place: without a name where the file system has such
/// files, else under one of ours, which goes with a failure.
struct NewFile<'p> {
    parent: BorrowedFd<'p>,
    file: File,
    name: Option<CString>,
}

impl<'p> NewFile<'p> {
    fn make(parent: BorrowedFd<'p>) -> Result<Self> {
        let (flags, mode) = (OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o600));
        if let Ok(file) = openat(parent, c".", flags | OFlag::O_TMPFILE, mode) {
            return Ok(Self { parent, file: file.into(), name: None });
        }
        let name = Self::own_name();
        let file = openat(parent, &*name, flags | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW, mode)?;
        Ok(Self { parent, file: file.into(), name: Some(name) })
    }

    fn own_name() -> CString {
        CString::new(format!(".copied-{}", &crate::util::id::random()[..16])).unwrap_or_default()
    }

    fn place(mut self, name: &CStr) -> Result<()> {
        if self.name.is_none() {
            let own = crate::sys::fd::proc_path(&self.file);
            let link = |to: &CStr| linkat(AT_FDCWD, own.as_str(), self.parent, to, LinkatFlags::AT_SYMLINK_FOLLOW);
            let temporary = Self::own_name();
            match link(name) {
                Ok(()) => return Ok(()),
                Err(Errno::EEXIST) => link(&temporary)?,
                Err(e) => return Err(e.into()),
            }
            self.name = Some(temporary);
        }
        if let Some(own) = &self.name {
            renameat(self.parent, own.as_c_str(), self.parent, name)?;
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = unlinkat(self.parent, name.as_c_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Parent and last name of a cleaned path; none of the root.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    })
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

fn failed(e: Errno, path: &[u8]) -> Error {
    Error::from(e).context(shown(path))
}

fn time(entry: &Entry) -> TimeSpec {
    TimeSpec::new(entry.mtime.secs, entry.mtime.nanos.into())
}

/// An owner that is not mapped here cannot be given; the content matters more.
fn tolerate(result: nix::Result<()>) -> Result<()> {
    match result {
        Err(Errno::EINVAL | Errno::EPERM) | Ok(()) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// The ids of the container's own user, looked up in its own files.
pub fn owner_of(view: &View) -> Result<(u32, u32)> {
    let spec = view.record.config.user.as_str();
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    let read = |path: &str| -> String {
        let text = CString::new(path).unwrap_or_default();
        let place = view.place(path);
        let file = crate::sys::fs::open_in(place.root, &text, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty());
        let mut content = String::new();
        if let Ok(file) = file {
            let _ = File::from(file).take(4 << 20).read_to_string(&mut content);
        }
        content
    };
    let field = |line: &str, n: usize| line.split(':').nth(n).map(str::to_owned);
    let number = |text: Option<String>| text.and_then(|t| t.parse::<u32>().ok());
    let user = if user.is_empty() { "0" } else { user };
    let passwd = read("/etc/passwd");
    let line = passwd.lines().find(|l| field(l, 0).as_deref() == Some(user) || field(l, 2).as_deref() == Some(user));
    let uid = match (user.parse::<u32>(), line) {
        (_, Some(line)) => number(field(line, 2)),
        (Ok(uid), None) => Some(uid),
        (Err(_), None) => None,
    };
    let uid =
        uid.ok_or_else(|| Error::invalid(format!("unable to find user {user}: no matching entries in passwd file")))?;
    let gid = match group {
        "" => line.and_then(|l| number(field(l, 3))).unwrap_or(0),
        group => {
            let groups = read("/etc/group");
            let found =
                groups.lines().find(|l| field(l, 0).as_deref() == Some(group)).and_then(|l| number(field(l, 2)));
            found.or_else(|| group.parse().ok()).ok_or_else(|| {
                Error::invalid(format!("unable to find group {group}: no matching entries in group file"))
            })?
        }
    };
    Ok((uid, gid))
}
