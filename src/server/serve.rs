//! One connection from a whole head to its next silence. Connection's thread.
//!
//! Invariant: each head is answered exactly once, or its connection ends. A
//! panic in a handler is one 500 and a line in the log.

use super::http::head::{Head as RequestHead, Refusal, percent_decode};
use super::http::inbound::{Inbound, NoHead};
use super::http::outbound::{Chunked, Head, write_both};
use super::http::socket::Socket;
use super::park::{Connection, HEAD, IDLE, MAX_THREADS};
use super::request::{Body, Peer, Request};
use super::response::{Response, Stream};
use super::tls::{self, Tls};
use super::{Server, router, routes, status};
use crate::api::error::ErrorResponse;
use crate::api::version::Version;
use crate::error::{Error, Kind};
use crate::util::json;
use crate::util::order;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// So long the thread stays for the next request: a client that asks again and again
/// finds it there.
const SOON: Duration = Duration::from_millis(100);
/// Read on behalf of a handler that did not, to keep the connection.
const DRAIN: u64 = 64 * 1024;

/// Why a connection gets a thread.
pub(super) enum Work {
    Head(RequestHead),
    Refusal(Refusal),
    Handshake(Arc<Tls>),
}

pub(super) fn connection(server: &Arc<Server>, mut connection: Connection, work: Work) {
    let mut patience = HEAD;
    let mut given = match work {
        Work::Head(head) => Some(head),
        Work::Refusal(refusal) => return refuse(&connection.socket, refusal),
        Work::Handshake(tls) if shake_hands(&tls, &mut connection) => None,
        Work::Handshake(_) => return,
    };
    loop {
        let next = given.take().map_or_else(|| next(server, &connection.body), |head| Ok(Some(head)));
        let head = match next {
            Ok(Some(head)) => head,
            Ok(None) if server.stopping() => return,
            Ok(None) => {
                server.connections.park(connection, patience);
                return server.connections.wake();
            }
            Err(NoHead::Closed) => return,
            Err(NoHead::Refused(refusal)) => return refuse(&connection.socket, refusal),
        };
        patience = IDLE;
        let Connection { socket, body, peer, .. } = &connection;
        socket.set_answered(false);
        let reply = Reply { server, socket, http10: head.http10, head_only: head.method == "HEAD" };
        let mut keep = head.keep_alive && !server.stopping();
        match exchange(&reply, head, body, peer, &mut keep) {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
        if !keep || !lock(body).drain(DRAIN) {
            return socket.linger();
        }
    }
}

/// False if it failed, which the log says.
fn shake_hands(tls: &Tls, connection: &mut Connection) -> bool {
    let Connection { socket, peer, .. } = connection;
    match socket.while_waiting(|socket| tls::accept(tls, socket.as_fd(), peer)) {
        Ok(session) => {
            socket.secure(session);
            true
        }
        Err(why) => {
            crate::warn!(format!("http: TLS handshake error from {}: {why}", peer.name));
            false
        }
    }
}

/// The next head if it comes soon.
fn next(server: &Server, body: &Body) -> Result<Option<RequestHead>, NoHead> {
    let mut inbound = lock(body);
    if let Some(head) = inbound.step()? {
        return Ok(Some(head));
    }
    let soon = Instant::now() + SOON;
    let crowded = server.connections.threads() > MAX_THREADS / 2;
    if crowded || !inbound.socket.while_waiting(|s| s.readable(Some(soon))).unwrap_or(false) {
        return Ok(None);
    }
    inbound.step()
}

fn refuse(socket: &Socket, refusal: Refusal) {
    let line = refusal.text.split_once(": ").map_or(String::new(), |(_, why)| format!(": {why}"));
    socket.say(
        format!(
            "HTTP/1.1 {} {}{line}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{}",
            refusal.status,
            status::reason(refusal.status),
            refusal.text
        )
        .as_bytes(),
    );
    socket.linger();
}

fn lock(body: &Body) -> std::sync::MutexGuard<'_, Inbound> {
    body.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// False if the connection is no longer ours.
fn exchange(reply: &Reply<'_>, head: RequestHead, body: &Body, peer: &Peer, keep: &mut bool) -> io::Result<bool> {
    let target = head.target.clone();
    let raw_path = target.split('?').next().unwrap_or("");
    if raw_path == "*" && head.method == "OPTIONS" {
        reply.bare(200, *keep)?;
        return Ok(true);
    }
    let (route, params, version) = match find(reply.server, &head, raw_path, peer) {
        Ok(found) => found,
        Err(refused) => {
            *keep &= !refused.ends;
            reply.refuse(&refused, *keep)?;
            return Ok(true);
        }
    };
    crate::debug!(
        format!("handling {} request", head.method),
        "method" = head.method,
        "module" = "api",
        "request-url" = shown(&target),
        "peer" = peer.name,
        "subject" = peer.subject.as_deref().unwrap_or("-")
    );
    let mut request = Request::new(head, body.clone());
    request.params = params;
    request.unversioned = version.is_none();
    request.version = version.unwrap_or(request.version);
    let began = Instant::now();
    let handled = guarded(|| (route.handler)(&reply.server.engine, &mut request));
    reply.server.engine.metrics.acted(route.method, route.pattern, began.elapsed());
    match handled {
        Err(e) if request.hijacked => reply.log(&request.method, &target, &e),
        Ok(_) if request.hijacked => {}
        Ok(response) => return reply.response(response, &request.method, &target, keep),
        Err(e) => reply.error(&request.method, &target, &e, keep)?,
    }
    Ok(!request.hijacked)
}

/// Why a request reaches no handler.
struct Refused {
    status: u16,
    error: Error,
    headers: Headers,
    /// As plain text: clients of that time know no other.
    ancient: bool,
    /// The connection ends with it.
    ends: bool,
}

impl Refused {
    fn new(status: u16, error: Error) -> Self {
        Self { status, error, headers: Headers::None, ancient: false, ends: false }
    }
}

type Found = (&'static router::Route, router::Params, Option<Version>);

/// The route of a request, for those who may take it, and the version it was asked for in.
fn find(server: &Server, head: &RequestHead, raw_path: &str, peer: &Peer) -> Result<Found, Refused> {
    if peer.network {
        let header = |name: &str| {
            let found = head.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case(name));
            found.map(|(_, v)| String::from_utf8_lossy(v).into_owned())
        };
        if let Some(why) = server.rules.judge(header, peer.verified) {
            crate::warn!(format!("refused a request from {}: {why}", peer.name));
            return Err(Refused::new(403, Error::forbidden(why)));
        }
    }
    let full_path = percent_decode(raw_path, false)
        .filter(|p| p.starts_with('/'))
        .ok_or_else(|| Refused { ends: true, ..Refused::new(400, Error::invalid("malformed request path")) })?;
    let (prefix, path) = router::split_version(&full_path);
    let (route, params) = router::find(routes::TABLES, &head.method, path)
        .ok_or_else(|| Refused::new(404, Error::not_found("page not found")))?;
    // Judged by the route that was found, whatever way the path was written.
    if !peer.role.allows(route) {
        let who = peer.subject.as_deref().unwrap_or("-");
        crate::warn!(format!("refused a request from {}: its certificate is read-only", peer.name), "subject" = who);
        let why = format!("the certificate of {who} is read-only here: GET requests are all that it may make");
        return Err(Refused::new(403, Error::forbidden(why)));
    }
    let version = prefix.map(|text| {
        let ancient = router::is_ancient(text);
        let refused = |e| Refused { headers: Headers::Version, ancient, ..Refused::new(400, e) };
        router::requested(text, server.minimum).map_err(refused)
    });
    Ok((route, params, version.transpose()?))
}

/// Runs a piece of a handler; a panic becomes an error of ours.
fn guarded<T>(work: impl FnOnce() -> crate::error::Result<T>) -> crate::error::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Error::system(format!("the daemon failed on this request (please report it): {what}")))
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Headers {
    /// The router's own answers have none.
    None,
    /// A refused version is answered before the rest is known.
    Version,
    All,
}

struct Reply<'a> {
    server: &'a Arc<Server>,
    socket: &'a Arc<Socket>,
    http10: bool,
    head_only: bool,
}

impl Reply<'_> {
    fn head(&self, status: u16, extra: &[(&str, String)], headers: Headers, keep: bool) -> Head {
        let mut all: Vec<(&str, String)> = extra.to_vec();
        if headers != Headers::None {
            all.push(("Api-Version", crate::api::version::MAX.to_string()));
            all.push(("Ostype", "linux".into()));
            all.push(("Server", self.server.name.clone()));
        }
        if headers == Headers::All {
            all.push(("Docker-Experimental", self.server.experimental.to_string()));
        }
        order::sort(&mut all);
        let mut head = Head::new(status, self.http10);
        for (name, value) in &all {
            head.header(name, value);
        }
        head.date();
        if !keep {
            head.header("Connection", "close");
        } else if self.http10 {
            head.header("Connection", "keep-alive");
        }
        head
    }

    fn send(&self, mut head: Head, body: Option<&[u8]>) -> io::Result<()> {
        if let Some(body) = body {
            head.header("Content-Length", &body.len().to_string());
        }
        self.socket.set_answered(true);
        let body = if self.head_only { &[] } else { body.unwrap_or_default() };
        write_both(self.socket, &head.finish(), body)
    }

    fn bare(&self, status: u16, keep: bool) -> io::Result<()> {
        self.send(self.head(status, &[], Headers::None, keep), Some(b""))
    }

    fn text(&self, status: u16, text: &str, keep: bool) -> io::Result<()> {
        let kind = [("Content-Type", "text/plain; charset=utf-8".to_owned())];
        self.send(self.head(status, &kind, Headers::Version, keep), Some(format!("{text}\n").as_bytes()))
    }

    fn document(&self, status: u16, e: &Error, keep: bool, headers: Headers) -> io::Result<()> {
        let message = match e.hint() {
            Some(hint) => format!("{e}\n{hint}"),
            None => e.to_string(),
        };
        let mut body = json::to_vec(&ErrorResponse { message }).unwrap_or_default();
        body.push(b'\n');
        let kind = [("Content-Type", "application/json".to_owned())];
        self.send(self.head(status, &kind, headers, keep), Some(&body))
    }

    fn refuse(&self, refused: &Refused, keep: bool) -> io::Result<()> {
        match refused.ancient {
            true => self.text(refused.status, &refused.error.to_string(), keep),
            false => self.document(refused.status, &refused.error, keep, refused.headers),
        }
    }

    fn log(&self, method: &str, target: &str, e: &Error) {
        let line = format!("Handler for {method} {} returned error: {e}", shown(target));
        if e.kind() == Kind::System { crate::error!(line) } else { crate::debug!(line) }
    }

    fn error(&self, method: &str, target: &str, e: &Error, keep: &mut bool) -> io::Result<()> {
        self.log(method, target, e);
        match status::of(e.kind()) {
            0 => {
                *keep = false;
                Ok(())
            }
            304 => self.send(self.head(304, &[], Headers::All, *keep), None),
            status => self.document(status, e, *keep, Headers::All),
        }
    }

    fn response(&self, response: Response, method: &str, target: &str, keep: &mut bool) -> io::Result<bool> {
        let kind = |kind: &str| [("Content-Type", kind.to_owned())];
        match response {
            Response::Json(status, mut body) => {
                if body.last() != Some(&b'\n') {
                    body.push(b'\n');
                }
                self.send(self.head(status, &kind("application/json"), Headers::All, *keep), Some(&body))?;
            }
            Response::Empty(status) => {
                let body: Option<&[u8]> = if matches!(status, 204 | 304) { None } else { Some(b"") };
                self.send(self.head(status, &[], Headers::All, *keep), body)?;
            }
            Response::Plain(extra, body) => {
                self.send(self.head(200, &extra, Headers::All, *keep), Some(&body))?;
            }
            Response::Head(status, extra) => {
                let body: Option<&[u8]> = if self.head_only { None } else { Some(b"") };
                self.send(self.head(status, &extra, Headers::All, *keep), body)?;
            }
            Response::Stream(stream) => self.stream(stream, method, target, keep)?,
            Response::Hijacked => return Ok(false),
        }
        Ok(true)
    }

    fn stream(&self, stream: Stream, method: &str, target: &str, keep: &mut bool) -> io::Result<()> {
        let mut extra = stream.headers;
        if !stream.content_type.is_empty() {
            extra.push(("Content-Type", stream.content_type.to_owned()));
        }
        if self.http10 {
            *keep = false;
        }
        let mut head = self.head(200, &extra, Headers::All, *keep);
        if !self.http10 {
            head.header("Transfer-Encoding", "chunked");
        }
        if self.head_only {
            self.socket.set_answered(true);
            return (&**self.socket).write_all(&head.finish());
        }
        let mut out = Chunked::new(self.socket.clone(), head.finish(), self.http10);
        if !stream.late_head {
            out.begin()?;
        }
        match guarded(|| (stream.run)(&mut out)) {
            Ok(()) => out.finish(),
            Err(e) if !out.begun() && !out.has_gathered() => self.error(method, target, &e, keep),
            Err(e) => {
                // The status is long gone: a body without its end is the only
                // honest way left to say that it is not whole.
                self.log(method, target, &e);
                *keep = false;
                let _ = out.flush();
                Err(io::ErrorKind::Interrupted.into())
            }
        }
    }
}

/// A target for the log, without what may hold passwords: build arguments, URLs.
fn shown(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let pair = |pair: &str| {
        let key = pair.split('=').next().unwrap_or_default();
        match percent_decode(key, true).as_deref() {
            Some("buildargs" | "remote" | "fromSrc") => format!("{key}=***"),
            _ => pair.to_owned(),
        }
    };
    format!("{path}?{}", query.split('&').map(pair).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_build_argument_in_the_log() {
        assert_eq!(
            shown("/build?t=a&buildargs=%7B%22P%22%3A%22pw%22%7D&rem%6fte=https://u:pw@h"),
            "/build?t=a&buildargs=***&rem%6fte=***"
        );
        assert_eq!(shown("/a?b=c&d"), "/a?b=c&d");
    }
}
