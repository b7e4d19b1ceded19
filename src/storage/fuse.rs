//! The `fuse-overlayfs` program, where the kernel's overlay cannot be used
//! (before 5.11, or a data root on overlay or NFS) and the program is installed.
//! Same layout and layer format as `overlay`.
//!
//! It mounts, then goes into the background in a session of its own; we take a
//! detached clone of its mount and unmount the original. The program ends by
//! itself when the last clone is gone, so it outlives dockerd exactly as long as
//! a container needs it.

use super::layers::Layers;
use super::overlay::{MAX_LAYERS, Stack, detach, stack};
use super::{Driver, RwOptions};
use crate::error::{Context, Error, Result};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct FuseOverlay {
    layers: Layers,
    program: PathBuf,
    backing: String,
}

impl FuseOverlay {
    pub fn open(root: &Path) -> Result<Self> {
        let program = std::env::var_os("PATH")
            .iter()
            .flat_map(std::env::split_paths)
            .map(|dir| dir.join("fuse-overlayfs"))
            .find(|p| p.is_file())
            .ok_or_else(|| Error::system("fuse-overlayfs is not installed"))?;
        Ok(Self { layers: Layers::open(root)?, program, backing: super::probe::backing_filesystem(root) })
    }

    fn mount(&self, stack: &Stack, layers: &[String], rw: Option<&str>) -> Result<OwnedFd> {
        let escape = |p: &Path| p.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
        let mut lowers: Vec<String> = layers.iter().rev().map(|c| escape(&self.layers.layer(c).join("diff"))).collect();
        if lowers.is_empty() {
            lowers.push(escape(&self.layers.empty()));
        }
        let mut options = format!("lowerdir={}", lowers.join(":"));
        if let Some(id) = rw {
            let dir = self.layers.rw(id);
            options += &format!(",upperdir={},workdir={}", escape(&dir.join("upper")), escape(&dir.join("work")));
        }
        if stack.volatile {
            options += ",volatile";
        }
        let dir = self.layers.staging_dir()?;
        let result = self.run(&options, &dir).and_then(|()| detach(&dir));
        let _ = fs::remove_dir(&dir);
        result
    }

    fn run(&self, options: &str, dir: &Path) -> Result<()> {
        let output = Command::new(&self.program)
            .arg("-o")
            .arg(options)
            .arg(dir)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // A file and not a pipe: the background process would hold it open.
            .stderr(Stdio::null())
            .status()
            .context("run fuse-overlayfs")?;
        if output.success() { Ok(()) } else { Err(Error::system(format!("fuse-overlayfs: {output}"))) }
    }
}

impl Driver for FuseOverlay {
    fn layers(&self) -> &Layers {
        &self.layers
    }
    fn name(&self) -> &'static str {
        "fuse-overlayfs"
    }
    fn status(&self) -> Vec<(String, String)> {
        vec![("Backing Filesystem".to_owned(), self.backing.clone())]
    }
    fn max_layers(&self) -> usize {
        MAX_LAYERS
    }
    fn mount_rw(&self, id: &str, layers: &[String], options: RwOptions) -> Result<OwnedFd> {
        self.mount(&stack(&self.layers, layers, Some((id, options)))?, layers, Some(id))
    }
    fn mount_ro(&self, layers: &[String]) -> Result<OwnedFd> {
        self.mount(&stack(&self.layers, layers, None)?, layers, None)
    }
}
