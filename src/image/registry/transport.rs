//! One HTTP exchange with nothing clever about it: our resolver, our way to
//! dial, the host's CAs, the proxy, and errors in the words that Go programs
//! have taught people to search for. Any thread; blocks until the head of the
//! answer is there.
//!
//! Invariant: no redirect is followed and no header is added here; both are
//! the business of `client.rs`, which knows where credentials may go.

use super::endpoint::{self, Settings};
use super::fault::{Class, Fault, Result};
use super::tls;
use super::url::Url;
use crate::util::resolve::{LookupError, Resolver as HostsAndDns, go_io_text};
use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};
use ureq::{Agent, SendBody, http};

pub type Response = http::Response<ureq::Body>;

/// An agent with its connections, and the proxy that it goes through: which one a
/// URL needs depends on its scheme and host.
struct Way {
    proxy: Option<String>,
    agent: Agent,
}

/// Ends what a client asked for when that client goes away. Cheap to share.
#[derive(Default)]
pub struct Cancel {
    fired: AtomicBool,
    ways: Mutex<Vec<Arc<Way>>>,
    wake: Condvar,
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancel({})", self.fired())
    }
}

impl Cancel {
    pub fn fired(&self) -> bool {
        self.fired.load(Ordering::Acquire)
    }
    /// For loops that know nothing of registries.
    pub fn flag(&self) -> &AtomicBool {
        &self.fired
    }
    pub fn check(&self) -> Result<()> {
        if self.fired() { Err(Fault::cancelled()) } else { Ok(()) }
    }
    /// Closes every connection made under this token; whoever waits on one
    /// fails at once.
    pub fn fire(&self) {
        let ways = {
            let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
            self.fired.store(true, Ordering::Release);
            std::mem::take(&mut *ways)
        };
        self.wake.notify_all();
        for way in ways {
            way.agent.clone().shutdown();
        }
    }
    /// Sleeps, but not longer than until `fire`.
    pub fn sleep(&self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.fired() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            ways = self.wake.wait_timeout(ways, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Err(Fault::cancelled())
    }
    fn watch(&self, way: &Arc<Way>) -> Result<()> {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        self.check()?;
        ways.push(way.clone());
        Ok(())
    }
    /// False if the token has fired: then the way is closed.
    fn unwatch(&self, way: &Arc<Way>) -> bool {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let at = ways.iter().position(|w| Arc::ptr_eq(w, way));
        at.map(|at| ways.swap_remove(at)).is_some()
    }
}

/// Connections to one registry and to wherever it redirects. A way belongs to one
/// wire at a time, whose token closes it; in between it is idle.
pub struct Wire {
    settings: Arc<Settings>,
    tls: ureq::tls::TlsConfig,
    ways: Mutex<Vec<Arc<Way>>>,
    cancel: Arc<Cancel>,
    /// What a wire and its forks have left open for the next one: a handshake less.
    idle: Arc<Mutex<Vec<Arc<Way>>>>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.rest();
    }
}

/// What is sent along.
pub enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// With its length, if that is known; chunked otherwise.
    Stream(&'a mut dyn Read, Option<u64>),
}

pub struct Exchange<'a> {
    pub method: &'static str,
    pub url: &'a Url,
    pub headers: &'a [(&'static str, String)],
    /// Patience for the next byte, if other than the usual.
    pub stall: Option<Duration>,
}

impl Wire {
    pub fn new(settings: Arc<Settings>, authority: &str, verify: bool, cancel: Arc<Cancel>) -> Result<Self> {
        let tls = tls::config(&settings, authority, verify)?;
        Ok(Self { settings, tls, ways: Mutex::default(), cancel, idle: Arc::default() })
    }

    pub fn cancel(&self) -> &Arc<Cancel> {
        &self.cancel
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// To the same place, ended by another token.
    pub fn fork(&self, cancel: &Arc<Cancel>) -> Self {
        let (settings, tls, idle) = (self.settings.clone(), self.tls.clone(), self.idle.clone());
        Self { settings, tls, ways: Mutex::default(), cancel: cancel.clone(), idle }
    }

    /// Leaves the connections to whoever asks next. No answer is being read.
    pub fn rest(&self) {
        let mut ways = std::mem::take(&mut *self.ways.lock().unwrap_or_else(PoisonError::into_inner));
        ways.retain(|way| self.cancel.unwatch(way));
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).append(&mut ways);
    }

    /// Sends, and waits for the head of the answer, whatever its status.
    pub fn exchange(&self, what: &Exchange<'_>, payload: Payload<'_>) -> Result<Response> {
        self.cancel.check()?;
        let fail = |e: &ureq::Error| {
            if self.cancel.fired() {
                return Fault::cancelled();
            }
            fault(e).of_request(what.method, what.url)
        };
        let agent = self.agent(what.url)?;
        let mut builder = http::Request::builder().method(what.method).uri(what.url.to_string());
        for (name, value) in what.headers {
            builder = builder.header(*name, value.as_str());
        }
        if let Payload::Stream(_, Some(length)) = &payload {
            builder = builder.header("Content-Length", length.to_string());
        }
        let bad = |e: http::Error| Fault::new(Class::Refused, e.to_string()).of_request(what.method, what.url);
        let stall = what.stall.unwrap_or(self.settings.stall);
        let answer = match payload {
            Payload::None => {
                let request = builder.body(()).map_err(bad)?;
                agent.run(agent.configure_request(request).timeout_per_read(Some(stall)).build())
            }
            Payload::Bytes(bytes) => {
                let request = builder.body(bytes).map_err(bad)?;
                agent.run(agent.configure_request(request).timeout_per_read(Some(stall)).build())
            }
            Payload::Stream(mut reader, _) => {
                let request = builder.body(SendBody::from_reader(&mut reader)).map_err(bad)?;
                agent.run(agent.configure_request(request).timeout_per_read(Some(stall)).build())
            }
        };
        answer.map_err(|e| fail(&e))
    }

    fn agent(&self, url: &Url) -> Result<Agent> {
        let proxy = endpoint::proxy_for(&self.settings, url);
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = ways.iter().find(|way| way.proxy.as_deref() == proxy) {
            return Ok(way.agent.clone());
        }
        let rested = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let at = idle.iter().rposition(|way| way.proxy.as_deref() == proxy);
            at.map(|at| idle.swap_remove(at))
        };
        let way = match rested {
            Some(way) => way,
            None => Arc::new(Way { proxy: proxy.map(str::to_owned), agent: self.new_agent(proxy)? }),
        };
        self.cancel.watch(&way)?;
        let agent = way.agent.clone();
        ways.push(way);
        Ok(agent)
    }

    fn new_agent(&self, proxy: Option<&str>) -> Result<Agent> {
        let through = match proxy {
            None => None,
            Some(p) => {
                Some(ureq::Proxy::new(p).map_err(|_| Fault::new(Class::Local, format!("invalid proxy URL \"{p}\"")))?)
            }
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(self.tls.clone())
            .proxy(through)
            .user_agent(self.settings.user_agent.as_str())
            .accept_encoding("identity")
            .timeout_connect(Some(self.settings.connect))
            .timeout_per_read(Some(self.settings.stall))
            .timeout_per_write(Some(self.settings.stall))
            .max_idle_connections(8)
            .max_idle_connections_per_host(8)
            .build();
        let chain = ().chain(ConnectProxyConnector::default()).chain(Dial::default()).chain(RustlsConnector::default());
        Ok(Agent::with_parts(config, chain, Names(HostsAndDns::default())))
    }
}

/// Names by files and DNS packets of our own: see `util/resolve.rs` for why.
#[derive(Debug)]
struct Names(HostsAndDns);

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &http::Uri,
        _config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let limit = timeout.not_zero().map_or(Duration::from_secs(15), |t| (*t).min(Duration::from_secs(15)));
        let ips = self.0.lookup(host, limit).map_err(|e| ureq::Error::Other(Box::new(e)))?;
        let mut addresses = self.empty();
        // The array has room for sixteen.
        for ip in ips.into_iter().take(16) {
            addresses.push(SocketAddr::new(ip, port));
        }
        Ok(addresses)
    }
}

/// ureq's TCP connector, which keeps for itself whom it failed to reach.
#[derive(Debug, Default)]
struct Dial(TcpConnector);

#[derive(Debug)]
struct DialError {
    address: Option<SocketAddr>,
    cause: ureq::Error,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dial tcp")?;
        if let Some(address) = self.address {
            write!(f, " {address}")?;
        }
        match &self.cause {
            ureq::Error::Io(e) if e.kind() == io::ErrorKind::TimedOut => f.write_str(": i/o timeout"),
            ureq::Error::Io(e) => write!(f, ": connect: {}", go_io_text(e)),
            ureq::Error::Timeout(_) => f.write_str(": i/o timeout"),
            e => write!(f, ": {e}"),
        }
    }
}

impl std::error::Error for DialError {}

impl<In: Transport> Connector<In> for Dial {
    type Out = <TcpConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> std::result::Result<Option<Self::Out>, ureq::Error> {
        self.0
            .connect(details, chained)
            .map_err(|cause| ureq::Error::Other(Box::new(DialError { address: details.addrs.first().copied(), cause })))
    }
}

/// ureq's error in our classes and Go's words.
pub fn fault(e: &ureq::Error) -> Fault {
    let link = |text: String| Fault::new(Class::Link, text);
    let dial = |text: String| Fault::new(Class::Dial, text);
    match e {
        ureq::Error::Other(inner) => match inner.downcast_ref::<LookupError>() {
            Some(lookup) => dial(format!("dial tcp: {lookup}")),
            None => dial(inner.to_string()),
        },
        ureq::Error::Io(io) => io_fault(io),
        ureq::Error::Rustls(tls) => tls_fault(tls),
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => dial("i/o timeout".to_owned()),
        ureq::Error::Timeout(_) => link("net/http: timeout awaiting response headers".to_owned()),
        ureq::Error::ConnectProxyFailed(reason) => {
            dial(format!("proxyconnect tcp: {}", reason.trim_start_matches("proxy server ")))
        }
        ureq::Error::Protocol(p) => link(format!("malformed HTTP response: {p}")),
        ureq::Error::LargeResponseHeader(..) => link("net/http: server response headers exceeded limit".to_owned()),
        other => link(other.to_string()),
    }
}

/// The same for what comes out of a body that is being read.
pub fn io_fault(e: &io::Error) -> Fault {
    if let Some(inner) = e.get_ref() {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return tls_fault(tls);
        }
        if let Some(ureq) = inner.downcast_ref::<ureq::Error>() {
            return match ureq {
                ureq::Error::Timeout(_) => Fault::new(Class::Link, "i/o timeout"),
                other => fault(other),
            };
        }
    }
    let text = match e.kind() {
        io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "i/o timeout".to_owned(),
        io::ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
        _ => go_io_text(e),
    };
    Fault::new(Class::Link, text)
}

fn tls_fault(e: &rustls::Error) -> Fault {
    use rustls::{CertificateError as Cert, Error as Tls, InvalidMessage};
    let verify = |why: &str| format!("tls: failed to verify certificate: x509: {why}");
    let text = match e {
        Tls::InvalidCertificate(cert) => match cert {
            Cert::UnknownIssuer => verify("certificate signed by unknown authority"),
            Cert::Expired | Cert::ExpiredContext { .. } => verify("certificate has expired or is not yet valid"),
            Cert::NotValidYet | Cert::NotValidYetContext { .. } => {
                verify("certificate has expired or is not yet valid: current time is before it")
            }
            Cert::NotValidForName => verify("certificate is not valid for this host name"),
            Cert::NotValidForNameContext { expected, presented } => {
                let names: Vec<&str> =
                    presented.iter().map(|n| n.trim_start_matches("DnsName(\"").trim_end_matches("\")")).collect();
                let host = expected.to_str();
                let by_address = presented.iter().any(|n| n.starts_with("IpAddress"));
                if host.parse::<std::net::IpAddr>().is_ok() && !by_address {
                    verify(&format!("cannot validate certificate for {host} because it doesn't contain any IP SANs"))
                } else {
                    verify(&format!("certificate is valid for {}, not {host}", names.join(", ")))
                }
            }
            other => verify(&other.to_string()),
        },
        // An HTTP server where TLS was expected answers with text.
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "http: server gave HTTP response to HTTPS client".to_owned()
        }
        Tls::AlertReceived(alert) => format!("remote error: tls: {alert:?}"),
        other => format!("tls: {other}"),
    };
    Fault::new(Class::Tls, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn wire(cancel: &Arc<Cancel>) -> Wire {
        let settings = Settings { http_proxy: String::new(), https_proxy: String::new(), ..Settings::default() };
        Wire::new(Arc::new(settings), "127.0.0.1", true, cancel.clone()).unwrap()
    }

    fn get(wire: &Wire, url: &str) -> Result<Response> {
        let url = Url::parse(url).unwrap();
        wire.exchange(&Exchange { method: "GET", url: &url, headers: &[], stall: None }, Payload::None)
    }

    #[test]
    fn refused() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = get(&wire(&Arc::default()), &format!("https://127.0.0.1:{port}/v2/")).unwrap_err().text();
        let want = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
        assert_eq!(text, format!("Get \"https://127.0.0.1:{port}/v2/\": {want}"));
    }

    #[test]
    fn plain_http_where_tls_was_expected() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            use std::io::Write;
            let (mut s, _) = server.accept().unwrap();
            let mut head = [0u8; 64];
            let _ = s.read(&mut head).unwrap();
            s.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request").unwrap();
        });
        let e = get(&wire(&Arc::default()), &format!("https://127.0.0.1:{port}/v2/")).unwrap_err();
        assert_eq!(e.class, Class::Tls, "{e:?}");
        assert!(e.text().ends_with("http: server gave HTTP response to HTTPS client"), "{}", e.text());
        thread.join().unwrap();
    }

    #[test]
    fn cancel_ends_a_wait() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let cancel = Arc::new(Cancel::default());
        let other = cancel.clone();
        let thread = std::thread::spawn(move || {
            // The request has arrived: nobody will ever answer it.
            let (mut s, _) = server.accept().unwrap();
            let mut head = [0u8; 64];
            let _ = s.read(&mut head).unwrap();
            other.fire();
            let _ = s.read(&mut head);
        });
        let e = get(&wire(&cancel), &format!("http://127.0.0.1:{port}/v2/")).unwrap_err();
        assert_eq!(e.class, Class::Cancelled);
        assert_eq!(cancel.sleep(Duration::from_secs(3600)).unwrap_err().class, Class::Cancelled);
        thread.join().unwrap();
    }
}
