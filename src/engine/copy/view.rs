//! A container's tree as a copy sees it: through its first process while it
//! runs, else its writable layer with the volumes and binds that it would have.

use crate::engine::Engine;
use crate::engine::container::record::{MountKind, MountRecord, Record};
use crate::engine::container::{Container, spec_mounts};
use crate::engine::volume::Data;
use crate::error::{Context, Error, Result};
use crate::storage::RwOptions;
use crate::sys::fs::{InRoot, open_in};
use crate::util::order;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

pub struct View {
    pub record: Record,
    root: OwnedFd,
    /// Folders and files that lie over a stopped container's tree, deepest first.
    pub over: Vec<Over>,
}

pub struct Over {
    pub destination: String,
    pub root: Arc<OwnedFd>,
}

/// One root and a path in it.
pub struct Place<'a> {
    pub root: BorrowedFd<'a>,
    pub path: String,
}

pub fn open(engine: &Engine, container: &Container) -> Result<View> {
    let record = container.record();
    if record.state.is_up()
        && let Ok(root) = engine.runtime.root_fd(&container.id)
    {
        return Ok(View { record, root, over: Vec::new() });
    }
    let root = engine.driver.mount_rw(&record.id, &record.lowers(), RwOptions { volatile: record.volatile })?;
    let mut over = Vec::new();
    for mount in &record.mounts {
        // What a tmpfs held is gone with the container's end.
        if let Some(root) = folder(engine, mount)? {
            over.push(Over { destination: mount.destination.clone(), root: Arc::new(root) });
        }
    }
    for file in spec_mounts::FILES {
        let destination = format!("/etc/{file}");
        let asked = over.iter().any(|o| o.destination == destination);
        if let (false, true, Ok(file)) = (asked, record.has_files, File::open(container.dir.join(file))) {
            over.push(Over { destination, root: Arc::new(file.into()) });
        }
    }
    order::sort_by_key(&mut over, |o| std::cmp::Reverse(o.destination.len()));
    Ok(View { record, root, over })
}

/// None of what is not there. A part of a volume is found inside the volume: another
/// container may have put a symlink there.
fn folder(engine: &Engine, mount: &MountRecord) -> Result<Option<OwnedFd>> {
    let open = |path: &Path| {
        // A bind may be a FIFO, whose opening would wait for a writer.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        nix::fcntl::open(path, flags, Mode::empty()).ok()
    };
    match mount.kind {
        MountKind::Bind => Ok(open(Path::new(&mount.source))),
        MountKind::Volume => match engine.volumes.get(&mount.name)?.data()? {
            Data::Folder(folder) if mount.subpath.is_empty() => Ok(open(&folder)),
            Data::Folder(folder) => {
                let part = CString::new(mount.subpath.as_str())?;
                let inside = |whole: OwnedFd| {
                    open_in(whole.as_fd(), &part, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()).ok()
                };
                Ok(open(&folder).and_then(inside).map(Into::into))
            }
            Data::Tmpfs(_) => Ok(None),
        },
        MountKind::Tmpfs | MountKind::Image => Ok(None),
    }
}

impl View {
    /// Where an absolute path, whose directory part is free of symlinks, lies.
    pub fn place(&self, path: &str) -> Place<'_> {
        let inside = |o: &&Over| path.strip_prefix(&o.destination).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        match self.over.iter().find(inside) {
            Some(over) => {
                let rest = &path[over.destination.len()..];
                Place { root: over.root.as_fd(), path: if rest.is_empty() { "/".into() } else { rest.to_owned() } }
            }
            None => Place { root: self.root.as_fd(), path: path.to_owned() },
        }
    }

    /// The path with all symlinks resolved inside the container.
    pub fn resolve(&self, path: &str) -> Result<String, Errno> {
        let place = self.place(path);
        let found = self.find(path, true)?;
        if place.path != path {
            // Below a folder that lies over the tree, /proc would show the host's path.
            return Ok(path.to_owned());
        }
        let link = crate::sys::fd::proc_path(&found);
        let text = nix::fcntl::readlink(link.as_str())?.to_string_lossy().into_owned();
        // Our own root is the host's: what /proc shows of a detached mount, or of
        // another mount namespace, begins at that mount's root.
        Ok(if text.starts_with('/') { text } else { format!("/{text}") })
    }

    /// O_PATH of what the path names.
    pub fn find(&self, path: &str, follow: bool) -> Result<InRoot, Errno> {
        let place = self.place(path);
        let text = CString::new(place.path.as_str()).map_err(|_| Errno::EINVAL)?;
        let flags = if follow { OFlag::O_PATH } else { OFlag::O_PATH | OFlag::O_NOFOLLOW };
        match open_in(place.root, &text, flags, Mode::empty()) {
            // A file lies over the tree there.
            Err(Errno::ENOTDIR) if place.path == "/" => InRoot::whole(place.root),
            other => other,
        }
    }

    /// Refuses what is read-only to the container itself.
    pub fn check_writable(&self, path: &str) -> Result<()> {
        let over =
            self.record.mounts.iter().filter(|m| {
                path.strip_prefix(m.destination.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'))
            });
        match over.max_by_key(|m| m.destination.len()) {
            Some(mount) if !mount.rw => Err(Error::forbidden("mounted volume is marked read-only")),
            Some(_) => Ok(()),
            None if self.record.host_config.readonly_rootfs => {
                Err(Error::forbidden("container rootfs is marked read-only"))
            }
            None => Ok(()),
        }
    }
}

/// Docker's 404.
pub fn missing(path: &str, container: &str) -> Error {
    Error::not_found(format!("Could not find the file {path} in container {container}"))
}

/// An errno on a container's path as Docker reports it.
pub fn path_error(e: Errno, path: &str, container: &str) -> Error {
    match e {
        Errno::ENOENT => missing(path, container),
        Errno::ENOTDIR => Error::invalid(format!("{path}: not a directory")),
        e => Error::from(e).context(path.to_owned()),
    }
}

/// A fresh read-only mount of the container's image, to compare with.
pub fn base(engine: &Engine, record: &Record) -> Result<OwnedFd> {
    engine.driver.mount_ro(&record.lowers()).context("mount the image")
}
