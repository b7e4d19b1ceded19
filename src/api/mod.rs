//! WIRE TYPES ONLY: serde, Docker's names, no I/O. Shared by client, engine and server.

#![forbid(unsafe_code)]

pub mod network;
pub mod version;
