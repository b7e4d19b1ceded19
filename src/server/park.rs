//! Connections that wait for a request: a table and an epoll set, no threads. Threads
//! of connections put them in, the accepting thread looks after them.
//!
//! Invariant: a connection is in the table and in the epoll set under the same key, or
//! in neither; whoever takes it out of the table owns it. What a peer can make us keep
//! is bounded: connections by descriptors, bytes of unfinished heads in sum, threads.

use super::Server;
use super::http::inbound::{Inbound, LATE};
use super::http::socket::Socket;
use super::request::{Body, Peer};
use super::serve::Work;
use super::tls::Tls;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For a whole head, and for the first byte of a new connection.
pub(super) const HEAD: Duration = Duration::from_secs(10);
/// Between requests; clients with a pool reconnect without a word.
pub(super) const IDLE: Duration = Duration::from_secs(90);
/// Silence inside a body that came over the network.
const STALL: Duration = Duration::from_secs(300);
/// Connections at once, where descriptors allow it.
const MAX_CONNECTIONS: usize = 16 * 1024;
/// Requests at once, each a thread.
pub(super) const MAX_THREADS: usize = 2048;
/// Bytes of all unfinished heads.
const MAX_HELD: usize = 16 * 1024 * 1024;
/// Keys below belong to the listeners and to the wake-up.
pub(super) const FIRST_KEY: u64 = 1 << 16;
pub(super) const WAKE: u64 = FIRST_KEY - 1;

/// One client between two requests, or before the first.
pub(super) struct Connection {
    pub socket: Arc<Socket>,
    pub body: Body,
    pub peer: Peer,
    /// The handshake is still to come.
    pub tls: Option<Arc<Tls>>,
    until: Instant,
    held: usize,
}

impl Connection {
    pub fn new(fd: OwnedFd, peer: Peer, tls: Option<Arc<Tls>>) -> Self {
        let socket = Socket::new(fd);
        let body = Body(Arc::new(Mutex::new(Inbound::new(socket.clone(), peer.network.then_some(STALL)))));
        Self { socket, body, peer, tls, until: Instant::now() + HEAD, held: 0 }
    }
}

#[derive(Default)]
struct Parked {
    table: BTreeMap<u64, Connection>,
    held: usize,
}

impl Parked {
    fn insert(&mut self, key: u64, connection: Connection) {
        self.held += connection.held;
        self.table.insert(key, connection);
    }
    fn remove(&mut self, key: u64) -> Option<Connection> {
        let connection = self.table.remove(&key)?;
        self.held -= connection.held;
        Some(connection)
    }
}

/// Who is connected.
pub(crate) struct Connections {
    pub(super) epoll: Epoll,
    wake: EventFd,
    next: AtomicU64,
    most: AtomicUsize,
    parked: Mutex<Parked>,
    /// Those with a thread.
    active: Mutex<BTreeMap<u64, Arc<Socket>>>,
}

impl Connections {
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Self {
            epoll,
            wake,
            next: AtomicU64::new(FIRST_KEY),
            most: AtomicUsize::new(MAX_CONNECTIONS),
            parked: Mutex::default(),
            active: Mutex::default(),
        })
    }

    /// A quarter of the descriptors stays for the work itself.
    pub(super) fn fit(&self, descriptors: usize) -> usize {
        let most = (descriptors / 4 * 3).clamp(16, MAX_CONNECTIONS);
        self.most.store(most, Ordering::Relaxed);
        most
    }

    fn parked(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn active(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Socket>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn threads(&self) -> usize {
        self.active().len()
    }
    /// As many as the descriptors are for.
    pub(super) fn full(&self) -> bool {
        self.parked().table.len() + self.threads() >= self.most.load(Ordering::Relaxed)
    }
    pub(super) fn any_parked(&self) -> bool {
        !self.parked().table.is_empty()
    }

    /// The accepting thread looks again.
    pub(super) fn wake(&self) {
        let _ = self.wake.write(1);
    }
    pub(super) fn woken(&self) {
        let _ = self.wake.read();
    }

    /// From now on a request is waited for without a thread.
    pub(super) fn park(&self, mut connection: Connection, patience: Duration) {
        connection.held = held(&connection);
        connection.until = Instant::now() + if connection.held > 0 { HEAD } else { patience };
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        // Both at once: nobody may find it in one of them alone.
        let mut parked = self.parked();
        match self.epoll.add(&connection.socket, EpollEvent::new(EpollFlags::EPOLLIN, key)) {
            Ok(()) => parked.insert(key, connection),
            Err(e) => crate::error!("cannot keep a connection", "error" = e),
        }
    }

    /// Out of the table; the epoll set still has it.
    pub(super) fn take(&self, key: u64) -> Option<Connection> {
        self.parked().remove(key)
    }

    /// Back under its key, after another look at its head.
    pub(super) fn put_back(&self, key: u64, mut connection: Connection) {
        let (before, now) = (connection.held, held(&connection));
        connection.held = now;
        if before == 0 && now > 0 {
            connection.until = Instant::now() + HEAD;
        }
        let mut parked = self.parked();
        parked.insert(key, connection);
        // Endless heads: the longest goes, until the sum is bearable again.
        while parked.held > MAX_HELD {
            let Some((key, _)) = parked.table.iter().max_by_key(|(_, c)| c.held) else { return };
            let key = *key;
            if let Some(connection) = parked.remove(key) {
                self.forget(&connection);
            }
        }
    }

    pub(super) fn forget(&self, connection: &Connection) {
        let _ = self.epoll.delete(&connection.socket);
    }

    /// Ends the one that has waited longest; false if there is none.
    pub(super) fn evict(&self) -> bool {
        let mut parked = self.parked();
        let Some(key) = parked.table.keys().next().copied() else { return false };
        if let Some(connection) = parked.remove(key) {
            self.forget(&connection);
            connection.socket.shut();
        }
        true
    }

    pub(super) fn close_idle(&self) {
        while self.evict() {}
    }

    /// Ends the slowest of the peers that keep a thread waiting for their bytes; false
    /// if there is none.
    pub(super) fn evict_slowest(&self) -> bool {
        let active = self.active();
        let slowest = active.values().filter_map(|s| s.pace().map(|pace| (pace, s))).min_by_key(|(pace, _)| *pace);
        if let Some((_, socket)) = slowest {
            socket.shut();
        }
        slowest.is_some()
    }

    /// Takes out whose time is over; those with a piece of a head are owed an answer.
    /// Also says when the next one's time is over.
    pub(super) fn expire(&self) -> (Vec<(Connection, Work)>, Option<Instant>) {
        let now = Instant::now();
        let mut parked = self.parked();
        let late: Vec<u64> = parked.table.iter().filter(|(_, c)| c.until <= now).map(|(key, _)| *key).collect();
        let mut owed = Vec::new();
        for key in late {
            let Some(connection) = parked.remove(key) else { continue };
            self.forget(&connection);
            if connection.held > 0 {
                owed.push((connection, Work::Refusal(LATE)));
            }
        }
        (owed, parked.table.values().map(|c| c.until).min())
    }
}

fn held(connection: &Connection) -> usize {
    let inbound = connection.body.0.lock().unwrap_or_else(PoisonError::into_inner);
    inbound.held()
}

/// The place of a connection that has a thread.
pub(super) struct Seat {
    pub server: Arc<Server>,
    key: u64,
}

impl Seat {
    pub fn take(server: &Arc<Server>, connection: &Connection) -> Self {
        let key = server.connections.next.fetch_add(1, Ordering::Relaxed);
        server.connections.active().insert(key, connection.socket.clone());
        Self { server: server.clone(), key }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.server.connections.active().remove(&self.key);
    }
}
