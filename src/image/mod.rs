//! CONTENT: names, documents, blobs, registries. Runs in dockerd.

#![forbid(unsafe_code)]

pub mod config;
pub mod digest;
pub mod manifest;
pub mod reference;
pub mod registry;
