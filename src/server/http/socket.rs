//! One connection's socket, with TLS on it or without, shared by the two halves of a
//! connection. Any thread.
//!
//! Invariant: whoever waits here holds no lock, so that a client may send while it is
//! being answered. With TLS the descriptor is non-blocking and only polled.

use crate::server::tls::{self, Session};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{MsgFlags, Shutdown};
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a peer that is turned away may take to read why.
const LINGER: Duration = Duration::from_millis(500);

pub struct Socket {
    fd: OwnedFd,
    /// `None` in it once somebody took the session over.
    tls: OnceLock<Mutex<Option<Session>>>,
    /// The head of the answer is out: `100 Continue` would come too late.
    answered: AtomicBool,
    began: Instant,
    received: AtomicU64,
    /// A thread waits for this peer's bytes, see [`Socket::pace`].
    waiting: AtomicBool,
}

impl Socket {
    pub fn new(fd: OwnedFd) -> Arc<Self> {
        Arc::new(Self {
            fd,
            tls: OnceLock::new(),
            answered: AtomicBool::new(false),
            began: Instant::now(),
            received: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
        })
    }

    /// From now on everything goes through TLS.
    pub fn secure(&self, session: Session) {
        let _ = self.tls.set(Mutex::new(Some(session)));
    }

    fn session(&self) -> Option<MutexGuard<'_, Option<Session>>> {
        self.tls.get().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn set_answered(&self, answered: bool) {
        self.answered.store(answered, Ordering::Release);
    }

    pub fn answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    /// Ends both directions; whoever reads or writes wakes up.
    pub fn shut(&self) {
        let _ = nix::sys::socket::shutdown(self.fd.as_raw_fd(), Shutdown::Both);
    }

    /// A descriptor of plain bytes in both directions for somebody else: this one
    /// again, or with TLS an end of a pair whose other end a thread serves.
    pub fn hand_over(&self) -> io::Result<OwnedFd> {
        let copy = self.fd.try_clone()?;
        match self.session() {
            None => Ok(copy),
            Some(mut session) => tls::pump(session.take().ok_or(io::ErrorKind::NotConnected)?, copy),
        }
    }

    /// Waits for something to read. False at the deadline.
    pub fn readable(&self, deadline: Option<Instant>) -> io::Result<bool> {
        if self.session().is_some_and(|mut s| s.as_mut().is_none_or(Session::pending)) {
            return Ok(true);
        }
        self.poll(PollFlags::POLLIN, deadline)
    }

    fn poll(&self, events: PollFlags, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            let timeout = match deadline {
                None => PollTimeout::NONE,
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(false);
                    }
                    PollTimeout::try_from(left.as_millis().min(60_000) as i32 + 1).unwrap_or(PollTimeout::MAX)
                }
            };
            match nix::poll::poll(&mut [PollFd::new(self.fd.as_fd(), events)], timeout) {
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// What has arrived, 0 at the end, `None` if nothing has.
    pub fn receive_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let got = match self.session() {
            Some(mut session) => match session.as_mut() {
                Some(session) => session.receive(self.fd.as_fd(), buffer),
                None => Ok(Some(0)),
            },
            None => match nix::sys::socket::recv(self.fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
                Err(nix::Error::ECONNRESET) => Ok(Some(0)),
                other => other.map(Some).map_err(Into::into),
            },
        };
        if let Ok(Some(n)) = got {
            self.received.fetch_add(n as u64, Ordering::Relaxed);
        }
        got
    }

    /// The same, and waits for it.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.tls.get().is_some() {
                match self.receive_now(buffer)? {
                    Some(n) => return Ok(n),
                    None => self.poll(PollFlags::POLLIN, None)?,
                };
                continue;
            }
            match nix::unistd::read(&self.fd, &mut *buffer) {
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::ECONNRESET) => return Ok(0),
                Ok(n) => {
                    self.received.fetch_add(n as u64, Ordering::Relaxed);
                    return Ok(n);
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Small parts go out in one piece.
    pub fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.tls.get().is_some() {
            return self.write_tls(parts);
        }
        loop {
            match nix::sys::uio::writev(&self.fd, parts) {
                Err(nix::Error::EINTR) => {}
                other => return other.map_err(Into::into),
            }
        }
    }

    /// Returns when the kernel has every byte that was taken.
    fn write_tls(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = None;
        loop {
            if let Some(mut session) = self.session() {
                let session = session.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
                let mut out = session.flush(self.fd.as_fd())?;
                if out && taken.is_none() {
                    taken = Some(session.write(parts)?);
                    out = session.flush(self.fd.as_fd())?;
                }
                if let (true, Some(n)) = (out, taken) {
                    return Ok(n);
                }
            }
            self.poll(PollFlags::POLLOUT, None)?;
        }
    }

    /// A write that does not wait; what does not fit is lost. For a last word.
    pub fn say(&self, bytes: &[u8]) {
        match self.session() {
            None => {
                let _ = nix::sys::socket::send(self.fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT);
            }
            Some(mut session) => {
                if let Some(session) = session.as_mut() {
                    let _ = session.write(&[IoSlice::new(bytes)]).and_then(|_| session.flush(self.fd.as_fd()));
                }
            }
        }
    }

    /// Ends our direction. Bytes of the peer that nobody reads would turn the close
    /// into a reset, and the reset could overtake the answer: so they are read for
    /// a moment.
    pub fn linger(&self) {
        self.end();
        let _ = nix::sys::socket::shutdown(self.fd.as_raw_fd(), Shutdown::Write);
        linger(self.fd.as_fd());
    }

    /// TLS has an end of its own.
    fn end(&self) {
        if let Some(mut session) = self.session()
            && let Some(session) = session.as_mut()
        {
            session.close(self.fd.as_fd());
        }
    }

    /// Runs `wait`, in which a thread of ours depends on this peer.
    pub fn while_waiting<T>(&self, wait: impl FnOnce(&Self) -> T) -> T {
        self.waiting.store(true, Ordering::Relaxed);
        let result = wait(self);
        self.waiting.store(false, Ordering::Relaxed);
        result
    }

    /// Bytes per second that this peer gives the thread that waits for it; `None`
    /// while none does.
    pub fn pace(&self) -> Option<u64> {
        let age = self.began.elapsed().as_millis() as u64;
        let received = self.received.load(Ordering::Relaxed);
        self.waiting.load(Ordering::Relaxed).then(|| (received + 1).saturating_mul(1000) / (age + 1))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.end();
    }
}

/// Writes to the socket; SIGPIPE is ignored by the daemon.
impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(&[IoSlice::new(bytes)])
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads and drops what comes until the peer closes, half a second is over or it has
/// said more than it may.
pub(in crate::server) fn linger(fd: BorrowedFd<'_>) {
    let end = Instant::now() + LINGER;
    let mut piece = [0; 4096];
    for _ in 0..64 {
        let left = end.saturating_duration_since(Instant::now()).as_millis() as i32;
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let ready = nix::poll::poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout);
        if !matches!(ready, Ok(1)) || !matches!(nix::unistd::read(fd, &mut piece), Ok(1..)) {
            return;
        }
    }
}
