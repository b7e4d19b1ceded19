//! The kernel's overlay file system, unprivileged (`userxattr`, kernel 5.11).
//! Called from any thread of dockerd, in its user and mount namespace.
//!
//! Invariant: mounts are made detached and handed out as descriptors; none is
//! ever in dockerd's mount table (on kernels without `lowerdir+`, before 6.5, for
//! an instant). Directories are named to the kernel as /proc/self/fd/N: no length
//! limit, no escaping, and a container's /proc/mounts tells no host path.

use super::layers::{Layers, make_dir};
use super::{Driver, RwOptions};
use crate::error::{Context, Error, Result};
use crate::sys::fd::proc_path;
use crate::sys::mount as sysmount;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

pub struct Overlay {
    layers: Layers,
    /// The kernel takes one `lowerdir+` per layer.
    append: AtomicBool,
    backing: String,
}

/// The directories of one mount, top first.
pub(super) struct Stack {
    pub lowers: Vec<OwnedFd>,
    /// Upper and work.
    pub writable: Option<(OwnedFd, OwnedFd)>,
    pub volatile: bool,
}

pub(super) fn path_fd(path: &Path) -> Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("open {}", path.display()))
}

/// The kernel's limit (OVL_MAX_STACK).
pub(super) const MAX_LAYERS: usize = 500;
/// mount(2) takes a page of options, and a layer's name has up to 19 bytes there.
const MAX_LAYERS_OLD: usize = 200;

impl Overlay {
    pub fn open(root: &Path) -> Result<Self> {
        let layers = Layers::open(root)?;
        let backing = super::probe::backing_filesystem(root);
        Ok(Self { layers, append: AtomicBool::new(true), backing })
    }

    #[cfg(test)]
    pub(super) fn pretend_old(&self) {
        self.append.store(false, Ordering::Relaxed);
    }

    fn stack(&self, layers: &[String], rw: Option<(&str, RwOptions)>) -> Result<Stack> {
        stack(&self.layers, layers, rw)
    }

    fn mount(&self, stack: &Stack) -> Result<OwnedFd> {
        if self.append.load(Ordering::Relaxed) {
            match mount_new(stack) {
                Ok(fd) => return Ok(fd),
                // Proved by the other way's success alone.
                Err(Refused::Options) => {
                    let fd = self.mount_old(stack)?;
                    self.append.store(false, Ordering::Relaxed);
                    return Ok(fd);
                }
                Err(Refused::Other(e)) => return Err(e),
            }
        }
        self.mount_old(stack)
    }

    /// mount(2) somewhere, a detached clone of it, and away with the original.
    fn mount_old(&self, stack: &Stack) -> Result<OwnedFd> {
        let dir = self.layers.staging_dir()?;
        let lowers: Vec<String> = stack.lowers.iter().map(proc_path).collect();
        let mut options = format!("userxattr,lowerdir={}", lowers.join(":"));
        if let Some((upper, work)) = &stack.writable {
            options += &format!(",upperdir={},workdir={}", proc_path(upper), proc_path(work));
        }
        if stack.volatile {
            options += ",volatile";
        }
        let result = mount(Some("overlay"), &dir, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .context("mount overlay")
            .and_then(|()| detach(&dir));
        let _ = fs::remove_dir(&dir);
        result
    }
}

/// A detached clone of the mount at `dir`, which goes away.
pub(super) fn detach(dir: &Path) -> Result<OwnedFd> {
    let path = CString::new(dir.as_os_str().as_encoded_bytes()).map_err(|_| Error::system("NUL in a path"))?;
    let fd = sysmount::clone_tree(None, &path, false).context("clone mount");
    umount2(dir, MntFlags::MNT_DETACH).context("detach mount")?;
    fd
}

enum Refused {
    /// Perhaps the kernel does not know `lowerdir+`: before 6.5 it looks at
    /// options when the file system is made, and says no more than EINVAL.
    Options,
    Other(Error),
}

fn mount_new(stack: &Stack) -> Result<OwnedFd, Refused> {
    let context = sysmount::Context::open(c"overlay").map_err(|e| Refused::Other(Error::from(e).context("overlay")))?;
    let explain = |e: nix::errno::Errno| {
        let why = context.explanation().map(|t| format!(" ({t})")).unwrap_or_default();
        Refused::Other(Error::system(format!("mount overlay: {}{why}", e.desc().to_lowercase())))
    };
    let named = |fd: &OwnedFd| CString::new(proc_path(fd)).unwrap_or_default();
    context.flag(c"userxattr").map_err(explain)?;
    for (i, lower) in stack.lowers.iter().enumerate() {
        match context.string(c"lowerdir+", &named(lower)) {
            Ok(()) => {}
            Err(_) if i == 0 => return Err(Refused::Options),
            Err(e) => return Err(explain(e)),
        }
    }
    if let Some((upper, work)) = &stack.writable {
        context.string(c"upperdir", &named(upper)).map_err(explain)?;
        context.string(c"workdir", &named(work)).map_err(explain)?;
    }
    if stack.volatile {
        context.flag(c"volatile").map_err(explain)?;
    }
    context.mount(0).map_err(|e| if e == nix::errno::Errno::EINVAL { Refused::Options } else { explain(e) })
}

/// Opens what a mount is made of; top first.
pub(super) fn stack(dirs: &Layers, layers: &[String], rw: Option<(&str, RwOptions)>) -> Result<Stack> {
    if layers.len() > MAX_LAYERS {
        return Err(Error::invalid(format!("max depth exceeded: {} layers, {MAX_LAYERS} are possible", layers.len())));
    }
    let mut lowers = Vec::with_capacity(layers.len() + 1);
    for chain in layers.iter().rev() {
        lowers.push(path_fd(&dirs.layer(chain).join("diff"))?);
    }
    // Overlay wants one lower directory, or two when nothing is writable.
    while lowers.len() < if rw.is_some() { 1 } else { 2 } {
        lowers.push(path_fd(&dirs.empty())?);
    }
    let Some((id, options)) = rw else { return Ok(Stack { lowers, writable: None, volatile: false }) };
    let dir = dirs.rw(id);
    // Left by a volatile mount that a crash ended: the kernel then refuses the
    // directory. Who asked for volatile asked for no promise.
    let _ = fs::remove_dir_all(dir.join("work/work/incompat"));
    let writable = (path_fd(&dir.join("upper"))?, path_fd(&dir.join("work"))?);
    Ok(Stack { lowers, writable: Some(writable), volatile: options.volatile })
}

/// Makes `rw/<id>/{upper,work}`; the upper directory looks like the top layer's
/// root, since it is what the container sees as "/".
pub(super) fn create_rw(dirs: &Layers, id: &str, layers: &[String]) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dir = dirs.staging_dir()?;
    let upper = dir.join("upper");
    make_dir(&upper)?;
    make_dir(&dir.join("work"))?;
    let (mode, owner) = match layers.last().map(|top| fs::metadata(dirs.layer(top).join("diff"))).transpose()? {
        Some(top) => (top.mode() & 0o7777, Some((top.uid(), top.gid()))),
        None => (0o755, None),
    };
    if let Some((uid, gid)) = owner {
        // Cannot fail for ids that the layer itself has.
        let _ = std::os::unix::fs::chown(&upper, Some(uid), Some(gid));
    }
    fs::set_permissions(&upper, fs::Permissions::from_mode(mode))?;
    match fs::rename(&dir, dirs.rw(id)) {
        Ok(()) => Ok(()),
        Err(e) => {
            let _ = super::layers::remove_all(&dir);
            Err(e).with_context(|| format!("create writable layer {id}"))
        }
    }
}

/// Docker's four rows, as `inspect` shows them.
pub(super) fn graph_paths(dirs: &Layers, id: &str, layers: &[String]) -> Vec<(&'static str, PathBuf)> {
    let rw = dirs.rw(id);
    // Of an image, the top layer takes the place of the writable one.
    let (own, below) = match layers.split_last() {
        _ if (!id.is_empty() && rw.is_dir()) || layers.is_empty() => (rw.join("upper"), layers),
        Some((top, below)) => (dirs.layer(top).join("diff"), below),
        None => (rw.join("upper"), layers),
    };
    let base = own.parent().map(Path::to_owned).unwrap_or_default();
    let lower: Vec<String> =
        below.iter().rev().map(|c| dirs.layer(c).join("diff").to_string_lossy().into_owned()).collect();
    let mut rows = Vec::new();
    if !lower.is_empty() {
        rows.push(("LowerDir", PathBuf::from(lower.join(":"))));
    }
    rows.push(("MergedDir", base.join("merged")));
    rows.push(("UpperDir", own));
    rows.push(("WorkDir", base.join("work")));
    rows
}

impl Driver for Overlay {
    fn layers(&self) -> &Layers {
        &self.layers
    }
    fn name(&self) -> &'static str {
        "overlay2"
    }
    fn status(&self) -> Vec<(String, String)> {
        let row = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        vec![
            row("Backing Filesystem", &self.backing),
            row("Supports d_type", "true"),
            row("Using metacopy", "false"),
            row("Native Overlay Diff", "false"),
            row("userxattr", "true"),
        ]
    }
    fn max_layers(&self) -> usize {
        if self.append.load(Ordering::Relaxed) { MAX_LAYERS } else { MAX_LAYERS_OLD }
    }
    fn mount_rw(&self, id: &str, layers: &[String], options: RwOptions) -> Result<OwnedFd> {
        self.mount(&self.stack(layers, Some((id, options)))?)
    }
    fn mount_ro(&self, layers: &[String]) -> Result<OwnedFd> {
        self.mount(&self.stack(layers, None)?)
    }
}
