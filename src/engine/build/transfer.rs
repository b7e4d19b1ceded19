//! COPY and ADD: which files go where, what they hash to, and the layer they
//! make. Runs on the thread of its stage.
//!
//! Theory of operation. Sources and the destination are trees of strangers, so
//! every path is resolved by `openat2` inside its root. A first pass lists the
//! entries and hashes names, modes, owners and contents, without times: that is
//! the cache's key. Only when the cache has nothing, a second pass writes the
//! entries as a tar, which the image store takes in like any pulled layer.

use super::instruction::Transfer;
use crate::engine::build::state::clean;
use crate::error::{Context, Error, Result};
use crate::image::digest::{Digest, Hasher};
use crate::storage::tar::{Entry, Kind, Time, write};
use crate::storage::tree;
use crate::sys::fs as sysfs;
use crate::util::glob::{self, Pattern};
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Where sources are read.
#[derive(Clone)]
pub struct Root {
    pub fd: Arc<OwnedFd>,
    /// For messages: "build context", a stage, an image.
    pub name: String,
}

/// Owner and mode that replace those of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    pub owner: (u64, u64),
    pub mode: Option<ModeChange>,
}

/// `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    Absolute(u32),
    /// Who (bits of u, g, o), operator, permissions (`rwxXst`).
    Symbolic(Vec<(u32, char, String)>),
}

/// What an entry's bytes are.
#[derive(Clone)]
enum Content {
    /// A file below a root.
    File(Root, String),
    /// A heredoc or a download.
    Bytes(Arc<Vec<u8>>),
    None,
}

/// One entry of the layer to be.
#[derive(Clone)]
struct Item {
    entry: Entry,
    content: Content,
}

/// The entries in order, each path once: a later source wins over an earlier one.
#[derive(Default)]
pub struct Layer {
    items: BTreeMap<Vec<u8>, Item>,
}

/// The state of the stage's root file system, to resolve destinations in.
pub struct Target {
    pub fd: Option<OwnedFd>,
    pub workdir: String,
}

impl Layer {
    /// Adds what one COPY takes from `root`. `sources` and `destination` are
    /// expanded; globs are matched here.
    pub fn add(
        &mut self,
        root: &Root,
        sources: &[String],
        destination: &str,
        target: &Target,
        copy: &Transfer,
        overrides: &Overrides,
    ) -> Result<()> {
        let excludes = copy.excludes.iter().map(|e| Pattern::new(e.trim_start_matches('/')));
        let excludes: Vec<Pattern> =
            excludes.collect::<Result<_, _>>().map_err(|e| Error::invalid(format!("--exclude: {e}")))?;
        let mut found = Vec::new();
        for source in sources {
            let matches = match_source(root, source, copy.exec_form)?;
            if matches.is_empty() {
                let place = match copy.from {
                    Some(_) => format!("in {}", root.name),
                    None => "in build context or excluded by .dockerignore".to_owned(),
                };
                let what = format!("COPY failed: file not found {place}: stat {source}: file does not exist");
                return Err(Error::not_found(what));
            }
            found.extend(matches.into_iter().map(|m| (source.clone(), m)));
        }
        let into_dir = found.len() > 1 || destination.ends_with('/') || target.is_dir(destination);
        if found.len() > 1 && !destination.ends_with('/') && !target.is_dir(destination) {
            return Err(Error::invalid(
                "When using COPY with more than one source file, the destination must be a directory and end with a /",
            ));
        }
        let destination = target.resolve(destination)?;
        for (pattern, path) in found {
            let stat = root.stat(&path)?;
            let base = match (copy.parents, is(&stat, SFlag::S_IFDIR)) {
                (true, _) => join(&destination, &below_pivot(&pattern, &path)),
                (false, true) => destination.clone(),
                (false, false) if into_dir => join(&destination, file_name(&path)),
                (false, false) => destination.clone(),
            };
            let walk = Walk { root, excludes: &excludes, overrides, source: &path };
            self.parents(&base, target);
            walk.add(self, &path, &base, &stat, copy.parents || !is(&stat, SFlag::S_IFDIR))?;
        }
        Ok(())
    }

    /// A heredoc or a download.
    pub fn add_bytes(
        &mut self,
        name: &str,
        bytes: Vec<u8>,
        destination: &str,
        target: &Target,
        mode: u32,
        overrides: &Overrides,
    ) -> Result<()> {
        let into_dir = destination.ends_with('/') || target.is_dir(destination);
        let resolved = target.resolve(destination)?;
        let path = if into_dir { join(&resolved, name) } else { resolved };
        self.parents(&path, target);
        let mode = overrides.mode.as_ref().map_or(mode, |m| m.apply(mode, false));
        let entry = Entry {
            name: path.clone().into_bytes(),
            kind: Kind::File,
            mode,
            uid: overrides.owner.0,
            gid: overrides.owner.1,
            size: bytes.len() as u64,
            ..Entry::default()
        };
        self.insert(entry, Content::Bytes(Arc::new(bytes)));
        Ok(())
    }

    /// An unpacked archive: owners stay, unless they are overridden.
    pub fn add_tree(&mut self, root: &Root, destination: &str, target: &Target, overrides: &Overrides) -> Result<()> {
        let base = target.resolve(destination)?;
        self.add_dir(&base, target)?;
        let mut tree = everything(root)?;
        for (path, mut item) in std::mem::take(&mut tree.items) {
            if path == b"/" {
                continue;
            }
            let path = [base.trim_end_matches('/').as_bytes(), &path].concat();
            if overrides.owner != (0, 0) {
                (item.entry.uid, item.entry.gid) = overrides.owner;
            }
            if let Some(mode) = &overrides.mode
                && item.entry.kind != Kind::Symlink
            {
                item.entry.mode = mode.apply(item.entry.mode, item.entry.kind == Kind::Dir);
            }
            item.entry.name.clone_from(&path);
            self.items.insert(path, item);
        }
        Ok(())
    }

    /// A directory by itself (WORKDIR).
    pub fn add_dir(&mut self, path: &str, target: &Target) -> Result<()> {
        let resolved = target.resolve(path)?;
        self.parents(&join(&resolved, "x"), target);
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn insert(&mut self, entry: Entry, content: Content) {
        self.items.insert(entry.name.clone(), Item { entry, content });
    }

    /// The directories above `path`: those that the lower layers have come along
    /// as they are (a layer would else reset them), missing ones are root's, 0755.
    fn parents(&mut self, path: &str, target: &Target) {
        let ends: Vec<usize> = path.match_indices('/').map(|(i, _)| i).filter(|i| *i > 0).collect();
        for end in ends {
            let parent = &path[..end];
            if self.items.contains_key(parent.as_bytes()) {
                continue;
            }
            let entry = match target.stat(parent) {
                Some(stat) if is(&stat, SFlag::S_IFDIR) => from_stat(parent, &stat),
                _ => Entry { name: parent.as_bytes().to_vec(), kind: Kind::Dir, mode: 0o755, ..Entry::default() },
            };
            self.insert(entry, Content::None);
        }
    }

    /// Names, modes, owners, targets and contents; times do not count.
    pub fn digest(&self) -> Result<Digest> {
        let mut hash = Hasher::new();
        let mut buffer = vec![0; 128 << 10];
        for item in self.items.values() {
            let e = &item.entry;
            let head = format!("{:?} {:o} {} {} {} {}\n", e.kind, e.mode, e.uid, e.gid, e.size, e.name.len());
            hash.update(head.as_bytes());
            hash.update(&e.name);
            hash.update(&e.link);
            for (name, value) in &e.xattrs {
                hash.update(name);
                hash.update(value);
            }
            item.content.read(&mut buffer, e.size, &mut |bytes| {
                hash.update(bytes);
                Ok(())
            })?;
        }
        Ok(hash.finish())
    }

    /// The layer's tar. `epoch` replaces later times.
    pub fn write(&self, out: &mut dyn Write, epoch: Option<i64>) -> Result<()> {
        let mut buffer = vec![0; 128 << 10];
        for item in self.items.values() {
            let mut entry = item.entry.clone();
            entry.name = entry.name.strip_prefix(b"/").unwrap_or(&entry.name).to_vec();
            if entry.name.is_empty() {
                continue;
            }
            if let Some(epoch) = epoch {
                entry.mtime.secs = entry.mtime.secs.min(epoch);
            }
            out.write_all(&write::header(&entry))?;
            item.content.read(&mut buffer, entry.size, &mut |bytes| Ok(out.write_all(bytes)?))?;
            out.write_all(&vec![0; write::padding(entry.size)])?;
        }
        out.write_all(&write::END)?;
        Ok(())
    }
}

impl Content {
    /// Exactly `size` bytes.
    fn read(&self, buffer: &mut [u8], size: u64, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match self {
            Content::None => Ok(()),
            Content::Bytes(bytes) => take(bytes),
            Content::File(root, path) => {
                let mut file = root.open(path)?;
                let mut left = size;
                while left > 0 {
                    let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let n = file.read(&mut buffer[..want]).with_context(|| format!("read {path}"))?;
                    if n == 0 {
                        return Err(Error::system(format!("{path} in the {} changed while it was copied", root.name)));
                    }
                    take(&buffer[..n])?;
                    left -= n as u64;
                }
                Ok(())
            }
        }
    }
}

struct Walk<'a> {
    root: &'a Root,
    excludes: &'a [Pattern],
    overrides: &'a Overrides,
    source: &'a str,
}

impl Walk<'_> {
    /// `own`: the entry itself goes too, not only what a directory holds.
    fn add(&self, layer: &mut Layer, path: &str, to: &str, stat: &FileStat, own: bool) -> Result<()> {
        let inside = path.strip_prefix(self.source).unwrap_or(path).trim_start_matches('/');
        let name = if inside.is_empty() { file_name(path) } else { inside };
        if !(inside.is_empty() && is(stat, SFlag::S_IFDIR)) && self.excludes.iter().any(|e| e.matches_or_parent(name)) {
            return Ok(());
        }
        let mut entry = from_stat(to, stat);
        (entry.uid, entry.gid) = self.overrides.owner;
        if let Some(change) = &self.overrides.mode
            && entry.kind != Kind::Symlink
        {
            entry.mode = change.apply(entry.mode, entry.kind == Kind::Dir);
        }
        match entry.kind {
            Kind::Dir => {
                // The destination itself keeps what it was if it was there.
                if own || !layer.items.contains_key(to.as_bytes()) {
                    layer.insert(entry, Content::None);
                }
                return self.children(layer, path, to);
            }
            Kind::Symlink => {
                entry.link = self.root.read_link(path)?;
                layer.insert(entry, Content::None);
            }
            Kind::File => {
                entry.xattrs = self.root.xattrs(path);
                layer.insert(entry, Content::File(self.root.clone(), path.to_owned()));
            }
            // Devices cannot be made by us; sockets and fifos are no content.
            _ => {}
        }
        Ok(())
    }

    fn children(&self, layer: &mut Layer, path: &str, to: &str) -> Result<()> {
        let dir = self.root.open_dir(path)?;
        let mut names: Vec<String> = tree::list(dir.as_fd())?
            .into_iter()
            .map(|(name, _)| {
                name.into_string().map_err(|_| Error::invalid(format!("a file name below {path} is not UTF-8")))
            })
            .collect::<Result<_>>()?;
        names.sort();
        for name in names {
            let child = join(path, &name);
            let stat = self.root.stat(&child)?;
            self.add(layer, &child, &join(to, &name), &stat, true)?;
        }
        Ok(())
    }
}

impl Root {
    fn open_with(&self, path: &str, flags: OFlag) -> Result<OwnedFd> {
        let relative = path.trim_start_matches('/');
        let c = CString::new(if relative.is_empty() { "." } else { relative })
            .map_err(|_| Error::invalid(format!("{path:?} holds a NUL byte")))?;
        sysfs::open_in(self.fd.as_fd(), &c, flags | OFlag::O_CLOEXEC, Mode::empty())
            .map(Into::into)
            .map_err(|e| Error::from(e).context(format_args!("{path} in the {}", self.name)))
    }

    /// A regular file's content. O_NONBLOCK: what was a file may be a fifo now.
    pub fn open(&self, path: &str) -> Result<File> {
        Ok(self.open_with(path, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK)?.into())
    }

    fn open_dir(&self, path: &str) -> Result<OwnedFd> {
        self.open_with(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    /// The entry itself, a symlink not followed.
    fn stat(&self, path: &str) -> Result<FileStat> {
        let fd = self.open_with(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        Ok(fstat(&fd)?)
    }

    fn read_link(&self, path: &str) -> Result<Vec<u8>> {
        let fd = self.open_with(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        Ok(nix::fcntl::readlinkat(&fd, c"")?.into_encoded_bytes())
    }

    /// Capabilities and the user's own attributes; what cannot be read is not there.
    fn xattrs(&self, path: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let Ok(file) = self.open(path) else { return Vec::new() };
        let names = sysfs::flistxattr(file.as_fd()).unwrap_or_default();
        let kept = |name: &[u8]| {
            name == b"security.capability"
                || (name.starts_with(b"user.")
                    && !name.starts_with(b"user.overlay.")
                    && !name.starts_with(b"user.containers."))
        };
        let mut found: Vec<_> = names
            .into_iter()
            .filter(|n| kept(n))
            .filter_map(|n| Some((n.clone(), sysfs::fgetxattr(file.as_fd(), &CString::new(n).ok()?).ok()?)))
            .collect();
        found.sort();
        found
    }
}

impl Target {
    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') { clean(path) } else { clean(&format!("{}/{path}", self.workdir)) }
    }

    /// The destination with symlinks replaced, as far as it exists.
    pub fn resolve(&self, path: &str) -> Result<String> {
        let mut left: Vec<String> =
            self.absolute(path).split('/').rev().filter(|p| !p.is_empty()).map(str::to_owned).collect();
        let mut done = String::new();
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                done.truncate(done.rfind('/').unwrap_or(0));
                continue;
            }
            let next = format!("{done}/{part}");
            let link = self.stat(&next).filter(|s| is(s, SFlag::S_IFLNK)).and_then(|_| self.link(&next));
            let Some(link) = link else {
                done = next;
                continue;
            };
            links += 1;
            if links > 40 {
                return Err(Error::invalid(format!("too many levels of symbolic links in {path}")));
            }
            if link.starts_with('/') {
                done.clear();
            }
            left.extend(link.split('/').rev().filter(|p| !p.is_empty() && *p != ".").map(str::to_owned));
        }
        Ok(if done.is_empty() { "/".into() } else { done })
    }

    fn root(&self) -> Option<Root> {
        let fd = self.fd.as_ref()?.try_clone().ok()?;
        Some(Root { fd: Arc::new(fd), name: "stage".into() })
    }

    fn stat(&self, path: &str) -> Option<FileStat> {
        self.root()?.stat(path).ok()
    }

    fn link(&self, path: &str) -> Option<String> {
        String::from_utf8(self.root()?.read_link(path).ok()?).ok()
    }

    pub fn is_dir(&self, path: &str) -> bool {
        let resolved = self.resolve(path).unwrap_or_default();
        matches!(path.rsplit('/').next(), Some("." | ".."))
            || self.stat(&resolved).is_some_and(|s| is(&s, SFlag::S_IFDIR))
    }

    /// A small file of the stage, followed inside it: /etc/passwd.
    pub fn read(&self, path: &str) -> String {
        let Some(root) = self.root() else { return String::new() };
        let opened = root.open_with(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK);
        let mut text = String::new();
        if let Ok(fd) = opened {
            // 1 MiB is more than any passwd file; a device would never end.
            let _ = File::from(fd).take(1 << 20).read_to_string(&mut text);
        }
        text
    }
}

/// Paths that a source names, "" being the root itself.
fn match_source(root: &Root, source: &str, literal: bool) -> Result<Vec<String>> {
    let cleaned = clean(source);
    let path = cleaned.trim_start_matches('/');
    if literal || glob::is_literal(path) {
        return match root.stat(path) {
            // The named entry itself is followed: COPY link /x copies the file.
            Ok(stat) if is(&stat, SFlag::S_IFLNK) => Ok(vec![followed(root, path)?]),
            Ok(_) => Ok(vec![path.to_owned()]),
            Err(_) => Ok(Vec::new()),
        };
    }
    let pattern = Pattern::new(path).map_err(|e| Error::invalid(format!("{source}: {e}")))?;
    let mut found = Vec::new();
    let deep = path.contains("**");
    let depth = path.matches('/').count();
    search(root, "", depth, deep, &pattern, &mut found)?;
    found.sort();
    Ok(found)
}

fn search(root: &Root, dir: &str, depth: usize, deep: bool, pattern: &Pattern, found: &mut Vec<String>) -> Result<()> {
    let Ok(fd) = root.open_dir(dir) else { return Ok(()) };
    for (name, _) in tree::list(fd.as_fd())? {
        let Ok(name) = name.into_string() else { continue };
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        if pattern.matches(&path) {
            found.push(path.clone());
        }
        if (depth > 0 || deep) && root.stat(&path).is_ok_and(|s| is(&s, SFlag::S_IFDIR)) {
            search(root, &path, depth.saturating_sub(1), deep, pattern, found)?;
        }
    }
    Ok(())
}

/// The path that a symlink leads to, inside the root.
fn followed(root: &Root, path: &str) -> Result<String> {
    let target = Target { fd: Some(root.fd.try_clone()?), workdir: "/".into() };
    let resolved = target.resolve(&format!("/{path}"))?;
    Ok(resolved.trim_start_matches('/').to_owned())
}

/// With --parents: the path of the source below its pivot `/./`.
fn below_pivot(pattern: &str, path: &str) -> String {
    let skip = match pattern.split_once("/./") {
        Some((pivot, _)) => clean(pivot).matches('/').count(),
        None => 0,
    };
    let kept: Vec<&str> = path.split('/').skip(skip).collect();
    kept.join("/")
}

fn from_stat(path: &str, stat: &FileStat) -> Entry {
    let kind = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => Kind::Dir,
        SFlag::S_IFLNK => Kind::Symlink,
        SFlag::S_IFREG => Kind::File,
        SFlag::S_IFIFO => Kind::Fifo,
        SFlag::S_IFCHR => Kind::Char,
        SFlag::S_IFBLK => Kind::Block,
        _ => Kind::Other(b's'),
    };
    Entry {
        name: path.as_bytes().to_vec(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: u64::from(stat.st_uid),
        gid: u64::from(stat.st_gid),
        size: if kind == Kind::File { stat.st_size.unsigned_abs() } else { 0 },
        mtime: Time { secs: stat.st_mtime, nanos: 0 },
        ..Entry::default()
    }
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

fn join(dir: &str, name: &str) -> String {
    match (dir.trim_end_matches('/'), name) {
        (dir, "") => {
            if dir.is_empty() {
                "/".into()
            } else {
                dir.to_owned()
            }
        }
        (dir, name) => format!("{dir}/{name}"),
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl ModeChange {
    /// Octal, or `u=rwX,go-w`.
    pub fn parse(text: &str) -> Result<Self> {
        if let Ok(mode) = u32::from_str_radix(text, 8)
            && mode <= 0o7777
        {
            return Ok(ModeChange::Absolute(mode));
        }
        let bad = || {
            Error::invalid(format!(
                "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
            ))
        };
        let mut changes = Vec::new();
        for clause in text.split(',') {
            let at = clause.find(['+', '-', '=']).ok_or_else(bad)?;
            let (who, rest) = clause.split_at(at);
            let mut bits = 0;
            for c in who.chars() {
                bits |= match c {
                    'u' => 0o4700,
                    'g' => 0o2070,
                    'o' => 0o1007,
                    'a' => 0o7777,
                    _ => return Err(bad()),
                };
            }
            let permissions = &rest[1..];
            if !permissions.chars().all(|c| "rwxXst".contains(c)) {
                return Err(bad());
            }
            changes.push((if bits == 0 { 0o7777 } else { bits }, rest.as_bytes()[0] as char, permissions.to_owned()));
        }
        Ok(ModeChange::Symbolic(changes))
    }

    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            ModeChange::Absolute(mode) => *mode,
            ModeChange::Symbolic(changes) => changes.iter().fold(mode, |mode, (who, operator, permissions)| {
                let bits = permissions.chars().fold(0, |bits, c| {
                    bits | match c {
                        'r' => 0o444,
                        'w' => 0o222,
                        'x' => 0o111,
                        'X' if is_dir || mode & 0o111 != 0 => 0o111,
                        's' => 0o6000,
                        't' => 0o1000,
                        _ => 0,
                    }
                }) & who;
                match operator {
                    '+' => mode | bits,
                    '-' => mode & !bits,
                    _ => (mode & !(who & 0o777)) | bits,
                }
            }),
        }
    }
}

/// `--chown`: numbers as they are, names from the stage's own files.
pub fn owner(text: &str, target: &Target) -> Result<(u64, u64)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let find = |file: &str, name: &str| -> Result<Vec<String>> {
        let text = target.read(file);
        let line = text.lines().find(|l| l.split(':').next() == Some(name));
        let kind = if file.ends_with("group") { "group" } else { "user" };
        line.map(|l| l.split(':').map(str::to_owned).collect())
            .ok_or_else(|| Error::invalid(format!("can't find {kind} {name} in {file}: {kind} not found")))
    };
    let number = |row: &[String], column: usize| row.get(column).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let (uid, primary) = match user.parse::<u64>() {
        Ok(uid) => (uid, uid),
        Err(_) => {
            let row = find("/etc/passwd", user)?;
            (number(&row, 2), number(&row, 3))
        }
    };
    let gid = match group {
        None | Some("") => primary,
        Some(group) => match group.parse::<u64>() {
            Ok(gid) => gid,
            Err(_) => number(&find("/etc/group", group)?, 2),
        },
    };
    Ok((uid, gid))
}

/// The whole tree below a root, for `--output type=tar` and `local`.
pub fn everything(root: &Root) -> Result<Layer> {
    let mut layer = Layer::default();
    keep_owner(root, &mut layer, "", &root.stat("")?)?;
    Ok(layer)
}

fn keep_owner(root: &Root, layer: &mut Layer, path: &str, stat: &FileStat) -> Result<()> {
    let mut entry = from_stat(&format!("/{path}"), stat);
    let content = match entry.kind {
        Kind::File => {
            entry.xattrs = root.xattrs(path);
            Content::File(root.clone(), path.to_owned())
        }
        Kind::Symlink => {
            entry.link = root.read_link(path)?;
            Content::None
        }
        Kind::Dir => Content::None,
        _ => return Ok(()),
    };
    let is_dir = entry.kind == Kind::Dir;
    layer.insert(entry, content);
    if is_dir {
        let dir = root.open_dir(path)?;
        for (name, _) in tree::list(dir.as_fd())? {
            let Ok(name) = name.into_string() else { continue };
            let child = if path.is_empty() { name } else { format!("{path}/{name}") };
            let stat = root.stat(&child)?;
            keep_owner(root, layer, &child, &stat)?;
        }
    }
    Ok(())
}

/// Turns a layer into something that can be read, written by a thread of its own.
pub fn stream(layer: Layer, epoch: Option<i64>) -> Result<impl Read + Send> {
    let (reader, writer) = io::pipe()?;
    let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
        let mut out = io::BufWriter::with_capacity(256 << 10, writer);
        let result = layer.write(&mut out, epoch);
        result.and_then(|()| Ok(out.flush()?))
    })?;
    Ok(Streamed { reader, thread: Some(thread) })
}

struct Streamed {
    reader: io::PipeReader,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Read for Streamed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        if n == 0
            && let Some(thread) = self.thread.take()
        {
            let result = thread.join().unwrap_or_else(|_| Err(Error::system("the layer's writer failed")));
            result.map_err(|e| io::Error::other(e.to_string()))?;
        }
        Ok(n)
    }
}
