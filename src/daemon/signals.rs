//! Signals as events for the main thread. Blocked before any thread exists, so
//! that every thread inherits the mask and only the descriptor delivers them.

use crate::error::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

pub struct Signals(SignalFd);

pub enum Woken {
    Signal(Signal),
    /// The other descriptor is readable or closed.
    Other,
    Timeout,
}

impl Signals {
    pub fn block() -> Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
            set.add(signal);
        }
        set.thread_block().context("block signals")?;
        let fd =
            SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("open a signalfd")?;
        Ok(Self(fd))
    }

    /// Waits for the next signal, for `other`, or for `time` to pass.
    pub fn wait(&self, other: Option<BorrowedFd<'_>>, time: Option<Duration>) -> Woken {
        let timeout = match time {
            None => PollTimeout::NONE,
            Some(t) => PollTimeout::try_from(t.as_millis().min(3_600_000) as i32).unwrap_or(PollTimeout::MAX),
        };
        loop {
            if let Ok(Some(info)) = self.0.read_signal()
                && let Ok(signal) = Signal::try_from(info.ssi_signo as i32)
            {
                return Woken::Signal(signal);
            }
            let mut fds = vec![PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            fds.extend(other.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            match nix::poll::poll(&mut fds, timeout) {
                Ok(0) => return Woken::Timeout,
                Ok(_) if fds.get(1).is_some_and(|f| f.any().unwrap_or(false)) => return Woken::Other,
                Ok(_) | Err(_) => {}
            }
        }
    }
}
