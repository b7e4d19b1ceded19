//! Whole copies: works on every file system and in every namespace. Files are
//! shared by reflink where the file system can (btrfs, xfs, bcachefs), else
//! copied inside the kernel. A layer is the full tree up to it.

use super::copy::copy_tree;
use super::layers::Layers;
use super::{Driver, RwOptions, Staging, Whiteouts};
use crate::error::{Context, Error, Result};
use crate::sys::mount as sysmount;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

pub struct Vfs {
    layers: Layers,
}

impl Vfs {
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self { layers: Layers::open(root)? })
    }

    fn top(&self, layers: &[String]) -> PathBuf {
        layers.last().map_or_else(|| self.layers.empty(), |chain| self.layers.layer(chain).join("diff"))
    }
}

fn clone(path: &Path) -> Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Error::system("NUL in a path"))?;
    sysmount::clone_tree(None, &path, false).context("bind mount")
}

impl Driver for Vfs {
    fn layers(&self) -> &Layers {
        &self.layers
    }
    fn name(&self) -> &'static str {
        "vfs"
    }
    fn status(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    fn independent_layers(&self) -> bool {
        false
    }
    /// Nothing is stacked.
    fn max_layers(&self) -> usize {
        usize::MAX
    }
    fn stage(&self, parent: Option<&str>) -> Result<Box<dyn Staging>> {
        let staged = self.layers.stage(Whiteouts::Apply)?;
        if let Some(parent) = parent {
            copy_tree(self.layers.diff(parent)?.as_fd(), staged.root().as_fd(), None, &[])
                .context("copy the parent layer")?;
        }
        Ok(staged)
    }
    fn create_rw(&self, id: &str, layers: &[String]) -> Result<()> {
        let staged = self.layers.staging_dir()?;
        super::layers::make_dir(&staged.join("fs"))?;
        let result = (|| {
            let (from, to) = (File::open(self.top(layers))?, File::open(staged.join("fs"))?);
            copy_tree(from.as_fd(), to.as_fd(), None, &[]).context("copy the image")?;
            Ok(std::fs::rename(&staged, self.layers.rw(id))?)
        })();
        if result.is_err() {
            let _ = super::layers::remove_all(&staged);
        }
        result
    }
    fn mount_rw(&self, id: &str, _layers: &[String], _options: RwOptions) -> Result<OwnedFd> {
        clone(&self.layers.rw(id).join("fs"))
    }
    fn mount_ro(&self, layers: &[String]) -> Result<OwnedFd> {
        let fd = clone(&self.top(layers))?;
        sysmount::set_attributes(fd.as_fd(), sysmount::ATTR_RDONLY, 0, false).context("make read-only")?;
        Ok(fd)
    }
    fn upper_root(&self, _id: &str) -> Result<Option<File>> {
        Ok(None)
    }
    fn paths(&self, id: &str, layers: &[String]) -> Vec<(&'static str, PathBuf)> {
        let rw = self.layers.rw(id).join("fs");
        vec![("Dir", if rw.is_dir() { rw } else { self.top(layers) })]
    }
}
