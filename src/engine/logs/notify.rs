//! Who follows a log is woken when its file grows. One inotify instance and one
//! thread for the whole daemon: a user has 128 instances, and a thousand clients
//! may follow.

use crate::engine::container::{Container, lock};
use crate::error::{Context, Result};
use crate::util::thread;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

#[derive(Debug, Default)]
pub struct Hub {
    state: Mutex<Option<Arc<State>>>,
}

#[derive(Debug)]
struct State {
    inotify: Inotify,
    /// Followers by watched folder.
    folders: Mutex<HashMap<WatchDescriptor, (Arc<Container>, usize)>>,
}

/// Keeps the folder watched.
#[derive(Debug)]
pub struct Following {
    state: Arc<State>,
    watch: WatchDescriptor,
}

impl Hub {
    /// From now on every change in `dir` notifies `container.output`.
    pub fn follow(&self, container: &Arc<Container>, dir: &Path) -> Result<Following> {
        let state = self.state()?;
        let mut folders = lock(&state.folders);
        let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let watch = state.inotify.add_watch(dir, events).with_context(|| format!("watch {}", dir.display()))?;
        folders.entry(watch).or_insert_with(|| (container.clone(), 0)).1 += 1;
        drop(folders);
        Ok(Following { state, watch })
    }

    fn state(&self) -> Result<Arc<State>> {
        let mut slot = lock(&self.state);
        if let Some(state) = &*slot {
            return Ok(state.clone());
        }
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).context("create an inotify instance")?;
        let state = Arc::new(State { inotify, folders: Mutex::default() });
        let theirs = state.clone();
        thread::start("log-notify", 64 << 10, move || run(&theirs)).context("start the log watching thread")?;
        *slot = Some(state.clone());
        Ok(state)
    }
}

fn run(state: &State) {
    loop {
        let events = match state.inotify.read_events() {
            Ok(events) => events,
            Err(Errno::EINTR) => continue,
            Err(e) => {
                crate::error!("logs can no longer be followed", "error" = e);
                return;
            }
        };
        let mut seen = Vec::new();
        for event in events {
            // An overflow has no folder: everybody looks.
            let all = event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
            let folders = lock(&state.folders);
            for (watch, (container, _)) in &*folders {
                if (all || *watch == event.wd) && !seen.contains(watch) {
                    seen.push(*watch);
                    container.output.notify();
                }
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut folders = lock(&self.state.folders);
        if let Some(entry) = folders.get_mut(&self.watch) {
            entry.1 -= 1;
            if entry.1 == 0 {
                folders.remove(&self.watch);
                // Gone already if the folder is.
                let _ = self.state.inotify.rm_watch(self.watch);
            }
        }
    }
}
