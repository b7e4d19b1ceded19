//! Waking threads that sit in poll(2): one eventfd per watcher, so that a
//! request thread can wait for a change and for its client to leave at once.

use crate::error::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// The peer shut its sending side; nix has no name for it.
const RDHUP: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);

/// The watched side.
#[derive(Debug, Default)]
pub struct Watched {
    watchers: Mutex<Vec<Weak<EventFd>>>,
}

impl Watched {
    pub fn watch(&self) -> Result<Watcher> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).context("create an eventfd")?;
        let wake = Arc::new(wake);
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|w| w.strong_count() > 0);
        watchers.push(Arc::downgrade(&wake));
        Ok(Watcher { wake })
    }

    /// Wakes everybody who watches now.
    pub fn notify(&self) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|w| w.upgrade().is_some_and(|wake| wake.write(1).is_ok()));
    }
}

/// The waiting side.
#[derive(Debug)]
pub struct Watcher {
    wake: Arc<EventFd>,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Something changed; look again.
    Changed,
    /// The client closed its connection.
    ClientGone,
    TimedOut,
}

/// When a client counts as gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It has nothing more to send: for requests whose body is over.
    HalfClosed,
    /// Both directions are closed: for hijacked connections, where a half-close
    /// is the end of stdin and nothing more.
    Closed,
}

impl Watcher {
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Forgets the wake-ups so far.
    pub fn clear(&self) {
        let _ = self.wake.read();
    }

    /// Waits for a change; spurious wake-ups are the caller's to bear.
    pub fn wait(&self, client: Option<(BorrowedFd<'_>, Gone)>, timeout: Option<Duration>) -> Result<Woken> {
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        loop {
            let flags = match client {
                Some((_, Gone::HalfClosed)) => RDHUP,
                _ => PollFlags::empty(),
            };
            let mut fds = vec![PollFd::new(self.fd(), PollFlags::POLLIN)];
            if let Some((fd, _)) = client {
                fds.push(PollFd::new(fd, flags));
            }
            match nix::poll::poll(&mut fds, remaining(deadline)) {
                Err(nix::Error::EINTR) => continue,
                Err(e) => return Err(e).context("poll"),
                Ok(0) => return Ok(Woken::TimedOut),
                Ok(_) => {}
            }
            let gone = PollFlags::POLLHUP | PollFlags::POLLERR | flags;
            // nix gives none for bits it has no name for, and RDHUP is the one we asked for.
            if fds.get(1).is_some_and(|fd| fd.revents().is_none_or(|r| r.intersects(gone))) {
                return Ok(Woken::ClientGone);
            }
            self.clear();
            return Ok(Woken::Changed);
        }
    }
}

/// What is left until `deadline`, for poll(2); rounded up, so that a wait does
/// not spin through its last millisecond.
pub fn remaining(deadline: Option<Instant>) -> PollTimeout {
    match deadline {
        None => PollTimeout::NONE,
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            let millis = left.as_millis() + u128::from(left.subsec_nanos() % 1_000_000 != 0);
            PollTimeout::try_from(millis.min(i32::MAX as u128) as i32).unwrap_or(PollTimeout::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_and_departures_wake() {
        let watched = Watched::default();
        let watcher = watched.watch().unwrap();
        assert_eq!(watcher.wait(None, Some(Duration::ZERO)).unwrap(), Woken::TimedOut);
        watched.notify();
        assert_eq!(watcher.wait(None, None).unwrap(), Woken::Changed);
        let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        there.shutdown(std::net::Shutdown::Write).unwrap();
        let closed = |gone| watcher.wait(Some((here.as_fd(), gone)), Some(Duration::ZERO)).unwrap();
        assert_eq!(closed(Gone::Closed), Woken::TimedOut);
        assert_eq!(closed(Gone::HalfClosed), Woken::ClientGone);
        drop(there);
        assert_eq!(closed(Gone::Closed), Woken::ClientGone);
    }
}
