//! Connections that a build's client keeps open beside its request: its ssh
//! agents, and the files that a result becomes. The client opens each one by
//! `POST /build/attach` and the build takes it when it needs it; nothing of the
//! client's host has to be within the daemon's reach.
//!
//! Invariant: a connection is taken once. What is not taken closes with the build.

use super::Abort;
use crate::error::{Context, Error, Result};
use crate::util::thread;
use nix::sys::socket::Shutdown;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A client that is there opens its connections at once; one that does not
/// answer for so long is none that knows how.
const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
pub struct Session {
    offered: Mutex<BTreeMap<String, VecDeque<UnixStream>>>,
    came: Condvar,
}

impl Session {
    pub fn offer(&self, name: &str, socket: OwnedFd) {
        let mut offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        offered.entry(name.to_owned()).or_default().push_back(socket.into());
        self.came.notify_all();
    }

    /// The next connection of that name.
    pub fn take(&self, name: &str, abort: &Abort) -> Result<UnixStream> {
        let deadline = Instant::now() + PATIENCE;
        let mut offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            abort.check()?;
            if let Some(socket) = offered.get_mut(name).and_then(VecDeque::pop_front) {
                return Ok(socket);
            }
            if Instant::now() > deadline {
                return Err(Error::unavailable(format!("the client does not answer for {name}")));
            }
            offered = self.came.wait_timeout(offered, GLANCE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A socket below the build's private folder that stands for an agent of the
/// client. Gone when dropped, its connections with it.
pub struct Agent {
    listener: Arc<UnixListener>,
    pub path: PathBuf,
}

/// Who may use the socket inside of the step.
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl Agent {
    pub fn listen(path: &Path, id: &str, owner: &Owner, session: &Arc<Session>, abort: &Arc<Abort>) -> Result<Self> {
        let listener = Arc::new(UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?);
        std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid))
            .context("give the agent's socket its owner")?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(owner.mode))?;
        let (theirs, session, abort, name) = (listener.clone(), session.clone(), abort.clone(), format!("ssh:{id}"));
        thread::start("ssh-agent", 128 << 10, move || {
            // Ended by the shutdown in drop.
            while let Ok((inside, _)) = theirs.accept() {
                let (session, abort, name) = (session.clone(), abort.clone(), name.clone());
                crate::engine::timer::spawn("ssh-agent", move || match session.take(&name, &abort) {
                    Ok(outside) => relay(&inside, &outside),
                    Err(e) => crate::debug!("an agent's connection has no end", "name" = name, "error" = e),
                });
            }
        })?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Linux: whoever waits in accept gets EINVAL.
        let _ = nix::sys::socket::shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Both ways until one side has ended; an agent's talk has no half-close.
fn relay(a: &UnixStream, b: &UnixStream) {
    let pump = |from: &UnixStream, to: &UnixStream| {
        let _ = io::copy(&mut { from }, &mut { to });
        for side in [from, to] {
            let _ = side.shutdown(std::net::Shutdown::Both);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| pump(a, b));
        pump(b, a);
    });
}

/// Writes what the client keeps, and says that it is whole by its end.
pub fn send(socket: UnixStream, write: impl FnOnce(&mut dyn Write) -> Result<()>, abort: &Abort) -> Result<()> {
    let mut out = io::BufWriter::with_capacity(128 << 10, Watched { socket, abort });
    write(&mut out)?;
    out.flush().context("send the result")?;
    let socket = out.into_inner().map_err(|e| Error::from(e.into_error()))?.socket;
    let _ = socket.shutdown(std::net::Shutdown::Write);
    // The client closes when it has everything on its disk.
    let _ = socket.set_read_timeout(Some(PATIENCE));
    let _ = { &socket }.read(&mut [0]);
    Ok(())
}

struct Watched<'a> {
    socket: UnixStream,
    abort: &'a Abort,
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.abort.cancel.fired() {
            return Err(io::Error::other("context canceled"));
        }
        self.socket.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_is_taken_once() {
        let (session, abort) = (Session::default(), Abort::default());
        let (a, b) = UnixStream::pair().unwrap();
        session.offer("x", a.into());
        let mut got = session.take("x", &abort).unwrap();
        got.write_all(b"!").unwrap();
        drop(got);
        let mut text = String::new();
        { &b }.read_to_string(&mut text).unwrap();
        assert_eq!(text, "!");
        abort.cancel.fire();
        assert!(session.take("x", &abort).is_err());
    }
}
