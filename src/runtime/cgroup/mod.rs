//! Control groups, version 2 only: what a container may use, and what it used.
//! Runs in dockerd; the shim gets a directory fd.
//!
//! One way to get a tree of our own, three ways to come by it: the cgroup that
//! we sit in is already ours to write (systemd's `Delegate=`, a board's boot
//! script that chowned it); the user's systemd puts us into a scope with
//! delegation (`systemd.rs`); as real root we make one. Else there is none, and
//! the engine discards limits with a warning.
//!
//!     BASE/coracle.engine    dockerd, spawner, netd, shims (a cgroup with
//!                            controllers for its children may hold no process)
//!     BASE/[PARENT/]ID       one container
//!
//! Invariant: only what a [`Limits`] names is written, so the same call makes
//! and updates; a limit that the kernel refuses is an error, never silence.

mod limits;
mod probe;
mod stats;
mod systemd;

pub use limits::{DeviceLimit, Limits};
pub use stats::Usage;

use crate::error::{Context, Error, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Which controllers the tree of ours has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Controllers {
    pub memory: bool,
    pub swap: bool,
    pub cpu: bool,
    pub cpuset: bool,
    pub pids: bool,
    pub io: bool,
    /// Shares of a disk: more than rates, it takes a scheduler that has them.
    pub io_weight: bool,
}

/// The tree of ours, or that there is none.
#[derive(Debug, Clone, Default)]
pub struct Cgroups {
    base: Option<PathBuf>,
    controllers: Controllers,
    systemd: bool,
    /// Why there is none, with the remedy.
    reason: String,
    /// Of containers that an earlier daemon put elsewhere: its scope was another.
    adopted: Arc<Mutex<HashMap<String, PathBuf>>>,
}

/// One container's cgroup.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    dir: OwnedFd,
}

impl Cgroups {
    /// Looks for a tree once, at daemon start.
    pub fn probe() -> Self {
        probe::probe()
    }
    pub fn controllers(&self) -> Controllers {
        self.controllers
    }
    /// As `docker info` names it.
    pub fn driver(&self) -> &'static str {
        match (&self.base, self.systemd) {
            (None, _) => "none",
            (Some(_), true) => "systemd",
            (Some(_), false) => "cgroupfs",
        }
    }
    /// The CPUs and the memory nodes that containers may use, as lists.
    pub fn sets(&self) -> (String, String) {
        let list = |name: &str| match &self.base {
            Some(base) => fs::read_to_string(base.join(name)).unwrap_or_default().trim().to_owned(),
            None => String::new(),
        };
        (list("cpuset.cpus.effective"), list("cpuset.mems.effective"))
    }
    /// Why limits cannot be applied; empty if they can.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    fn path(&self, id: &str, parent: &str) -> Option<PathBuf> {
        let mut path = self.base.clone()?;
        path.extend(parent.split('/').filter(|p| !p.is_empty() && *p != "." && *p != ".."));
        path.push(id);
        Some(path)
    }

    /// Makes the cgroup of a container. None: there is no tree.
    pub fn create(&self, id: &str, parent: &str, limits: &Limits) -> Result<Option<Cgroup>> {
        let Some(path) = self.path(id, parent) else { return Ok(None) };
        let what = || format!("make cgroup {}", path.display());
        let base = self.base.as_deref().unwrap_or(Path::new("/"));
        // Controllers are handed down one level at a time.
        let mut level = path.clone();
        let mut above = Vec::new();
        while level.pop() && level != base {
            above.push(level.clone());
        }
        for level in above.iter().rev() {
            make(level).with_context(what)?;
            probe::enable(level);
        }
        if path.exists() {
            // Left by a daemon that was killed with its containers.
            remove(&path);
        }
        make(&path).with_context(what)?;
        let cgroup = Cgroup::open(&path).with_context(what)?;
        match cgroup.apply(limits) {
            Ok(()) => Ok(Some(cgroup)),
            Err(e) => {
                remove(&path);
                Err(e)
            }
        }
    }

    /// Remembers where a container runs that an earlier daemon started.
    pub fn adopt(&self, id: &str, pid: i32) {
        if let Some(cgroup) = Cgroup::of_container(pid, id) {
            self.adopted.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), cgroup.path);
        }
    }

    /// Kills what a container left in its cgroup, and removes that.
    pub fn remove(&self, id: &str, parent: &str) {
        let adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        if let Some(path) = adopted.or_else(|| self.path(id, parent))
            && path.exists()
        {
            remove(&path);
        }
    }
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Kills what is left in it and removes it with everything below.
fn remove(path: &Path) {
    let _ = fs::write(path.join("cgroup.kill"), "1");
    let until = Instant::now() + Duration::from_secs(1);
    while let Err(e) = remove_tree(path) {
        if e.kind() == io::ErrorKind::NotFound || Instant::now() > until {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

impl Cgroup {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), dir: File::open(path)?.into() })
    }

    /// The cgroup that was made for a running container. Its name is checked:
    /// without one of its own, a process sits in the engine's.
    pub fn of_container(pid: i32, id: &str) -> Option<Self> {
        let path = probe::path_of(&pid.to_string())?;
        if !path.ends_with(id) { None } else { Self::open(&path).ok() }
    }

    pub fn into_directory(self) -> OwnedFd {
        self.dir
    }

    /// Writes what `limits` names.
    pub fn apply(&self, limits: &Limits) -> Result<()> {
        let bfq = self.path.join("io.bfq.weight").exists() && !self.path.join("io.weight").exists();
        for (file, value) in limits.files(bfq) {
            // Not made if it is missing: the kernel would call that a lack of permission.
            let open = fs::OpenOptions::new().write(true).open(self.path.join(file));
            match open.and_then(|mut f| io::Write::write_all(&mut f, value.as_bytes())) {
                Ok(()) => {}
                // A kernel that does not count swap has none to give: no limit is all there can be.
                Err(e) if file == "memory.swap.max" && value == "max" && e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::from(e).context(format!("set {file} to {value:?}"))),
            }
        }
        Ok(())
    }

    pub fn usage(&self) -> Usage {
        stats::read(|name| read(self.dir.as_fd(), name))
    }

    pub fn is_frozen(&self) -> bool {
        read(self.dir.as_fd(), "cgroup.freeze").is_some_and(|t| t.trim() == "1")
    }

    /// Stops or resumes every process in it; returns when that is done.
    pub fn freeze(&self, on: bool) -> Result<()> {
        fs::write(self.path.join("cgroup.freeze"), if on { "1" } else { "0" }).context("write cgroup.freeze")?;
        let until = Instant::now() + Duration::from_secs(5);
        while on && read(self.dir.as_fd(), "cgroup.events").is_none_or(|t| value(&t, "frozen") != 1) {
            if Instant::now() > until {
                return Err(Error::system("the kernel did not freeze the cgroup within 5 seconds"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// How often the kernel killed something in this cgroup for want of memory.
pub fn oom_kills(dir: BorrowedFd<'_>) -> u64 {
    read(dir, "memory.events").map_or(0, |text| value(&text, "oom_kill"))
}

/// For poll(2): POLLPRI tells of a change.
pub fn memory_events(dir: BorrowedFd<'_>) -> Option<OwnedFd> {
    nix::fcntl::openat(dir, "memory.events", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()
}

fn read(dir: BorrowedFd<'_>, name: &str) -> Option<String> {
    let fd = nix::fcntl::openat(dir, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    io::read_to_string(File::from(fd)).ok()
}

/// The number behind a word in a flat keyed file.
fn value(text: &str, key: &str) -> u64 {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok()).unwrap_or(0)
}
