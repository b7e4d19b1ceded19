//! Listening sockets and the loop that accepts from all of them. One thread.
//!
//! Invariant: no error ends the loop before [`Acceptor::stop`]. When descriptors
//! or the cap run out, the connection that has been idle longest goes first.

use super::http::inbound::Socket;
use super::request::Peer;
use super::tls::{self, Tls};
use super::{Server, serve};
use crate::sys::memory;
use crate::util::thread;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Connections at once, each a thread. Above it the idle make room.
const MAX_CONNECTIONS: usize = 2048;
/// Handlers unpack layers and decode deep JSON on it; only touched pages count.
const STACK: usize = 1024 * 1024;
const TLS_STACK: usize = 256 * 1024;
/// So long after the last connection a burst is over; milliseconds.
const SETTLED: u16 = 1000;
const PUMP_STACK: usize = 128 * 1024;

pub enum Listener {
    Unix(UnixListener),
    /// With TLS in front, or without.
    Tcp(TcpListener, Option<Arc<Tls>>),
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Unix(l) => l.as_fd(),
            Listener::Tcp(l, _) => l.as_fd(),
        }
    }
}

impl Listener {
    fn accept(&self) -> io::Result<(OwnedFd, Peer, Option<Arc<Tls>>)> {
        match self {
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                // Accepted sockets do not inherit O_NONBLOCK on Linux.
                let peer = unix_peer(&stream)?;
                Ok((stream.into(), peer, None))
            }
            Listener::Tcp(listener, tls) => {
                let (stream, address) = listener.accept()?;
                let _ = stream.set_nodelay(true);
                let _ = nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::KeepAlive, &true);
                let peer = Peer { name: address.to_string(), network: true, ..Peer::default() };
                Ok((stream.into(), peer, tls.clone()))
            }
        }
    }
}

/// The socket's mode decided already who may connect. What it cannot tell apart
/// is refused here: in a user namespace, a process of a container under another
/// id than root that got at the socket. (Ids from outside appear as the overflow
/// id: the machine's real root is among them.)
fn unix_peer(stream: &UnixStream) -> io::Result<Peer> {
    const OVERFLOW: u32 = 65534;
    let credentials = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials)?;
    let (uid, own) = (credentials.uid(), nix::unistd::geteuid().as_raw());
    let groups_may = credentials.gid() == nix::unistd::getegid().as_raw() || own == 0 && !in_user_namespace();
    if uid != own && uid != 0 && uid != OVERFLOW && !groups_may {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("peer has user id {uid}")));
    }
    Ok(Peer { name: "unix".into(), ..Peer::default() })
}

fn in_user_namespace() -> bool {
    static WHOLE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    !*WHOLE.get_or_init(|| {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        map.split_whitespace().collect::<Vec<_>>() == ["0", "0", "4294967295"]
    })
}

/// Who is connected, and who of them is waiting for a request.
#[derive(Default)]
pub struct Connections {
    count: AtomicUsize,
    next: AtomicU64,
    idle: Mutex<BTreeMap<u64, Arc<Socket>>>,
}

impl Connections {
    fn idle(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Socket>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
    /// From here until the key is removed the connection may be ended for others.
    pub(super) fn enter_idle(&self, socket: &Arc<Socket>) -> u64 {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        self.idle().insert(key, socket.clone());
        key
    }
    pub(super) fn leave_idle(&self, key: u64) {
        self.idle().remove(&key);
    }
    /// Ends the longest idle connection; false if there is none.
    fn evict(&self) -> bool {
        match self.idle().pop_first() {
            Some((_, socket)) => {
                socket.shut();
                true
            }
            None => false,
        }
    }
    pub(super) fn close_idle(&self) {
        while self.evict() {}
    }
}

struct Counted(Arc<Server>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The accepting thread.
pub struct Acceptor {
    wake: UnixStream,
    thread: JoinHandle<()>,
}

impl Acceptor {
    pub fn start(server: Arc<Server>, listeners: Vec<Listener>) -> io::Result<Self> {
        for listener in &listeners {
            match listener {
                Listener::Unix(l) => l.set_nonblocking(true)?,
                Listener::Tcp(l, _) => l.set_nonblocking(true)?,
            }
        }
        let (wake, woken) = UnixStream::pair()?;
        let thread = thread::start("accept", 128 * 1024, move || run(&server, &listeners, &woken))?;
        Ok(Self { wake, thread })
    }

    /// Closes the listening sockets and waits for the thread.
    pub fn stop(self) {
        drop(self.wake);
        let _ = self.thread.join();
    }
}

fn run(server: &Arc<Server>, listeners: &[Listener], woken: &UnixStream) {
    let mut quiet = true;
    loop {
        let mut fds: Vec<PollFd<'_>> = listeners.iter().map(|l| PollFd::new(l.as_fd(), PollFlags::POLLIN)).collect();
        fds.push(PollFd::new(woken.as_fd(), PollFlags::POLLIN | PollFlags::POLLHUP));
        match nix::poll::poll(&mut fds, if quiet { PollTimeout::NONE } else { SETTLED.into() }) {
            // What a burst of requests needed goes back to the kernel once.
            Ok(0) => {
                memory::trim();
                quiet = true;
                continue;
            }
            Ok(_) => quiet = false,
            Err(nix::Error::EINTR) => continue,
            Err(e) => {
                pause(&io::Error::from(e));
                continue;
            }
        }
        if fds.last().is_some_and(|f| f.any().unwrap_or(false)) {
            return;
        }
        let ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(false)).collect();
        for (listener, _) in listeners.iter().zip(ready).filter(|(_, ready)| *ready) {
            match listener.accept() {
                Ok((fd, peer, tls)) => admit(server, fd, peer, tls),
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    crate::warn!("refused a connection on the API socket", "error" = e);
                }
                Err(e) => match e.raw_os_error().map(nix::Error::from_raw) {
                    Some(nix::Error::EAGAIN | nix::Error::EINTR | nix::Error::ECONNABORTED) => {}
                    Some(nix::Error::EMFILE | nix::Error::ENFILE | nix::Error::ENOMEM | nix::Error::ENOBUFS) => {
                        if !server.connections.evict() {
                            pause(&e);
                        }
                    }
                    _ => pause(&e),
                },
            }
        }
    }
}

/// Something is wrong that trying again at once would not mend.
fn pause(e: &io::Error) {
    crate::error!("cannot accept a connection", "error" = e);
    std::thread::sleep(Duration::from_millis(50));
}

fn admit(server: &Arc<Server>, fd: OwnedFd, peer: Peer, tls: Option<Arc<Tls>>) {
    let connections = &server.connections;
    if connections.count() >= MAX_CONNECTIONS && !connections.evict() {
        crate::warn!("too many connections at once, one is turned away", "limit" = MAX_CONNECTIONS);
        return;
    }
    connections.count.fetch_add(1, Ordering::Relaxed);
    let counted = Counted(server.clone());
    let spawned = match tls {
        None => spawn("http", STACK, move || {
            serve::connection(&counted.0, Socket::new(fd), &peer);
            drop(counted);
        }),
        Some(tls) => spawn("tls", TLS_STACK, move || {
            secure(counted, &tls, fd, peer);
        }),
    };
    if let Err(e) = spawned {
        crate::error!("cannot serve a connection", "error" = e);
        connections.evict();
    }
}

fn spawn(name: &str, stack: usize, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::start(name, stack, work).map(drop)
}

/// The handshake, then a thread for the requests and one that moves bytes. This
/// one ends: a handshake's deep stack must not stay with an idle connection.
fn secure(counted: Counted, tls: &Tls, fd: OwnedFd, mut peer: Peer) {
    let session = match tls::accept(tls, fd, &mut peer) {
        Ok(session) => session,
        Err(why) => {
            crate::warn!(format!("http: TLS handshake error from {}: {why}", peer.name));
            return;
        }
    };
    let Ok((ours, handlers)) = UnixStream::pair() else { return };
    let server = counted.0.clone();
    let started = spawn("http", STACK, move || serve::connection(&server, Socket::new(handlers.into()), &peer))
        .and_then(|()| {
            spawn("tls", PUMP_STACK, move || {
                tls::pump(session, &ours);
                drop(counted);
            })
        });
    if let Err(e) = started {
        crate::error!("cannot serve a connection", "error" = e);
    }
}
