//! CONTENT: names, documents, blobs, registries. Runs in dockerd.

#![forbid(unsafe_code)]

pub mod archive;
pub mod compress;
pub mod config;
pub mod digest;
mod flow;
pub mod gc;
mod gzip;
pub mod layer;
mod layers;
pub mod manifest;
pub mod platforms;
pub mod reference;
pub mod registry;
mod room;
pub mod store;
pub mod unfinished;
mod window;
