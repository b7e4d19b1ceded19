//! TLS on a connection: the handshake, then bytes in and out on whichever thread has
//! them; no thread and no buffer belong to a session that is silent.
//!
//! A connection that a handler takes over (attach, exec) needs a real descriptor, which
//! can be polled, half closed and handed to a container's process: only then a pair of
//! sockets is made, and a thread moves the bytes between one end and the session. A
//! close_notify becomes the end of input of the pair and the other way round, so that
//! half-closed streams (stdin of `docker run -i`) work as over a plain socket.

use super::http::socket::linger;
use super::request::Peer;
use super::roles::Roles;
use crate::util::{thread, time, x509};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use rustls::pki_types::UnixTime;
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The current certificates and roles; replaced on a reload without touching
/// connections, which keep what their handshake gave them.
pub struct Tls(RwLock<Policy>);

/// Whom the daemon believes, and what they may do.
#[derive(Clone)]
pub struct Policy {
    pub certificates: Arc<ServerConfig>,
    pub roles: Roles,
}

impl Tls {
    pub fn new(policy: Policy) -> Arc<Self> {
        Arc::new(Self(RwLock::new(policy)))
    }
    pub fn replace(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }
    fn current(&self) -> Policy {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

const HANDSHAKE: Duration = Duration::from_secs(10);
/// Plain bytes under way in one direction.
const PIECE: usize = 16 * 1024;

const PUMP_STACK: usize = 128 * 1024;
/// Connections that were taken over, each a thread.
const MAX_PUMPS: usize = 2048;
static PUMPS: AtomicUsize = AtomicUsize::new(0);

/// Taken for one move and given back: an idle connection holds none.
fn piece() -> Vec<u8> {
    vec![0; PIECE]
}

/// An established session. Never waits: `network` is non-blocking.
pub struct Session(Box<ServerConnection>);

impl Session {
    /// Something can be had without the network: bytes, or the news of an end.
    pub fn pending(&mut self) -> bool {
        self.0.process_new_packets().map_or(true, |s| s.plaintext_bytes_to_read() > 0 || s.peer_has_closed())
    }

    /// Decrypted bytes, 0 at the end, `None` while there are none.
    pub fn receive(&mut self, network: BorrowedFd<'_>, out: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.0.reader().read(out) {
                Ok(n) => return Ok(Some(n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // No close_notify: what HTTP framed is judged there, the rest is an end.
                Err(_) => return Ok(Some(0)),
            }
            if would_block(self.0.read_tls(&mut Raw(&network)))?.is_none() {
                return Ok(None);
            }
            let processed = self.0.process_new_packets().map(drop);
            // Answers of the protocol itself, or the alert that says what was wrong.
            self.flush(network)?;
            processed.map_err(io::Error::other)?;
        }
    }

    /// Takes some of the bytes, never none if [`Session::flush`] has just said true.
    pub fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.writer().write_vectored(parts)
    }

    /// True once the kernel has everything.
    pub fn flush(&mut self, network: BorrowedFd<'_>) -> io::Result<bool> {
        while self.0.wants_write() {
            if would_block(self.0.write_tls(&mut Raw(&network)))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Says that nothing more comes from us, as far as the peer takes it.
    pub fn close(&mut self, network: BorrowedFd<'_>) {
        self.0.send_close_notify();
        let _ = self.flush(network);
    }
}

/// Shakes hands within the time limit. The error is a sentence for the log.
pub fn accept(tls: &Tls, network: BorrowedFd<'_>, peer: &mut Peer) -> Result<Session, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let policy = tls.current();
    let mut connection = ServerConnection::new(policy.certificates).map_err(|e| text(&e))?;
    connection.set_buffer_limit(Some(2 * PIECE));
    crate::sys::fd::set_nonblocking(network, true).map_err(|e| text(&e))?;
    let deadline = Instant::now() + HANDSHAKE;
    while connection.is_handshaking() || connection.wants_write() {
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, connection.wants_read());
        events.set(PollFlags::POLLOUT, connection.wants_write());
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.as_millis() as i32).unwrap_or(PollTimeout::ZERO);
        match nix::poll::poll(&mut [PollFd::new(network, events)], timeout) {
            Ok(0) => return Err("no handshake within 10 seconds".into()),
            Err(nix::Error::EINTR) => continue,
            Err(e) => return Err(text(&e)),
            Ok(_) => {}
        }
        if connection.wants_write() {
            would_block(connection.write_tls(&mut Raw(&network))).map_err(|e| text(&e))?;
        }
        if connection.wants_read() {
            match would_block(connection.read_tls(&mut Raw(&network))).map_err(|e| text(&e))? {
                Some(0) => return Err("EOF".into()),
                Some(_) => {
                    if let Err(e) = connection.process_new_packets() {
                        if plain_http(&e) {
                            let _ = Raw(&network).write(PLAIN_HTTP);
                        } else {
                            // The alert tells the client why.
                            let _ = connection.write_tls(&mut Raw(&network));
                        }
                        // Under TLS 1.3 the client's request is under way before our alert.
                        shut_write(&network);
                        linger(network);
                        return Err(sentence(&e));
                    }
                }
                None => {}
            }
        }
    }
    let facts = connection.peer_certificates().and_then(|list| x509::facts(list.first()?.as_ref()));
    peer.verified = connection.peer_certificates().is_some();
    peer.role = policy.roles.of(facts.as_ref().and_then(|f| f.common_name.as_deref()));
    peer.subject = facts.map(|f| f.subject);
    Ok(Session(Box::new(connection)))
}

/// Go's answer to those who forgot the TLS; clients look for it.
const PLAIN_HTTP: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

fn plain_http(e: &rustls::Error) -> bool {
    matches!(e, rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType))
}

/// The usual reasons in the words that people search for.
fn sentence(e: &rustls::Error) -> String {
    use rustls::{CertificateError, Error, InvalidMessage};
    match e {
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".into(),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "client sent an HTTP request to an HTTPS server, or something else that is not TLS".into()
        }
        Error::InvalidCertificate(why) => {
            let why = match why {
                CertificateError::ExpiredContext { time, not_after: limit } => {
                    return out_of_time(*time, "after", *limit);
                }
                CertificateError::NotValidYetContext { time, not_before: limit } => {
                    return out_of_time(*time, "before", *limit);
                }
                CertificateError::Expired | CertificateError::NotValidYet => {
                    "certificate has expired or is not yet valid"
                }
                CertificateError::UnknownIssuer => "certificate signed by unknown authority",
                CertificateError::Revoked => "certificate was revoked",
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                    "certificate specifies an incompatible key usage"
                }
                CertificateError::BadSignature => "certificate has a bad signature",
                other => return format!("tls: failed to verify certificate: x509: {other:?}"),
            };
            format!("tls: failed to verify certificate: x509: {why}")
        }
        other => format!("tls: {other}"),
    }
}

fn out_of_time(now: UnixTime, relation: &str, limit: UnixTime) -> String {
    let text = |t: UnixTime| time::rfc3339_nano(time::Timestamp::from_parts(t.as_secs() as i64, 0));
    format!(
        "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time {} is {relation} {}",
        text(now),
        text(limit)
    )
}

/// Non-blocking calls on a borrowed descriptor.
struct Raw<'a, F: AsFd>(&'a F);

impl<F: AsFd> Read for Raw<'_, F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        nix::unistd::read(self.0, out).map_err(Into::into)
    }
}

impl<F: AsFd> Write for Raw<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        nix::unistd::write(self.0, bytes).map_err(Into::into)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn would_block(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(e) => Err(e),
    }
}

fn shut_write(fd: &impl AsFd) {
    let _ = nix::sys::socket::shutdown(fd.as_fd().as_raw_fd(), nix::sys::socket::Shutdown::Write);
}

/// One end of a pair; a thread moves bytes between the other one and the session until
/// both directions have ended.
pub fn pump(session: Session, network: OwnedFd) -> io::Result<OwnedFd> {
    struct Seat;
    impl Drop for Seat {
        fn drop(&mut self) {
            PUMPS.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let before = PUMPS.fetch_add(1, Ordering::Relaxed);
    let seat = Seat;
    if before >= MAX_PUMPS {
        return Err(io::Error::other("too many streams over TLS at once"));
    }
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    thread::start("tls", PUMP_STACK, move || {
        let _seat = seat;
        let _ = Pump {
            tls: session.0,
            network,
            ours: &ours,
            inward: Vec::new(),
            peer_done: false,
            ours_done: false,
            told_ours: false,
            told_peer: false,
        }
        .run();
    })?;
    Ok(theirs.into())
}

struct Pump<'a> {
    tls: Box<ServerConnection>,
    network: OwnedFd,
    ours: &'a UnixStream,
    /// Decrypted, not yet written to our side.
    inward: Vec<u8>,
    /// Nothing more comes from there.
    peer_done: bool,
    ours_done: bool,
    /// The end was passed on.
    told_ours: bool,
    told_peer: bool,
}

impl Pump<'_> {
    fn run(&mut self) -> io::Result<()> {
        // What came behind the request.
        self.take_plain();
        loop {
            self.pass_ends()?;
            if self.told_ours && self.told_peer {
                return Ok(());
            }
            let tls = &self.tls;
            let (wants_write, idle_in) = (tls.wants_write(), self.inward.is_empty());
            let mut network = PollFlags::empty();
            network.set(PollFlags::POLLIN, idle_in && !self.peer_done);
            network.set(PollFlags::POLLOUT, wants_write);
            let mut inner = PollFlags::empty();
            inner.set(PollFlags::POLLIN, !wants_write && !self.ours_done);
            inner.set(PollFlags::POLLOUT, !idle_in);
            let mut fds = [PollFd::new(self.network.as_fd(), network), PollFd::new(self.ours.as_fd(), inner)];
            if let Err(e) = nix::poll::poll(&mut fds, PollTimeout::NONE)
                && e != nix::Error::EINTR
            {
                return Err(e.into());
            }
            let ready = |fd: &PollFd<'_>| fd.revents().unwrap_or(PollFlags::empty());
            let (network, inner) = (ready(&fds[0]), ready(&fds[1]));
            if network.contains(PollFlags::POLLERR) || (network.contains(PollFlags::POLLHUP) && self.told_peer) {
                return Ok(());
            }
            // Our side is closed in both directions: nobody is left to read.
            let closed = inner.contains(PollFlags::POLLHUP) && self.ours_done;
            if network.contains(PollFlags::POLLOUT) {
                would_block(self.tls.write_tls(&mut Raw(&self.network)))?;
            }
            if closed && !self.tls.wants_write() {
                return Ok(());
            }
            if inner.contains(PollFlags::POLLOUT) {
                self.write_inward()?;
            }
            if network.intersects(PollFlags::POLLIN | PollFlags::POLLHUP) && idle_in && !self.peer_done {
                self.read_network()?;
            }
            if inner.intersects(PollFlags::POLLIN | PollFlags::POLLHUP) && !wants_write && !self.ours_done {
                self.read_inner()?;
            }
        }
    }

    fn pass_ends(&mut self) -> io::Result<()> {
        if self.peer_done && self.inward.is_empty() && !self.told_ours {
            self.told_ours = true;
            shut_write(self.ours);
        }
        if self.ours_done && !self.told_peer {
            self.tls.send_close_notify();
            would_block(self.tls.write_tls(&mut Raw(&self.network)))?;
            if !self.tls.wants_write() {
                self.told_peer = true;
                shut_write(&self.network);
            }
        }
        Ok(())
    }

    fn write_inward(&mut self) -> io::Result<()> {
        if let Some(n) = would_block(Raw(self.ours).write(&self.inward))? {
            self.inward.drain(..n);
        }
        if self.inward.is_empty() {
            self.take_plain();
            // Idle connections keep no buffer.
            if self.inward.is_empty() {
                self.inward = Vec::new();
            }
        }
        Ok(())
    }

    /// Decrypted bytes out of rustls; notices the peer's close_notify.
    fn take_plain(&mut self) {
        let mut piece = piece();
        match self.tls.reader().read(&mut piece) {
            Ok(0) => self.peer_done = true,
            Ok(n) => {
                piece.truncate(n);
                self.inward.append(&mut piece);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            // No close_notify: what HTTP framed is judged there, the rest is an end.
            Err(_) => self.peer_done = true,
        }
    }

    fn read_network(&mut self) -> io::Result<()> {
        match would_block(self.tls.read_tls(&mut Raw(&self.network)))? {
            None => {}
            Some(n) => {
                if self.tls.process_new_packets().is_err() {
                    let _ = self.tls.write_tls(&mut Raw(&self.network));
                    return Err(io::ErrorKind::InvalidData.into());
                }
                self.take_plain();
                if n == 0 {
                    self.peer_done = true;
                }
            }
        }
        Ok(())
    }

    fn read_inner(&mut self) -> io::Result<()> {
        let mut piece = piece();
        match would_block(Raw(self.ours).read(&mut piece))? {
            None => {}
            Some(0) => self.ours_done = true,
            Some(n) => {
                self.tls.writer().write_all(&piece[..n])?;
                would_block(self.tls.write_tls(&mut Raw(&self.network)))?;
            }
        }
        Ok(())
    }
}
