//! Clients that go away while their stream is idle. One thread, started with the
//! first watch, serves all streams of the daemon.
//!
//! As in Go's server a half-closed connection counts as gone: what the client
//! can still read it has stopped asking for.

use crate::util::thread;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A second descriptor of a client's connection, for asking whether it is alive.
#[derive(Debug)]
pub struct Gone(OwnedFd);

impl Gone {
    pub fn new(connection: BorrowedFd<'_>) -> io::Result<Self> {
        connection.try_clone_to_owned().map(Self)
    }

    /// Calls `when` once, on the watcher's thread, when the client goes away,
    /// unless the guard is dropped before. `when` must not block.
    pub fn watch(self, when: impl FnOnce() + Send + 'static) -> io::Result<Watch> {
        let watcher = watcher()?;
        let mut table = watcher.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.next += 1;
        let key = table.next;
        let event = EpollEvent::new(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLONESHOT, key);
        watcher.epoll.add(&self.0, event)?;
        table.watched.insert(key, (self.0, Box::new(when)));
        drop(table);
        Ok(Watch { key, watcher })
    }
}

impl AsFd for Gone {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Ends the watch when dropped.
pub struct Watch {
    key: u64,
    watcher: Arc<Watcher>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let entry = self.watcher.table.lock().unwrap_or_else(PoisonError::into_inner).watched.remove(&self.key);
        if let Some((fd, _)) = entry {
            let _ = self.watcher.epoll.delete(&fd);
        }
    }
}

type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Table {
    next: u64,
    watched: HashMap<u64, (OwnedFd, Callback)>,
}

struct Watcher {
    epoll: Epoll,
    table: Mutex<Table>,
}

fn watcher() -> io::Result<Arc<Watcher>> {
    static WATCHER: OnceLock<Arc<Watcher>> = OnceLock::new();
    if let Some(watcher) = WATCHER.get() {
        return Ok(watcher.clone());
    }
    let fresh = Arc::new(Watcher { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, table: Mutex::default() });
    let mine = fresh.clone();
    let winner = WATCHER.get_or_init(|| fresh).clone();
    if Arc::ptr_eq(&mine, &winner) {
        thread::start("gone", 128 * 1024, move || run(&mine))?;
    }
    Ok(winner)
}

fn run(watcher: &Watcher) {
    let mut events = [EpollEvent::empty(); 32];
    loop {
        let Ok(n) = watcher.epoll.wait(&mut events, EpollTimeout::NONE) else { continue };
        for event in &events[..n] {
            let entry = watcher.table.lock().unwrap_or_else(PoisonError::into_inner).watched.remove(&event.data());
            if let Some((fd, when)) = entry {
                let _ = watcher.epoll.delete(&fd);
                when();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    #[test]
    fn a_half_close_is_noticed_and_a_dropped_watch_is_silent() {
        let (client, server) = UnixStream::pair().unwrap();
        let (tx, rx) = mpsc::channel();
        let other = tx.clone();
        let kept = Gone::new(server.as_fd()).unwrap().watch(move || tx.send(1).unwrap()).unwrap();
        drop(Gone::new(server.as_fd()).unwrap().watch(move || other.send(2).unwrap()).unwrap());
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(rx.recv(), Ok(1));
        assert!(rx.recv().is_err());
        drop(kept);
    }
}
