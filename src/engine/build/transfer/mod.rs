//! COPY and ADD: which files go where, what they hash to, and the layer they
//! make. Runs on the thread of its stage.
//!
//! Theory of operation. Sources and the destination are trees of strangers, so
//! every path is resolved by `openat2` inside its root. A first pass lists the
//! entries and hashes names, modes, owners and contents, without times: that is
//! the cache's key. Only when the cache has nothing, a second pass writes the
//! entries as a tar, which the image store takes in like any pulled layer.

pub mod attributes;
mod stream;
pub mod tree;
mod walk;

use super::language::instruction::Transfer;
use crate::error::{Error, Result};
use crate::storage::tar::{Entry, Kind, Time};
use crate::util::glob::Pattern;
use attributes::ModeChange;
use nix::sys::stat::SFlag;
use std::collections::BTreeMap;
use std::sync::Arc;
pub use stream::stream;
use stream::{Content, Origin};
pub use tree::{Root, Target};
use tree::{file_name, is, join};
pub use walk::everything;
use walk::{Match, Walk, below_pivot, match_source};

/// Owner and mode that replace those of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// None: root, or with `keep` who has it in the source.
    pub owner: Option<(u64, u64)>,
    /// The source is a stage or an image, not a context.
    pub keep: bool,
    pub mode: Option<ModeChange>,
}

/// Where a COPY or ADD puts what it takes, and as whose.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Variables expanded.
    pub destination: &'a str,
    pub target: &'a Target,
    pub overrides: &'a Overrides,
}

impl Place<'_> {
    fn is_dir(&self) -> bool {
        self.destination.ends_with('/') || self.target.is_dir(self.destination)
    }

    /// Where a single file of this name comes to lie.
    fn of_file(&self, name: &str) -> Result<String> {
        let resolved = self.target.resolve(self.destination)?;
        Ok(if self.is_dir() { join(&resolved, name) } else { resolved })
    }
}

/// One entry of the layer to be, without its name, which is the key. As small as
/// it can be: there may be a million of them.
#[derive(Clone)]
struct Item {
    kind: Kind,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    /// Seconds since the epoch.
    mtime: i64,
    /// Of a symlink.
    link: Box<[u8]>,
    content: Content,
}

/// The entries in order, each path once: a later source wins over an earlier one.
#[derive(Default)]
pub struct Layer {
    items: BTreeMap<Box<[u8]>, Item>,
}

impl Layer {
    /// Adds what one COPY takes from `root`. `sources` are expanded; globs are
    /// matched here.
    pub fn add(&mut self, root: &Root, sources: &[String], place: &Place<'_>, copy: &Transfer) -> Result<()> {
        let Place { target, overrides, .. } = *place;
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
        let into_dir = place.is_dir();
        if found.len() > 1 && !into_dir {
            return Err(Error::invalid(
                "When using COPY with more than one source file, the destination must be a directory and end with a /",
            ));
        }
        let destination = target.resolve(place.destination)?;
        for (pattern, Match { name, path }) in found {
            let stat = root.stat(&path)?;
            let base = match (copy.parents, is(&stat, SFlag::S_IFDIR)) {
                (true, _) => join(&destination, &below_pivot(&pattern, &name)),
                (false, true) => destination.clone(),
                (false, false) if into_dir => join(&destination, file_name(&name)),
                (false, false) => destination.clone(),
            };
            let skip = base.trim_end_matches('/').len();
            let origin = Arc::new(Origin { root: root.clone(), from: path.clone(), skip });
            let walk = Walk { root, excludes: &excludes, overrides, source: &path, origin };
            self.parents(&base, target, overrides);
            if is(&stat, SFlag::S_IFDIR) && !copy.parents {
                self.destination(&base, target, overrides);
            }
            walk.add(self, &path, &base, &stat, copy.parents || !is(&stat, SFlag::S_IFDIR))?;
        }
        Ok(())
    }

    /// A heredoc.
    pub fn add_bytes(&mut self, name: &str, bytes: Vec<u8>, place: &Place<'_>) -> Result<()> {
        let path = place.of_file(name)?;
        let entry = Entry { kind: Kind::File, size: bytes.len() as u64, ..Entry::default() };
        self.add_file(path, entry, 0o644, Content::Bytes(Arc::new(bytes)), place);
        Ok(())
    }

    /// One file of `root` as it is named there, with the time that its server gave it.
    pub fn add_download(&mut self, (root, name): (&Root, &str), time: i64, place: &Place<'_>) -> Result<()> {
        let path = place.of_file(name)?;
        let mut entry = Entry::of(path.as_bytes(), &root.stat(name)?);
        entry.mtime = Time { secs: time, nanos: 0 };
        let origin = Origin { root: root.clone(), from: name.to_owned(), skip: path.len() };
        self.add_file(path, entry, 0o600, Content::File(Arc::new(origin)), place);
        Ok(())
    }

    /// A file that no tree gave its owner and mode.
    fn add_file(&mut self, path: String, mut entry: Entry, mode: u32, content: Content, place: &Place<'_>) {
        self.parents(&path, place.target, place.overrides);
        (entry.uid, entry.gid) = place.overrides.owner.unwrap_or_default();
        entry.mode = place.overrides.mode.as_ref().map_or(mode, |m| m.apply(mode, false));
        entry.name = path.into_bytes();
        self.insert(entry, content);
    }

    /// Gives everything one time.
    pub fn stamp(&mut self, secs: i64) {
        for item in self.items.values_mut() {
            item.mtime = secs;
        }
    }

    /// Later entries win.
    pub fn merge(&mut self, other: Self) {
        self.items.extend(other.items);
    }

    /// An unpacked archive: owners stay, unless they are overridden.
    pub fn add_tree(&mut self, root: &Root, place: &Place<'_>) -> Result<()> {
        let Place { destination, target, overrides } = *place;
        let base = target.resolve(destination)?;
        self.parents(&join(&base, "x"), target, overrides);
        let base = base.trim_end_matches('/').as_bytes();
        let origin = Arc::new(Origin { root: root.clone(), from: String::new(), skip: base.len() });
        for (path, mut item) in everything(root)?.items {
            if *path == *b"/" {
                continue;
            }
            if let Some(owner) = overrides.owner {
                (item.uid, item.gid) = owner;
            }
            if let Some(mode) = &overrides.mode
                && item.kind != Kind::Symlink
            {
                item.mode = mode.apply(item.mode, item.kind == Kind::Dir);
            }
            if let Content::File(_) = item.content {
                item.content = Content::File(origin.clone());
            }
            self.items.insert([base, &path].concat().into(), item);
        }
        Ok(())
    }

    /// A directory by itself (WORKDIR).
    pub fn add_dir(&mut self, path: &str, target: &Target, owner: (u64, u64)) -> Result<()> {
        let resolved = target.resolve(path)?;
        let overrides = Overrides { owner: Some(owner), ..Overrides::default() };
        self.parents(&join(&resolved, "x"), target, &overrides);
        Ok(())
    }

    fn insert(&mut self, entry: Entry, content: Content) {
        let Entry { name, kind, mode, uid, gid, size, mtime, link, .. } = entry;
        let item = Item { kind, mode, uid, gid, size, mtime: mtime.secs, link: link.into(), content };
        self.items.insert(name.into(), item);
    }

    /// The directories above `path`: those that the lower layers have come along
    /// as they are (a layer would else reset them), missing ones are made 0755 and
    /// belong to whom the copy is for.
    fn parents(&mut self, path: &str, target: &Target, overrides: &Overrides) {
        let ends: Vec<usize> = path.match_indices('/').map(|(i, _)| i).filter(|i| *i > 0).collect();
        for end in ends {
            let parent = &path[..end];
            if self.items.contains_key(parent.as_bytes()) {
                continue;
            }
            let entry = match target.stat(parent) {
                Some(stat) if is(&stat, SFlag::S_IFDIR) => Entry::of(parent.as_bytes(), &stat),
                _ => fresh_dir(parent, overrides),
            };
            self.insert(entry, Content::None);
        }
    }

    /// What a folder's content is copied into: it stays as it is, or is made as
    /// its parents are. The source's own mode and owner do not count.
    fn destination(&mut self, path: &str, target: &Target, overrides: &Overrides) {
        if path == "/" || self.items.contains_key(path.as_bytes()) {
            return;
        }
        let entry = match target.stat(path) {
            Some(stat) if is(&stat, SFlag::S_IFDIR) => Entry::of(path.as_bytes(), &stat),
            _ => {
                let mut entry = fresh_dir(path, overrides);
                entry.mode = overrides.mode.as_ref().map_or(entry.mode, |m| m.apply(entry.mode, true));
                entry
            }
        };
        self.insert(entry, Content::None);
    }
}

fn fresh_dir(path: &str, overrides: &Overrides) -> Entry {
    let (uid, gid) = overrides.owner.unwrap_or_default();
    Entry { name: path.as_bytes().to_vec(), kind: Kind::Dir, mode: 0o755, uid, gid, ..Entry::default() }
}
