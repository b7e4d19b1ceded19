//! HTTP ONLY: one thread per connection, no Docker semantics. Runs in dockerd.

#![forbid(unsafe_code)]

pub mod request;
pub mod response;
pub mod router;
