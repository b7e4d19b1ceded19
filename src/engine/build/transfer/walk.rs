//! Which paths a source names, and the walk below each of them.

use super::stream::{Content, Origin};
use super::tree::{Root, Target, file_name, is, join};
use super::{Layer, Overrides};
use crate::error::{Context, Error, Result};
use crate::storage::tar::{Entry, Kind};
use crate::storage::tree;
use crate::util::glob::{self, Pattern};
use crate::util::order;
use crate::util::path::absolute;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};
use std::os::fd::AsFd;
use std::sync::Arc;

pub(super) struct Walk<'a> {
    pub(super) root: &'a Root,
    pub(super) excludes: &'a [Pattern],
    pub(super) overrides: &'a Overrides,
    pub(super) source: &'a str,
    pub(super) origin: Arc<Origin>,
}

/// Something on the way into a layer.
struct Found {
    path: String,
    to: String,
    stat: FileStat,
    own: bool,
}

impl Walk<'_> {
    /// `own`: the entry itself goes too, not only what a directory holds. No
    /// recursion, here and below: images nest as deep as a path is long.
    pub(super) fn add(&self, layer: &mut Layer, path: &str, to: &str, stat: &FileStat, own: bool) -> Result<()> {
        let mut open = vec![Found { path: path.to_owned(), to: to.to_owned(), stat: *stat, own }];
        while let Some(found) = open.pop() {
            self.one(layer, &found, &mut open)?;
        }
        Ok(())
    }

    fn one(&self, layer: &mut Layer, found: &Found, open: &mut Vec<Found>) -> Result<()> {
        let Found { path, to, stat, own } = found;
        let inside = path.strip_prefix(self.source).unwrap_or(path).trim_start_matches('/');
        let name = if inside.is_empty() { file_name(path) } else { inside };
        if !(inside.is_empty() && is(stat, SFlag::S_IFDIR)) && self.excludes.iter().any(|e| e.matches_or_parent(name)) {
            return Ok(());
        }
        let mut entry = Entry::of(to.as_bytes(), stat);
        (entry.uid, entry.gid) = match self.overrides.owner {
            Some(owner) => owner,
            None if self.overrides.keep => (entry.uid, entry.gid),
            None => (0, 0),
        };
        if let Some(change) = &self.overrides.mode
            && entry.kind != Kind::Symlink
        {
            entry.mode = change.apply(entry.mode, entry.kind == Kind::Dir);
        }
        match entry.kind {
            Kind::Dir => {
                // The destination itself keeps what it was if it was there.
                if *own || !layer.items.contains_key(to.as_bytes()) {
                    layer.insert(entry, Content::None);
                }
                return self.children(layer, path, to, open);
            }
            Kind::Symlink => {
                entry.link = self.root.read_link(path)?;
                layer.insert(entry, Content::None);
            }
            Kind::File => layer.insert(entry, Content::File(self.origin.clone())),
            // Devices cannot be made by us; sockets and fifos are no content.
            _ => {}
        }
        Ok(())
    }

    /// Only folders wait in `open`: one of them may hold a million files.
    fn children(&self, layer: &mut Layer, path: &str, to: &str, open: &mut Vec<Found>) -> Result<()> {
        let dir = self.root.open_dir(path)?;
        for (name, _) in tree::list(dir.as_fd())? {
            let name =
                name.into_string().map_err(|_| Error::invalid(format!("a file name below {path} is not UTF-8")))?;
            let (path, to) = (join(path, &name), join(to, &name));
            // One name in a folder that was opened inside of the root leads nowhere else.
            let stat = fstatat(&dir, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .with_context(|| format!("{path} in the {}", self.root.name))?;
            let found = Found { path, to, stat, own: true };
            match is(&stat, SFlag::S_IFDIR) {
                true => open.push(found),
                false => self.one(layer, &found, open)?,
            }
        }
        Ok(())
    }
}

/// One thing that a source names.
pub(super) struct Match {
    /// As it was named: what it is called at the destination.
    pub(super) name: String,
    /// Where it is, "" being the root itself: a symlink is followed. COPY link /x copies the file.
    pub(super) path: String,
}

pub(super) fn match_source(root: &Root, source: &str, literal: bool) -> Result<Vec<Match>> {
    let cleaned = absolute(source);
    let path = cleaned.trim_start_matches('/');
    let mut found = Vec::new();
    if literal || glob::is_literal(path) {
        found.push(path.to_owned());
    } else {
        let pattern = Pattern::new(path).map_err(|e| Error::invalid(format!("{source}: {e}")))?;
        let deep = path.contains("**");
        let depth = path.matches('/').count();
        search(root, depth, deep, &pattern, &mut found)?;
        order::sort(&mut found);
    }
    let mut matches = Vec::new();
    for name in found {
        let path = match root.stat(&name) {
            Ok(stat) if is(&stat, SFlag::S_IFLNK) => followed(root, &name)?,
            _ => name.clone(),
        };
        if root.stat(&path).is_ok() {
            matches.push(Match { name, path });
        }
    }
    Ok(matches)
}

fn search(root: &Root, depth: usize, deep: bool, pattern: &Pattern, found: &mut Vec<String>) -> Result<()> {
    let mut open = vec![(String::new(), depth)];
    while let Some((dir, depth)) = open.pop() {
        let Ok(fd) = root.open_dir(&dir) else { continue };
        for (name, _) in tree::list(fd.as_fd())? {
            let Ok(name) = name.into_string() else { continue };
            let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
            if pattern.matches(&path) {
                found.push(path.clone());
            }
            if (depth > 0 || deep) && root.stat(&path).is_ok_and(|s| is(&s, SFlag::S_IFDIR)) {
                open.push((path, depth.saturating_sub(1)));
            }
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
pub(super) fn below_pivot(pattern: &str, path: &str) -> String {
    let skip = match pattern.split_once("/./") {
        Some((pivot, _)) => absolute(pivot).matches('/').count(),
        None => 0,
    };
    let kept: Vec<&str> = path.split('/').skip(skip).collect();
    kept.join("/")
}

/// The whole tree below a root, for `--output type=tar` and `local`.
pub fn everything(root: &Root) -> Result<Layer> {
    let mut layer = Layer::default();
    let origin = Arc::new(Origin { root: root.clone(), from: String::new(), skip: 0 });
    let mut open = vec![String::new()];
    while let Some(path) = open.pop() {
        keep_owner(&origin, &mut layer, &path, &mut open)?;
    }
    Ok(layer)
}

/// One entry; what is in a directory goes to `open`.
fn keep_owner(origin: &Arc<Origin>, layer: &mut Layer, path: &str, open: &mut Vec<String>) -> Result<()> {
    let root = &origin.root;
    let mut entry = Entry::of(format!("/{path}").as_bytes(), &root.stat(path)?);
    let content = match entry.kind {
        Kind::File => Content::File(origin.clone()),
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
            open.push(if path.is_empty() { name } else { format!("{path}/{name}") });
        }
    }
    Ok(())
}
