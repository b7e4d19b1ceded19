//! LAYERS ON DISK: the driver trait, the probe order and the conformance
//! function. Runs in dockerd, any thread. Knows no image, API or container
//! name: layers are named by chain ID, writable layers by container ID.

#![forbid(unsafe_code)]

use self::layers::Layers;
use crate::error::{Context, Result};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub mod apply;
mod attributes;
pub mod behind;
#[cfg(test)]
mod conformance;
mod content;
mod copy;
pub mod diff;
pub mod fuse;
mod layers;
pub mod overlay;
pub mod owners;
pub mod probe;
pub mod split;
pub mod tar;
pub mod tree;
pub mod vfs;

/// How a writable layer is to be made and mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RwOptions {
    /// Nothing in it must survive a crash (`--rm`, build steps): overlay's `volatile`.
    pub volatile: bool,
}

/// A layer that is being filled. Dropping it without `commit` removes it.
pub trait Staging: Send + Sync {
    /// The directory to extract into. For overlay this is the layer's own diff
    /// (whiteouts stay whiteouts); for vfs a full copy of the parent (whiteouts
    /// are carried out): see [`Staging::whiteouts`].
    fn root(&self) -> &File;
    /// A directory beside it on the same file system, kept with the layer: the
    /// tar record and what the tar itself displaced.
    fn aside(&self) -> &File;
    fn whiteouts(&self) -> Whiteouts;
    /// Makes the layer permanent under its chain ID. Idempotent if another
    /// thread was first: then this one is dropped.
    fn commit(self: Box<Self>, chain_id: &str) -> Result<()>;
}

/// What the extractor does with a tar entry `.wh.NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// A 0:0 character device; an opaque directory gets `user.overlay.opaque=y`.
    Overlay,
    /// Remove what the name stands for.
    Apply,
    /// None of it: a plain archive, where the name is a name.
    Literal,
}

/// One way to keep layers. All methods may be called from any thread; per-layer
/// exclusion is the caller's (the image store's) business.
pub trait Driver: Send + Sync {
    /// As `docker info` shows it: "overlay2", "fuse-overlayfs", "vfs".
    fn name(&self) -> &'static str;
    /// Rows under "Storage Driver" in `docker info`.
    fn status(&self) -> Vec<(String, String)>;
    /// The folders that it keeps everything in. What is not said below is done there
    /// alike by all, or as overlays do it.
    fn layers(&self) -> &Layers;
    /// Layers may be extracted before their parents are there (and known).
    fn independent_layers(&self) -> bool {
        true
    }
    /// How many layers one mount can stand on.
    fn max_layers(&self) -> usize;

    fn has_layer(&self, chain_id: &str) -> bool {
        self.layers().has(chain_id)
    }
    /// Starts filling a layer over `parent` (chain ID), which a driver of
    /// independent layers ignores.
    fn stage(&self, _parent: Option<&str>) -> Result<Box<dyn Staging>> {
        Ok(self.layers().stage(Whiteouts::Overlay)?)
    }
    fn remove_layer(&self, chain_id: &str) -> Result<()> {
        self.layers().remove(chain_id)
    }
    /// The directory that holds the layer's own files, to read them back for
    /// `save` and `push` (overlay: the diff; vfs: the full tree).
    fn layer_root(&self, chain_id: &str) -> Result<File> {
        self.layers().diff(chain_id)
    }
    /// What [`Staging::aside`] became.
    fn layer_aside(&self, chain_id: &str) -> Result<File> {
        self.layers().aside(chain_id)
    }

    /// Creates a writable layer over `layers` (bottom first).
    fn create_rw(&self, id: &str, layers: &[String]) -> Result<()> {
        overlay::create_rw(self.layers(), id, layers)
    }
    /// A detached mount of the whole tree, writable. Every call gives a fresh
    /// one; the caller passes it to a container or walks it with openat2.
    fn mount_rw(&self, id: &str, layers: &[String], options: RwOptions) -> Result<OwnedFd>;
    /// The same, read-only and with no writable layer, for image mounts and builds.
    fn mount_ro(&self, layers: &[String]) -> Result<OwnedFd>;
    fn remove_rw(&self, id: &str) -> Result<()> {
        self.layers().discard(&self.layers().rw(id))
    }
    /// The writable layer's own directory, for `diff`, `commit` and sizes:
    /// overlay's upper. None where the driver has none (vfs compares trees).
    fn upper_root(&self, id: &str) -> Result<Option<File>> {
        let path = self.layers().rw(id).join("upper");
        File::open(&path).map(Some).with_context(|| format!("open {}", path.display()))
    }
    /// Removes what stagings of a daemon that was killed left behind. Once, at start.
    fn clean_up(&self) -> Result<()> {
        self.layers().clean_up()
    }
    /// Every rw id and chain ID that is on disk, for start-up garbage collection.
    fn list(&self) -> Result<(Vec<String>, Vec<String>)> {
        self.layers().list()
    }
    /// For `GraphDriver.Data` in inspect.
    fn paths(&self, id: &str, layers: &[String]) -> Vec<(&'static str, PathBuf)> {
        overlay::graph_paths(self.layers(), id, layers)
    }
}
