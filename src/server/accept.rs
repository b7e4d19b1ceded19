//! Listening sockets and connections without a request: one thread for all of them. It
//! reads heads as they arrive and gives a thread to those that are whole.
//!
//! Invariant: no error ends the loop before [`Acceptor::stop`], and nothing in it waits
//! for a peer. When descriptors run out, the connection that has been idle longest goes
//! first; when threads do, the peer that keeps one waiting with the fewest bytes.

use super::http::inbound::NoHead;
use super::park::{Connection, FIRST_KEY, HEAD, MAX_THREADS, Seat, WAKE};
use super::request::Peer;
use super::serve::Work;
use super::tls::Tls;
use super::{Server, serve};
use crate::sys::memory;
use crate::util::thread;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Handlers unpack layers and decode deep JSON on it; only touched pages count.
const STACK: usize = 1024 * 1024;
/// So long after the last connection a burst is over.
const SETTLED: Duration = Duration::from_secs(1);
/// Deadlines are looked at no more often than that.
const SWEEP: Duration = Duration::from_secs(1);
/// Fewer descriptors than a small host's containers and clients may need.
const FEW: usize = 1024;
/// Accepted in one go, so that a storm of connections does not starve requests.
const BATCH: usize = 64;

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

/// The accepting thread.
pub struct Acceptor {
    server: Arc<Server>,
    done: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Acceptor {
    pub fn start(server: Arc<Server>, listeners: Vec<Listener>) -> io::Result<Self> {
        let (descriptors, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let most = server.connections.fit(descriptors);
        if descriptors < FEW {
            crate::warn!(
                "few descriptors are allowed: raise the hard limit (ulimit -Hn, LimitNOFILE=)",
                "limit" = descriptors,
                "connections" = most
            );
        }
        for (n, listener) in listeners.iter().enumerate() {
            match listener {
                Listener::Unix(l) => l.set_nonblocking(true)?,
                Listener::Tcp(l, _) => l.set_nonblocking(true)?,
            }
            server.connections.epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, n as u64))?;
        }
        let done = Arc::new(AtomicBool::new(false));
        let (theirs, end) = (server.clone(), done.clone());
        let run = move || Loop { server: theirs, listeners, turned_away: false }.run(&end);
        let thread = thread::start("accept", 256 * 1024, run)?;
        Ok(Self { server, done, thread })
    }

    /// Closes the listening sockets and waits for the thread.
    pub fn stop(self) {
        self.done.store(true, Ordering::Release);
        self.server.connections.wake();
        let _ = self.thread.join();
    }
}

struct Loop {
    server: Arc<Server>,
    listeners: Vec<Listener>,
    /// Somebody was, and it was said.
    turned_away: bool,
}

impl Loop {
    fn run(&mut self, done: &AtomicBool) {
        let server = self.server.clone();
        let connections = &server.connections;
        let mut events = [EpollEvent::empty(); 64];
        let mut busy: Option<Instant> = None;
        let mut sweep: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if sweep.is_none() && connections.any_parked() {
                sweep = Some(now + SWEEP);
            }
            let settled = busy.map(|last| last + SETTLED);
            let count = match connections.epoll.wait(&mut events, until(now, settled, sweep)) {
                Ok(count) => count,
                Err(nix::Error::EINTR) => continue,
                Err(e) => {
                    pause(&io::Error::from(e));
                    continue;
                }
            };
            if count > 0 {
                busy = Some(Instant::now());
            } else if settled.is_some_and(|at| at <= Instant::now()) {
                // What a burst of requests needed goes back to the kernel once.
                memory::trim();
                busy = None;
            }
            for event in &events[..count] {
                match event.data() {
                    WAKE => connections.woken(),
                    key if key < FIRST_KEY => self.accept(key as usize),
                    key => self.look(key),
                }
            }
            if done.load(Ordering::Acquire) {
                return;
            }
            if sweep.is_some_and(|at| at <= Instant::now()) {
                let (owed, next) = connections.expire();
                sweep = next.map(|at| at.clamp(now + SWEEP, now + HEAD));
                for (connection, work) in owed {
                    self.begin(connection, work);
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) {
        for _ in 0..BATCH {
            let Some(listener) = self.listeners.get(listener) else { return };
            match listener.accept() {
                Ok((fd, peer, tls)) => self.admit(fd, peer, tls),
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    crate::warn!("refused a connection on the API socket", "error" = e);
                }
                Err(e) => match e.raw_os_error().map(nix::Error::from_raw) {
                    Some(nix::Error::EAGAIN) => return,
                    Some(nix::Error::EINTR | nix::Error::ECONNABORTED) => {}
                    Some(nix::Error::EMFILE | nix::Error::ENFILE | nix::Error::ENOMEM | nix::Error::ENOBUFS)
                        if self.server.connections.evict() => {}
                    _ => return pause(&e),
                },
            }
        }
    }

    fn admit(&mut self, fd: OwnedFd, peer: Peer, tls: Option<Arc<Tls>>) {
        let connections = &self.server.connections;
        if connections.full() && !connections.evict() {
            if !self.turned_away {
                crate::warn!("too many connections at once, some are turned away");
            }
            self.turned_away = true;
            return;
        }
        self.turned_away = false;
        connections.park(Connection::new(fd, peer, tls), HEAD);
    }

    /// Something has arrived on a connection without a request.
    fn look(&mut self, key: u64) {
        let connections = &self.server.connections;
        let Some(mut connection) = connections.take(key) else { return };
        let work = match connection.tls.take() {
            Some(tls) => Work::Handshake(tls),
            None => {
                let step = connection.body.0.lock().unwrap_or_else(PoisonError::into_inner).step();
                match step {
                    Ok(None) => return connections.put_back(key, connection),
                    Ok(Some(head)) => Work::Head(head),
                    Err(NoHead::Refused(refusal)) => Work::Refusal(refusal),
                    Err(NoHead::Closed) => return connections.forget(&connection),
                }
            }
        };
        connections.forget(&connection);
        self.begin(connection, work);
    }

    fn begin(&mut self, connection: Connection, work: Work) {
        let connections = &self.server.connections;
        if connections.threads() >= MAX_THREADS && !connections.evict_slowest() {
            crate::warn!("too many requests at once, one is turned away", "limit" = MAX_THREADS);
            if !matches!(work, Work::Handshake(_)) {
                connection.socket.say(BUSY);
            }
            return;
        }
        let seat = Seat::take(&self.server, &connection);
        let serve = move || {
            serve::connection(&seat.server, connection, work);
            drop(seat);
        };
        if let Err(e) = thread::start("http", STACK, serve) {
            crate::error!("cannot serve a connection", "error" = e);
            self.server.connections.evict_slowest();
        }
    }
}

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\ntoo many requests at once";

fn until(now: Instant, settled: Option<Instant>, sweep: Option<Instant>) -> EpollTimeout {
    let Some(at) = settled.into_iter().chain(sweep).min() else { return EpollTimeout::NONE };
    let left = at.saturating_duration_since(now).as_millis() + 1;
    EpollTimeout::try_from(left.min(60_000) as i32).unwrap_or(EpollTimeout::ZERO)
}

/// Something is wrong that trying again at once would not mend.
fn pause(e: &io::Error) {
    crate::error!("cannot accept a connection", "error" = e);
    std::thread::sleep(Duration::from_millis(50));
}
