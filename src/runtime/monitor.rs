//! dockerd's table of live shims and the one thread that hears them.
//!
//! Invariant: an entry leaves the table before its `Exited` is delivered, so
//! whoever reacts to the event finds no process any more.

use crate::error::{Context, Result};
use crate::runtime::handle::{Event, ExitRecord, OnEvent, Recovered};
use crate::runtime::wire::{self, FromShim, Names, State, ToShim};
use crate::sys::{process, socket};
use crate::util::json;
use crate::util::thread;
use crate::util::time;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A running container or exec, as dockerd knows it.
pub struct Shim {
    pub id: String,
    pub run_dir: PathBuf,
    pub exec: bool,
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// None: its shim is dead, only the process is watched.
    pub control: Option<OwnedFd>,
}

impl Shim {
    pub fn tell(&self, message: &ToShim, tail: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        match &self.control {
            Some(control) => wire::send(control.as_fd(), message, tail, fds, true).context("talk to the shim"),
            None => Err(crate::error::Error::system(format!(
                "the shim of container {} was killed: its streams are gone",
                self.id
            ))),
        }
    }
}

pub struct Monitor {
    exec_root: PathBuf,
    epoll: Epoll,
    table: Mutex<Table>,
    next: AtomicU64,
    on_event: OnEvent,
}

#[derive(Default)]
struct Table {
    by_id: HashMap<String, u64>,
    by_key: HashMap<u64, Arc<Shim>>,
}

impl Monitor {
    pub fn start(exec_root: &Path, on_event: OnEvent) -> Result<Arc<Self>> {
        let monitor = Arc::new(Self {
            exec_root: exec_root.to_owned(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("make an epoll")?,
            table: Mutex::default(),
            next: AtomicU64::new(0),
            on_event,
        });
        let ours = monitor.clone();
        thread::start("monitor", 256 * 1024, move || ours.run()).context("start the monitor thread")?;
        Ok(monitor)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, id: &str) -> Option<Arc<Shim>> {
        let table = self.table();
        table.by_key.get(table.by_id.get(id)?).cloned()
    }

    pub fn add(&self, shim: Shim) -> Result<()> {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let shim = Arc::new(shim);
        {
            let mut table = self.table();
            table.by_id.insert(shim.id.clone(), key);
            table.by_key.insert(key, shim.clone());
        }
        let watched = shim.control.as_ref().unwrap_or(&shim.pidfd);
        let added = self.epoll.add(watched, EpollEvent::new(EpollFlags::EPOLLIN, key));
        if added.is_err() {
            self.remove(key);
        }
        added.context("watch a shim")
    }

    fn remove(&self, key: u64) -> Option<Arc<Shim>> {
        let mut table = self.table();
        let shim = table.by_key.remove(&key)?;
        if table.by_id.get(&shim.id) == Some(&key) {
            table.by_id.remove(&shim.id);
        }
        drop(table);
        let _ = self.epoll.delete(shim.control.as_ref().unwrap_or(&shim.pidfd));
        Some(shim)
    }

    fn run(&self) {
        let mut events = [EpollEvent::empty(); 32];
        loop {
            let n = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(n) => n,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(e) => {
                    crate::error!(format!("the monitor of shims ended: {e}"));
                    return;
                }
            };
            for event in &events[..n] {
                let key = event.data();
                let shim = self.table().by_key.get(&key).cloned();
                if let Some(shim) = shim {
                    self.hear(key, &shim);
                }
            }
        }
    }

    /// A bug in the callback must cost one event, not all that follow.
    fn deliver(&self, event: Event) {
        let call = std::panic::AssertUnwindSafe(|| (self.on_event)(event));
        if std::panic::catch_unwind(call).is_err() {
            crate::error!("handling an event of a container panicked");
        }
    }

    fn hear(&self, key: u64, shim: &Arc<Shim>) {
        let id = || shim.id.clone();
        let Some(control) = &shim.control else {
            // The process without a shim is gone.
            self.remove(key);
            let exit = exit_of_orphan(shim);
            return self.exited(shim, exit);
        };
        match wire::receive::<FromShim>(control.as_fd(), false) {
            Ok(Some((FromShim::Exited(exit), ..))) => {
                self.remove(key);
                self.exited(shim, exit);
            }
            Ok(Some((FromShim::Detached, ..))) => self.deliver(Event::Detached { id: id() }),
            Ok(Some((FromShim::Oom, ..))) => self.deliver(Event::Oom { id: id() }),
            Ok(Some(_)) | Err(nix::errno::Errno::EAGAIN) => {}
            Ok(None) | Err(_) => {
                self.remove(key);
                self.shim_died(shim);
            }
        }
    }

    fn exited(&self, shim: &Shim, exit: ExitRecord) {
        if shim.exec {
            // The engine keeps no files of execs; a container's belong to it.
            let names = Names::of(&shim.id, true);
            for name in [names.exit, names.state, names.socket] {
                let _ = std::fs::remove_file(shim.run_dir.join(name));
            }
        }
        self.deliver(Event::Exited { id: shim.id.clone(), exit });
    }

    fn shim_died(&self, shim: &Shim) {
        if let Some(exit) = recorded(&shim.run_dir, &Names::of(&shim.id, shim.exec)) {
            return self.exited(shim, exit);
        }
        let Ok(pidfd) = crate::sys::fd::duplicate(shim.pidfd.as_fd()) else { return };
        crate::warn!("a shim was killed; its container runs on without streams and log", "id" = shim.id);
        let orphan = Shim {
            id: shim.id.clone(),
            run_dir: shim.run_dir.clone(),
            exec: shim.exec,
            pid: shim.pid,
            pidfd,
            control: None,
        };
        let alive = process::pidfd_signal(orphan.pidfd.as_fd(), 0).is_ok();
        if self.add(orphan).is_ok() && alive {
            self.deliver(Event::StdioLost { id: shim.id.clone() });
        }
    }

    /// What became of a container or exec that an earlier daemon started.
    pub fn recover(&self, id: &str) -> Recovered {
        let container = self.exec_root.join("containers").join(id);
        let (run_dir, exec) = if container.is_dir() {
            (container, false)
        } else {
            match self.run_dir_of_exec(id) {
                Some(dir) => (dir, true),
                None => return Recovered::Gone,
            }
        };
        let names = Names::of(id, exec);
        if let Some(recovered) = self.reconnect(id, &run_dir, exec, &names) {
            return recovered;
        }
        if let Some(exit) = recorded(&run_dir, &names) {
            return Recovered::Exited(exit);
        }
        // No shim and no record: perhaps the process itself lives.
        let Some(pidfd) = state(&run_dir, &names).and_then(|s| alive(&s)) else { return Recovered::Gone };
        let (pid, pidfd) = pidfd;
        let orphan = Shim { id: id.to_owned(), run_dir, exec, pid, pidfd, control: None };
        if ended(&orphan.pidfd) {
            return Recovered::Exited(exit_of_orphan(&orphan));
        }
        match self.add(orphan) {
            Ok(()) => Recovered::Orphaned { pid },
            Err(_) => Recovered::Gone,
        }
    }

    fn run_dir_of_exec(&self, id: &str) -> Option<PathBuf> {
        let names = Names::of(id, true);
        std::fs::read_dir(self.exec_root.join("containers"))
            .ok()?
            .flatten()
            .map(|entry| entry.path())
            .find(|dir| dir.join(&names.state).exists() || dir.join(&names.exit).exists())
    }

    fn reconnect(&self, id: &str, run_dir: &Path, exec: bool, names: &Names) -> Option<Recovered> {
        let dir = File::open(run_dir).ok()?;
        let control = socket::connect_at(dir.as_fd(), &names.socket).ok()?;
        let uid = nix::unistd::geteuid().as_raw();
        if !socket::peer(control.as_fd()).is_ok_and(|p| p.uid() == uid) {
            return None;
        }
        match wire::receive::<FromShim>(control.as_fd(), true) {
            Ok(Some((FromShim::Started { pid }, _, mut fds))) if !fds.is_empty() => {
                let (id, run_dir, pidfd) = (id.to_owned(), run_dir.to_owned(), fds.remove(0));
                self.add(Shim { id, run_dir, exec, pid, pidfd, control: Some(control) }).ok()?;
                Some(Recovered::Running { pid })
            }
            _ => None,
        }
    }
}

/// A pidfd is readable once its process is dead, reaped or not.
fn ended(pidfd: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

fn recorded(run_dir: &Path, names: &Names) -> Option<ExitRecord> {
    json::from_slice(&std::fs::read(run_dir.join(&names.exit)).ok()?).ok()
}

fn state(run_dir: &Path, names: &Names) -> Option<State> {
    json::from_slice(&std::fs::read(run_dir.join(&names.state)).ok()?).ok()
}

/// The process of a state file, if it is still the same one.
fn alive(state: &State) -> Option<(i32, OwnedFd)> {
    let pidfd = process::pidfd_open(state.pid).ok()?;
    (crate::runtime::shim::start_time(state.pid)? == state.start_time).then_some((state.pid, pidfd))
}

/// The end of a process whose shim is dead: the spawner, which inherited it,
/// records the status; a newer kernel tells it by the pidfd.
fn exit_of_orphan(shim: &Shim) -> ExitRecord {
    let names = Names::of(&shim.id, shim.exec);
    let until = Instant::now() + Duration::from_millis(500);
    loop {
        if let Some(exit) = recorded(&shim.run_dir, &names) {
            return exit;
        }
        let finished_at = time::now().0 as i64;
        let status = process::pidfd_exit(shim.pidfd.as_fd()).or_else(|| zombie_status(shim.pid));
        if let Some(status) = status {
            return ExitRecord { code: status.code(), oom: false, finished_at };
        }
        if Instant::now() > until {
            crate::warn!("nobody could tell how a container without a shim ended", "id" = shim.id);
            return ExitRecord { code: 255, oom: false, finished_at };
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The wait status of a process that has ended and that its new parent has not
/// reaped yet: the last field of its stat.
fn zombie_status(pid: i32) -> Option<process::Status> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    if fields.next()? != "Z" {
        return None;
    }
    Some(process::Status::from_wait(fields.next_back()?.parse().ok()?))
}
