//! What a handler gives back. Encoded on the connection's thread.

use crate::error::Result;
use crate::util::json;
use std::io::Write;

pub enum Response {
    /// Status and a serialised JSON document.
    Json(u16, Vec<u8>),
    /// Status, no body.
    Empty(u16),
    /// 200 with a body and its whole set of headers.
    Plain(Vec<(&'static str, String)>, Vec<u8>),
    /// Head only, with further headers (HEAD archive).
    Head(u16, Vec<(&'static str, String)>),
    /// 200 and a chunked body: the head is flushed at once, then the closure
    /// runs on the connection's thread. An error before the first byte written
    /// becomes a normal error reply only if `late_head` is set.
    Stream(Stream),
    /// The handler took the connection.
    Hijacked,
}

/// What writes a stream's body.
pub type Run = Box<dyn FnOnce(&mut dyn Write) -> Result<()> + Send>;

pub struct Stream {
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
    /// Send the status line with the first byte of the body, so that an earlier
    /// error can still be a normal HTTP error.
    pub late_head: bool,
    pub run: Run,
}

impl Response {
    /// Any wire type.
    pub fn json<T: serde::Serialize>(status: u16, document: &T) -> Result<Self> {
        Ok(Response::Json(status, json::to_vec(document)?))
    }
    pub fn ok<T: serde::Serialize>(document: &T) -> Result<Self> {
        Self::json(200, document)
    }
}

/// One JSON document and a line end, flushed: what streams of objects consist of.
pub fn json_line<T: serde::Serialize>(out: &mut dyn Write, document: &T, end: &str) -> Result<()> {
    let mut line = json::to_vec(document)?;
    line.extend_from_slice(end.as_bytes());
    out.write_all(&line).and_then(|()| out.flush()).map_err(|_| crate::error::Error::cancelled())
}
