//! Unpacks a layer's tar into its directory. Runs on the thread that commits the
//! layer, inside the daemon's user namespace.
//!
//! Invariants: (1) nothing is ever resolved outside the layer's root: parents by
//! openat2(RESOLVE_IN_ROOT), last components never followed; names are cleaned
//! lexically first and `..` out of the root is refused. (2) Every byte of the tar
//! is either in the tree or in the split record. (3) No fsync here: the image
//! store syncs the file system once per image.
//!
//! Docker's rules: a missing parent is made 0755 root; an entry replaces what is
//! there unless both are directories; device nodes are left out in a user
//! namespace (mknod is EPERM there), the split record still has them.

use super::attributes::{self, first_mode};
use super::behind::{Behind, Trail};
use super::content;
use super::split::{Moved, Writer};
use super::tar::read::Reader;
use super::tar::{Entry, Kind, Time};
use super::tree::{self, Dirs};
use super::{Staging, Whiteouts};
use crate::error::{Context, Error, Result};
use crate::sys::fs as sysfs;
use crate::util::json;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fstatat, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{LinkatFlags, UnlinkatFlags, linkat, symlinkat, unlinkat};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// What a hostile layer may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub entries: u64,
    pub path: usize,
    pub depth: usize,
    /// Bytes that all files together may claim.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 8_000_000, path: 4095, depth: 512, bytes: u64::MAX }
    }
}

/// How to unpack.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    pub limits: Limits,
    pub cancelled: &'a dyn Fn() -> bool,
    /// Only one id is mapped: owners go to `user.containers.override_stat`.
    pub single_id: bool,
    /// mknod of devices works (no user namespace).
    pub devices: bool,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    pub entries: u64,
    /// Docker's layer size: file lengths, each inode once, and symlink targets.
    pub size: u64,
}

const OPAQUE_XATTR: &CStr = c"user.overlay.opaque";
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

struct Apply<'a, W: Write> {
    root: &'a File,
    aside: &'a File,
    whiteouts: Whiteouts,
    options: Options<'a>,
    dirs: Dirs<'a>,
    split: Option<Writer<W>>,
    moved: Vec<Moved>,
    /// What this layer has made, where that must be told from the parent's
    /// (`Whiteouts::Apply`).
    made: BTreeSet<Vec<u8>>,
    /// Directory times, set when nothing will touch the directories any more:
    /// seconds, nanos, path length, path.
    times: Vec<u8>,
    outcome: Outcome,
    claimed: u64,
    trail: Trail,
}

/// Unpacks `tar` into `staging`; with `split`, records what makes it again and
/// returns its writer, finished.
pub fn apply<W: Write>(
    tar: &mut dyn BufRead,
    staging: &dyn Staging,
    split: Option<W>,
    options: Options<'_>,
) -> Result<(Outcome, Option<W>)> {
    let mut this = Apply {
        root: staging.root(),
        aside: staging.aside(),
        whiteouts: staging.whiteouts(),
        options,
        dirs: Dirs::new(staging.root().as_fd()),
        split: split.map(Writer::new),
        moved: Vec::new(),
        made: BTreeSet::new(),
        times: Vec::new(),
        outcome: Outcome::default(),
        claimed: 0,
        trail: Trail::default(),
    };
    let mut reader = Reader::new(tar, Tap(None));
    reader.capture.0 = this.split.take();
    while let Some(entry) = reader.entry().map_err(tar_error)? {
        if (options.cancelled)() {
            return Err(Error::cancelled());
        }
        this.outcome.entries += 1;
        if this.outcome.entries > options.limits.entries {
            return Err(Error::invalid(format!("layer has more than {} entries", options.limits.entries)));
        }
        this.entry(&mut reader, &entry)?;
    }
    reader.finish().map_err(tar_error)?;
    this.split = reader.capture.0.take();
    this.directory_times();
    if !this.moved.is_empty() {
        this.write_moved()?;
    }
    let split = this.split.take().map(Writer::finish).transpose().context("write the layer's tar record")?;
    Ok((this.outcome, split))
}

/// The writer lives in the reader while entries are read.
pub(super) struct Tap<W: Write>(Option<Writer<W>>);

impl<W: Write> super::tar::read::Capture for Tap<W> {
    fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.as_mut().map_or(Ok(()), |w| w.raw(bytes))
    }
}

/// Errors of the stream below are passed on as they are.
pub(super) fn tar_error(e: std::io::Error) -> Error {
    match e.downcast::<Error>() {
        Ok(inner) => inner,
        Err(e) if e.raw_os_error().is_some() => e.into(),
        Err(e) => Error::invalid(e.to_string()),
    }
}

fn display(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// `a//./b/../c` → `a/c`; the root is empty. Leaving the root is refused.
pub fn clean(name: &[u8], limits: Limits) -> Result<Vec<u8>> {
    let shown = || String::from_utf8_lossy(name).chars().take(256).collect::<String>();
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() && !name.starts_with(b"/") {
                    return Err(Error::invalid(format!("invalid tar entry: {:?} is outside of the layer", shown())));
                }
            }
            part => parts.push(part),
        }
    }
    if name.contains(&0) || parts.iter().any(|p| p.len() > 255) {
        return Err(Error::invalid(format!("invalid tar entry: {:?} is no file name", shown())));
    }
    if parts.len() > limits.depth || name.len() > limits.path {
        return Err(Error::invalid(format!("invalid tar entry: {:?}… is too deep or too long", shown())));
    }
    Ok(parts.join(&b'/'))
}

/// Directory part and last component of a clean path.
fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn below(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// Whether the layer made what is at `path`, be it as the parent of what it names.
fn made_here(made: &BTreeSet<Vec<u8>>, path: &[u8]) -> bool {
    let inside = below(path, b"");
    made.contains(path) || made.range(inside.clone()..).next().is_some_and(|next| next.starts_with(&inside))
}

pub(super) fn c(name: &[u8]) -> Result<CString> {
    CString::new(name).map_err(|_| Error::invalid("invalid tar entry: NUL in a name"))
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Where an entry goes.
#[derive(Clone, Copy)]
struct Spot<'a> {
    parent: BorrowedFd<'a>,
    name: &'a CStr,
    /// The whole path below the root, for records.
    path: &'a [u8],
    /// How many files have been recorded before it.
    files: u64,
}

impl<W: Write> Apply<'_, W> {
    fn entry<R: BufRead>(&mut self, reader: &mut Reader<R, Tap<W>>, entry: &Entry) -> Result<()> {
        if let Kind::Other(flag) = entry.kind {
            return Err(Error::invalid(format!("unhandled tar header type {flag}")));
        }
        let path = clean(&entry.name, self.options.limits)?;
        if path.is_empty() {
            // "./": the root itself.
            return if entry.kind == Kind::Dir { self.root_directory(entry) } else { Ok(()) };
        }
        let (dir, name) = split_path(&path);
        if name.starts_with(WHITEOUT) && self.whiteouts != Whiteouts::Literal {
            return self.whiteout(dir, name, entry);
        }
        let name = c(name)?;
        let parent = self.dirs.parent(dir).with_context(|| display(&path))?;
        // By a symlink's name nothing is found again once something takes its place.
        let path = match &parent.real {
            Some(real) if self.whiteouts != Whiteouts::Overlay => {
                self.made.insert(path.clone());
                below(real, name.to_bytes())
            }
            Some(real) => below(real, name.to_bytes()),
            None => path,
        };
        let files = reader.capture.0.as_ref().map_or(0, |w| w.files);
        let at = Spot { parent: parent.as_fd(), name: &name, path: &path, files };
        let result = match entry.kind {
            Kind::File => self.file(reader, at, entry),
            Kind::Dir => self.directory(at, entry),
            Kind::HardLink => self.hard_link(at, entry),
            Kind::Symlink => self.symlink(at, entry),
            _ => self.node(at, entry),
        };
        result.with_context(|| display(&path))?;
        if self.whiteouts == Whiteouts::Apply {
            self.made.insert(path);
        }
        Ok(())
    }

    /// Runs `make`; if something is in the way, clears it and runs it again.
    fn replacing<T>(&mut self, at: Spot<'_>, make: impl Fn() -> nix::Result<T>) -> Result<T> {
        match make() {
            Err(Errno::EEXIST) => {
                self.displace(at)?;
                Ok(make()?)
            }
            other => Ok(other?),
        }
    }

    /// Removes what is there, or puts it aside if a record points into it.
    fn displace(&mut self, Spot { parent, name, path, files }: Spot<'_>) -> Result<()> {
        self.dirs.forget();
        let kind = kind(&fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?);
        let ours = self.whiteouts != Whiteouts::Apply || made_here(&self.made, path);
        let recorded = files > 0 && matches!(kind, SFlag::S_IFREG | SFlag::S_IFDIR);
        if ours && recorded {
            let aside = format!("{}", self.moved.len());
            renameat(parent, name, self.aside, aside.as_str())?;
            self.moved.push(Moved { path: path.to_vec(), before: files, name: aside });
        } else if kind == SFlag::S_IFDIR {
            tree::remove(parent, name)?;
        } else {
            unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?;
        }
        Ok(())
    }

    fn file<R: BufRead>(&mut self, reader: &mut Reader<R, Tap<W>>, at: Spot<'_>, entry: &Entry) -> Result<()> {
        self.claimed = self.claimed.saturating_add(entry.length());
        if self.claimed > self.options.limits.bytes {
            return Err(Error::invalid(format!("layer unpacks to more than {} bytes", self.options.limits.bytes)));
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = first_mode(entry);
        let file: File = self.replacing(at, || openat(at.parent, at.name, flags, mode))?.into();
        let mut behind = Behind::default();
        let crc = match &entry.sparse {
            None => content::whole(reader, &file, entry.size, &mut behind, self.options.cancelled)?,
            Some(sparse) => {
                let crc = content::pieces(reader, &file, &sparse.pieces)?;
                file.set_len(sparse.length)?;
                crc
            }
        };
        if let Some(split) = &mut reader.capture.0 {
            match &entry.sparse {
                None if entry.size == 0 => {}
                None => split.file(at.path, entry.size, crc)?,
                Some(sparse) => split.sparse(at.path, &sparse.pieces, crc)?,
            }
        }
        self.outcome.size = self.outcome.size.saturating_add(entry.length());
        attributes::set(file.as_fd(), entry, self.options.single_id)?;
        if entry.sparse.is_none() {
            self.trail.push(file, &behind, entry.size);
        }
        Ok(())
    }

    fn directory(&mut self, at: Spot<'_>, entry: &Entry) -> Result<()> {
        let Spot { parent, name, path, .. } = at;
        let mut opaque = false;
        match mkdirat(parent, name, first_mode(entry)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                if kind(&stat) != SFlag::S_IFDIR {
                    // `.wh.x` and then `x/`: the lower directory stays hidden.
                    let whiteout = kind(&stat) == SFlag::S_IFCHR && stat.st_rdev == 0;
                    opaque = self.whiteouts == Whiteouts::Overlay && whiteout;
                    self.displace(at)?;
                    mkdirat(parent, name, first_mode(entry))?;
                }
            }
            Err(e) => return Err(e.into()),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(parent, name, flags, Mode::empty())?;
        if opaque {
            sysfs::fsetxattr(fd.as_fd(), OPAQUE_XATTR, b"y")?;
        }
        attributes::set(fd.as_fd(), entry, self.options.single_id)?;
        self.remember_times(path, entry.mtime);
        Ok(())
    }

    fn root_directory(&mut self, entry: &Entry) -> Result<()> {
        attributes::set(self.root.as_fd(), entry, self.options.single_id)?;
        self.remember_times(b"", entry.mtime);
        Ok(())
    }

    fn symlink(&mut self, at: Spot<'_>, entry: &Entry) -> Result<()> {
        let target = c(&entry.link)?;
        self.replacing(at, || symlinkat(target.as_c_str(), at.parent, at.name))?;
        self.outcome.size += entry.link.len() as u64;
        attributes::set_at(at.parent, at.name, entry, self.options.single_id)
    }

    fn hard_link(&mut self, at: Spot<'_>, entry: &Entry) -> Result<()> {
        let target = clean(&entry.link, self.options.limits)?;
        if target == at.path {
            return Ok(());
        }
        let (dir, base) = split_path(&target);
        let base = c(base)?;
        let from = tree::open_dir(self.root.as_fd(), dir).with_context(|| format!("link to {}", display(&target)))?;
        self.replacing(at, || linkat(&from, base.as_c_str(), at.parent, at.name, LinkatFlags::empty()))
            .with_context(|| format!("link to {}", display(&target)))
    }

    fn node(&mut self, at: Spot<'_>, entry: &Entry) -> Result<()> {
        let (kind, device) = match entry.kind {
            Kind::Fifo => (SFlag::S_IFIFO, 0),
            // A 0:0 character device would be a whiteout of overlay: not from a tar.
            _ if !self.options.devices || (entry.major, entry.minor) == (0, 0) => return Ok(()),
            Kind::Char => (SFlag::S_IFCHR, nix::sys::stat::makedev(entry.major.into(), entry.minor.into())),
            _ => (SFlag::S_IFBLK, nix::sys::stat::makedev(entry.major.into(), entry.minor.into())),
        };
        let mode = Mode::from_bits_truncate(0o600);
        self.replacing(at, || mknodat(at.parent, at.name, kind, mode, device))?;
        attributes::set_at(at.parent, at.name, entry, self.options.single_id)
    }

    fn whiteout(&mut self, dir: &[u8], name: &[u8], entry: &Entry) -> Result<()> {
        if name == OPAQUE {
            return self.opaque(dir);
        }
        let hidden = &name[WHITEOUT.len()..];
        // AUFS left its own bookkeeping under this prefix; it means nothing.
        if hidden.starts_with(WHITEOUT) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            let shown = String::from_utf8_lossy(&entry.name).into_owned();
            return Err(Error::invalid(format!("invalid whiteout {shown:?}")));
        }
        let path = below(dir, hidden);
        let hidden = c(hidden)?;
        match self.whiteouts {
            Whiteouts::Overlay => {
                let parent = self.dirs.parent(dir).with_context(|| display(&path))?;
                match mknodat(&parent, hidden.as_c_str(), SFlag::S_IFCHR, Mode::empty(), 0) {
                    // A whiteout hides lower layers only. What this layer itself
                    // put here stays; a directory no longer shows what is below.
                    Err(Errno::EEXIST) => self.make_opaque(&path, false),
                    other => other.with_context(|| format!("whiteout {}", display(&path))),
                }
            }
            _ if made_here(&self.made, &path) => self.opaque(&path),
            _ => {
                let parent = match tree::open_dir(self.root.as_fd(), dir) {
                    Ok(parent) => parent,
                    Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
                    Err(e) => return Err(e.into()),
                };
                self.dirs.forget();
                tree::remove(parent.as_fd(), &hidden).with_context(|| format!("whiteout {}", display(&path)))
            }
        }
    }

    fn opaque(&mut self, dir: &[u8]) -> Result<()> {
        match self.whiteouts {
            Whiteouts::Overlay => self.make_opaque(dir, true),
            _ => {
                self.dirs.forget();
                let keep = |path: &[u8]| made_here(&self.made, path);
                tree::remove_children_except(self.root.as_fd(), dir, &keep)
                    .with_context(|| format!("opaque {}", display(dir)))
            }
        }
    }

    /// Marks a directory of this layer; `create` makes it first.
    fn make_opaque(&mut self, path: &[u8], create: bool) -> Result<()> {
        if create {
            self.dirs.parent(path).with_context(|| display(path))?;
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let place = if path.is_empty() { c(b".")? } else { c(path)? };
        match sysfs::open_in(self.root.as_fd(), &place, flags, Mode::empty()) {
            Ok(fd) => Ok(sysfs::fsetxattr(fd.as_fd(), OPAQUE_XATTR, b"y")?),
            Err(Errno::ENOTDIR | Errno::ELOOP) if !create => Ok(()),
            Err(e) => Err(Error::from(e).context(format!("opaque {}", display(path)))),
        }
    }

    fn remember_times(&mut self, path: &[u8], time: Time) {
        self.times.extend_from_slice(&time.secs.to_le_bytes());
        self.times.extend_from_slice(&time.nanos.to_le_bytes());
        self.times.extend_from_slice(&(path.len() as u32).to_le_bytes());
        self.times.extend_from_slice(path);
    }

    /// A directory that was replaced meanwhile simply keeps its time.
    fn directory_times(&mut self) {
        let times = std::mem::take(&mut self.times);
        let mut rest = times.as_slice();
        while let Some((head, tail)) = rest.split_first_chunk::<16>() {
            let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let seconds = u64::from(number(4)) << 32 | u64::from(number(0));
            let time = TimeSpec::new(seconds as i64, number(8).into());
            let (path, tail) = tail.split_at(number(12) as usize);
            rest = tail;
            let (dir, name) = split_path(path);
            let Ok(name) = c(if name.is_empty() { b"." } else { name }) else { continue };
            if let Ok(parent) = self.dirs.existing(dir) {
                let _ = utimensat(&parent, name.as_c_str(), &time, &time, UtimensatFlags::NoFollowSymlink);
            }
        }
    }

    fn write_moved(&self) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(self.aside, super::split::MOVED, flags, Mode::from_bits_truncate(0o600))?;
        let mut file = File::from(file);
        Ok(file.write_all(&json::to_vec(&self.moved)?)?)
    }
}
