//! One decoded request head and the ways to get at its body or its connection.
//! Lives on its connection's thread.

use crate::api::version::Version;
use crate::error::{Error, Result};
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Parameters are percent-decoded. Header names are matched in any case.
pub struct Request {
    pub method: String,
    /// Without the version prefix.
    pub path: String,
    /// The prefix, or the highest we speak.
    pub version: Version,
    pub(crate) params: Vec<(&'static str, String)>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Box<dyn Read + Send>,
    pub(crate) connection: Box<dyn Connection>,
}

/// What the server lends to a handler of its connection.
pub(crate) trait Connection: Send {
    /// For POLLRDHUP: a client that went away.
    fn fd(&self) -> BorrowedFd<'_>;
    /// Hands the socket over, with the bytes already read past the head. The
    /// server forgets the connection.
    fn take(&mut self) -> Result<(OwnedFd, Vec<u8>)>;
}

impl Request {
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
            Some(v) => !matches!(v.to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none"),
        }
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).and_then(|(_, v)| std::str::from_utf8(v).ok())
    }
    /// The body as a stream (tar uploads). Ends at its declared length.
    pub fn body(&mut self) -> &mut (dyn Read + Send) {
        &mut *self.body
    }
    /// The connection's fd, to poll for POLLRDHUP while a stream is idle.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.connection.fd()
    }
    /// Takes the socket away from the server (attach, exec). The handler writes
    /// its own head, see `server/hijack.rs`; it then returns `Response::Hijacked`.
    pub fn hijack(&mut self) -> Result<(OwnedFd, Vec<u8>)> {
        self.connection.take()
    }
    /// Decodes a JSON body as Go does: names in any case, null as absent,
    /// unknown fields ignored; checks Content-Type and trailing data.
    pub fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let _ = Error::invalid("");
        unreachable!("written by the server's author")
    }
}
