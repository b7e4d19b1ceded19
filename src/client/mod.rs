//! One typed method per endpoint of the Engine API, no formatting. Runs in the
//! docker process, on the thread that asks.
//!
//! A request goes out under the newest version we speak without asking first: our
//! own daemon and every one that is not older take it, and an older one names its
//! newest version in the refusal, which is then used for the rest of the process.
//! `DOCKER_API_VERSION` pins a version. Streams that cannot be sent twice ask
//! `/_ping` first when the version is not settled yet.

#![forbid(unsafe_code)]

pub mod container;
pub mod hijack;
pub mod http;
pub mod proxy;
pub mod ssh;
pub mod tls;
pub mod transport;

use crate::api::version;
use crate::error::{Error, Kind, Result};
use crate::util::json;
use http::{Body, Reply};
use proxy::Proxy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use transport::Endpoint;

/// A daemon to talk to. Cheap to clone; no connection is made before the first request.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    headers: Vec<(String, String)>,
    version: Mutex<Negotiated>,
    /// One connection that is kept alive between requests.
    idle: Mutex<Option<UnixStream>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Negotiated {
    /// Ours, until a refusal or an answer.
    Assumed,
    Settled(u16),
}

impl Client {
    /// `pinned` is the content of `DOCKER_API_VERSION`.
    pub fn new(endpoint: Endpoint, headers: Vec<(String, String)>, pinned: Option<u16>) -> Self {
        let version = Mutex::new(pinned.map_or(Negotiated::Assumed, Negotiated::Settled));
        Self { inner: Arc::new(Inner { endpoint, headers, version, idle: Mutex::new(None) }) }
    }

    /// The address as the user knows it (`unix:///run/user/1000/docker.sock`).
    pub fn host(&self) -> &str {
        &self.inner.endpoint.host
    }

    /// A raw connection, for `docker system dial-stdio`.
    pub fn dial(&self) -> Result<UnixStream> {
        self.inner.endpoint.dial(None).map_err(|e| self.inner.endpoint.explain(e, "GET", "/"))
    }

    pub fn get(&self, path: impl Into<String>) -> Request<'_> {
        self.request("GET", path)
    }
    pub fn head(&self, path: impl Into<String>) -> Request<'_> {
        self.request("HEAD", path)
    }
    pub fn post(&self, path: impl Into<String>) -> Request<'_> {
        self.request("POST", path)
    }
    pub fn put(&self, path: impl Into<String>) -> Request<'_> {
        self.request("PUT", path)
    }
    pub fn delete(&self, path: impl Into<String>) -> Request<'_> {
        self.request("DELETE", path)
    }
    /// `path` without the version, its names already passed through [`segment`].
    pub fn request(&self, method: &'static str, path: impl Into<String>) -> Request<'_> {
        Request {
            client: self,
            method,
            path: path.into(),
            query: String::new(),
            headers: Vec::new(),
            body: Body::Empty,
            versioned: true,
        }
    }

    /// Asks who is there, and settles the version. Returns what the daemon says of its
    /// builder (`1` the classic one, `2` BuildKit).
    pub fn ping(&self) -> Result<Option<String>> {
        let mut request = self.head("/_ping");
        request.versioned = false;
        let reply = request.raw()?;
        let theirs = reply.header("Api-Version").and_then(minor).unwrap_or(version::MIN.0);
        let mut settled = self.version();
        if *settled == Negotiated::Assumed {
            *settled = Negotiated::Settled(theirs.min(version::MAX.0));
        }
        Ok(reply.header("Builder-Version").map(str::to_owned))
    }

    /// The version in use if a daemon has answered yet.
    pub fn settled(&self) -> Option<String> {
        // A guard within the condition would still be held when minor() locks again.
        let settled = *self.version() != Negotiated::Assumed;
        settled.then(|| format!("1.{}", self.minor()))
    }

    fn minor(&self) -> u16 {
        match *self.version() {
            Negotiated::Assumed => version::MAX.0,
            Negotiated::Settled(minor) => minor,
        }
    }
    fn version(&self) -> std::sync::MutexGuard<'_, Negotiated> {
        self.inner.version.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
    fn idle(&self) -> std::sync::MutexGuard<'_, Option<UnixStream>> {
        self.inner.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A request in the making.
pub struct Request<'c> {
    client: &'c Client,
    method: &'static str,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Body<'c>,
    versioned: bool,
}

impl<'c> Request<'c> {
    #[must_use]
    pub fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        escape(&mut self.query, name, "");
        self.query.push('=');
        escape(&mut self.query, value.as_ref(), "/:");
        self
    }
    /// Adds `name=1` when `on`.
    #[must_use]
    pub fn query_if(self, name: &str, on: bool) -> Self {
        if on { self.query(name, "1") } else { self }
    }
    /// Adds the filters when there are some.
    #[must_use]
    pub fn query_filters(self, filters: &crate::api::filters::Filters) -> Self {
        if filters.is_empty() { self } else { self.query("filters", filters.encode()) }
    }
    /// Adds the value when there is one.
    #[must_use]
    pub fn query_opt(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
    pub fn json_body(mut self, body: &impl Serialize) -> Result<Self> {
        self.headers.push(("Content-Type".into(), "application/json".into()));
        self.body = Body::Bytes(json::to_vec(body)?);
        Ok(self)
    }
    /// A body whose length nobody knows: sent chunked, can be sent only once.
    #[must_use]
    pub fn stream_body(mut self, content_type: &str, body: &'c mut (dyn Read + Send)) -> Self {
        self.headers.push(("Content-Type".into(), content_type.into()));
        self.body = Body::Stream(body);
        self
    }

    /// Sends it; a refusal of the daemon is an `Err` with its message.
    pub fn send(self) -> Result<Reply> {
        let head = self.method == "HEAD";
        let reply = self.raw()?;
        if reply.status < 400 {
            return Ok(reply);
        }
        Err(reply.into_error(head))
    }
    /// Sends it and reads the answer as JSON.
    pub fn json<T: DeserializeOwned>(self) -> Result<T> {
        let bytes = self.send()?.whole()?;
        crate::api::decode::from_slice(&bytes)
            .map_err(|e| Error::system(format!("unexpected answer of the daemon: {}", e.message())))
    }
    /// Sends it and reads the answer as it stands.
    pub fn bytes(self) -> Result<Vec<u8>> {
        self.send()?.whole()
    }
    /// Sends it for its effect. 304 (nothing to do) is success.
    pub fn done(self) -> Result<()> {
        self.send()?.whole().map(drop)
    }
    /// Asks for an upgraded connection. `Err` when the daemon refuses.
    pub fn hijack(mut self) -> Result<hijack::Hijacked> {
        self.headers.push(("Upgrade".into(), "tcp".into()));
        let reply = self.raw()?;
        match reply.status {
            101 | 200 => reply.into_socket(),
            _ => Err(reply.into_error(false)),
        }
    }

    /// Sends it, whatever the status.
    fn raw(mut self) -> Result<Reply> {
        let client = self.client;
        let once = matches!(self.body, Body::Stream(_));
        if self.versioned && once && *client.version() == Negotiated::Assumed {
            client.ping()?;
        }
        loop {
            let mut reply = self.once()?;
            if !self.versioned || *client.version() != Negotiated::Assumed {
                return Ok(reply);
            }
            if reply.status < 400 {
                // It took our version.
                *client.version() = Negotiated::Settled(version::MAX.0);
            }
            if reply.status != 400 || once {
                return Ok(reply);
            }
            if self.method == "HEAD" {
                // No body to read the daemon's version from.
                client.ping()?;
                if client.minor() == version::MAX.0 {
                    return Ok(reply);
                }
                continue;
            }
            let bytes = reply.whole()?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            match text.split_once("Maximum supported API version is ").and_then(|(_, v)| minor(v)) {
                Some(theirs) if theirs < version::MAX.0 => *client.version() = Negotiated::Settled(theirs),
                _ => return Ok(reply.with_bytes(bytes)),
            }
        }
    }

    /// One exchange, on the kept connection if the daemon has not closed it meanwhile.
    fn once(&mut self) -> Result<Reply> {
        let client = self.client;
        let target = match self.versioned {
            true => format!("/v1.{}{}{}", client.minor(), self.path, self.query),
            false => format!("{}{}", self.path, self.query),
        };
        let endpoint = &client.inner.endpoint;
        let explain = |e| endpoint.explain(e, self.method, &target);
        // A connection that is taken over goes through a proxy, not to it.
        let upgrade = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
        let forwarder = if upgrade { None } else { endpoint.forwarder().map_err(explain)? };
        let login = forwarder.as_ref().and_then(Proxy::authorization);
        let login: Vec<(String, String)> = login.into_iter().map(|v| ("Proxy-Authorization".to_owned(), v)).collect();
        let whole = format!("http://{}{target}", endpoint.host_header());
        let head = http::Head {
            method: self.method,
            target: if forwarder.is_some() { &whole } else { &target },
            host: endpoint.host_header(),
            headers: [&client.inner.headers[..], &self.headers[..], &login[..]],
        };
        let fresh = upgrade || matches!(self.body, Body::Stream(_));
        let kept = if fresh { None } else { client.idle().take().filter(is_open) };
        if let Some(socket) = kept {
            match http::exchange(socket, &head, &mut self.body) {
                Ok(reply) => return Ok(reply.keep(client)),
                // What only looks can be asked again; what acts may have been done.
                Err(_) if matches!(self.method, "GET" | "HEAD") => {}
                Err(e) => return Err(explain(e)),
            }
        }
        endpoint
            .dial(forwarder.as_ref())
            .and_then(|socket| http::exchange(socket, &head, &mut self.body))
            .map(|reply| reply.keep(client))
            .map_err(explain)
    }
}

/// Whether an idle connection is still one: nothing to read, not even its end.
fn is_open(socket: &UnixStream) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) == Ok(0)
}

/// `1.51` → 51, trailing text ignored.
fn minor(text: &str) -> Option<u16> {
    let digits = text.trim_start().strip_prefix("1.")?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// A name as part of a path. Slashes stay: image names have them.
pub fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    escape(&mut out, name, "/:@");
    out
}

fn escape(out: &mut String, text: &str, also: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || also.as_bytes().contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The class that a status stands for; the counterpart of `server/status.rs`.
pub fn kind(status: u16) -> Kind {
    match status {
        400 => Kind::Invalid,
        401 => Kind::Unauthorized,
        403 => Kind::Forbidden,
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        501 => Kind::NotImplemented,
        503 => Kind::Unavailable,
        _ => Kind::System,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_escapes() {
        assert_eq!(minor("1.47\"}"), Some(47));
        assert_eq!(minor("2.0"), None);
        assert_eq!(segment("a/b:c d?"), "a/b:c%20d%3F");
    }
}
