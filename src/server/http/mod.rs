//! HTTP/1.1 as the API needs it, on `httparse`: heads, bodies, answers. Each
//! connection's thread.
//!
//! Strict where leniency is dangerous (request smuggling): one Content-Length of
//! digits only, no Content-Length beside Transfer-Encoding, `chunked` alone, no
//! bare line feeds, no folded lines. What is refused is refused before any of it
//! is believed, and the connection ends.

pub mod head;
pub mod inbound;
pub mod outbound;
pub mod socket;

/// A head is at most this long; `X-Registry-Config` of many registries is the
/// largest honest one.
pub const MAX_HEAD: usize = 128 * 1024;
pub const MAX_HEADERS: usize = 128;
/// A JSON body; the largest honest one is a container with thousands of mounts.
pub const MAX_JSON: u64 = 8 * 1024 * 1024;
