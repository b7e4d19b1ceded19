//! One decoded request head and the ways to get at its body or its connection.
//! Lives on its connection's thread.

use super::gone::Gone;
use super::http::MAX_JSON;
use super::http::head::Head;
use super::http::inbound::Inbound;
use super::http::socket::Socket;
use crate::api::decode;
use crate::api::version::Version;
use crate::error::{Context, Error, Result};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// Parameters are percent-decoded. Header names are matched in any case.
pub struct Request {
    pub method: String,
    /// The prefix, or the highest we speak.
    pub version: Version,
    /// True if the path had no version prefix.
    pub unversioned: bool,
    pub(crate) params: Vec<(&'static str, String)>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Body,
    pub(crate) hijacked: bool,
}

/// Who sits at the other end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Address or `unix`, for the log.
    pub name: String,
    /// Over the network, where a browser may be the sender.
    pub network: bool,
    /// Subject of the client's certificate.
    pub subject: Option<String>,
    /// It showed a certificate that we trust.
    pub verified: bool,
    /// What that certificate allows.
    pub role: super::roles::Role,
}

/// The rest of a request as a stream; ends at its declared length. May leave the
/// request for another thread or a stream's closure.
#[derive(Clone)]
pub struct Body(pub(crate) Arc<Mutex<Inbound>>);

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(out)
    }
}

impl Body {
    pub(crate) fn socket(&self) -> Arc<Socket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).socket.clone()
    }
}

impl Request {
    pub(crate) fn new(head: Head, body: Body) -> Self {
        let query = head.target.split_once('?').map_or_else(Vec::new, |(_, q)| super::http::head::query(q));
        Self {
            method: head.method,
            version: crate::api::version::MAX,
            unversioned: true,
            params: Vec::new(),
            query,
            headers: head.headers,
            body,
            hijacked: false,
        }
    }

    /// A path parameter of the route's pattern; empty only if the pattern lacks it.
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(k, _)| *k == name).map_or("", |(_, v)| v)
    }
    /// First value of a query key.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }
    pub fn query_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }
    /// Docker's rule: "", 0, no, false, none (any case) are false.
    pub fn query_bool(&self, name: &str, default: bool) -> bool {
        match self.query(name) {
            None => default,
            Some(v) => !matches!(v.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none"),
        }
    }
    /// A whole number, absent as `default`; anything else is the client's mistake.
    pub fn query_int(&self, name: &str, default: i64) -> Result<i64> {
        match self.query(name) {
            None | Some("") => Ok(default),
            Some(v) => v.parse().map_err(|_| Error::invalid(format!("strconv.Atoi: parsing {v:?}: invalid syntax"))),
        }
    }
    pub fn filters(&self) -> Result<crate::api::filters::Filters> {
        crate::api::filters::Filters::parse(self.query("filters").unwrap_or(""))
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).and_then(|(_, v)| std::str::from_utf8(v).ok())
    }
    /// The body as a stream (tar uploads). Ends at its declared length.
    pub fn body(&mut self) -> &mut (dyn Read + Send) {
        &mut self.body
    }
    /// The same, to be kept beyond the handler (a stream that answers while it reads).
    pub fn take_body(&self) -> Body {
        self.body.clone()
    }
    /// Tells when the client is gone; may be kept beyond the handler.
    pub fn gone(&self) -> Result<Gone> {
        Gone::new(self.body.socket().as_fd()).context("watch the client's connection")
    }
    /// A descriptor of the connection, to poll for POLLRDHUP while a stream is idle.
    pub fn fd(&self) -> Result<OwnedFd> {
        self.body.socket().as_fd().try_clone_to_owned().context("duplicate the client's connection")
    }
    /// The client asked for an upgrade (docker), or did not (curl): decides
    /// between the heads of `server/hijack.rs`.
    pub fn wants_upgrade(&self) -> bool {
        self.headers.iter().any(|(k, _)| k.eq_ignore_ascii_case("upgrade"))
    }
    /// Takes the socket away from the server (attach, exec), with the bytes that
    /// were read past the body. The handler writes its own head, see
    /// `server/hijack.rs`; it then returns `Response::Hijacked`.
    pub fn hijack(&mut self) -> Result<(OwnedFd, Vec<u8>)> {
        let mut inbound = self.body.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !inbound.drain(64 * 1024) {
            return Err(Error::invalid("the request's body must be read before its connection is taken over"));
        }
        let leftover = inbound.take_leftover();
        let fd = inbound.socket.hand_over().context("take the client's connection over")?;
        inbound.socket.set_answered(true);
        self.hijacked = true;
        Ok((fd, leftover))
    }
    /// Decodes a JSON body as Go does: names in any case, null as absent,
    /// unknown fields ignored; checks Content-Type and trailing data. No body at
    /// all is the empty document.
    pub fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let bytes = self.json_bytes()?;
        if bytes.is_empty() {
            return decode::from_nothing();
        }
        decode::from_slice(&bytes)
    }
    /// As [`Request::json`], but a missing body is an error.
    pub fn json_required<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        decode::from_slice(&self.json_bytes()?)
    }

    fn json_bytes(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let kind = self.header("content-type").unwrap_or("").to_owned();
        let media = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        if media != "application/json" && !kind.is_empty() {
            let empty = self.body.0.lock().unwrap_or_else(PoisonError::into_inner).finished();
            if !(empty && media == "text/plain") {
                return Err(Error::invalid(format!(
                    "unsupported Content-Type header ({media}): must be 'application/json'"
                )));
            }
        }
        (&mut self.body)
            .take(MAX_JSON + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::invalid(format!("read the request's body: {e}")))?;
        if bytes.len() as u64 > MAX_JSON {
            return Err(Error::invalid("invalid JSON: http: request body too large"));
        }
        if kind.is_empty() && !bytes.is_empty() {
            return Err(Error::invalid("malformed Content-Type header (): mime: no media type"));
        }
        Ok(bytes)
    }
}
