//! WIRE TYPES: what goes over the socket and nothing else. Shared by server and client.
//!
//! Field names and their order are Docker's. An `Option` that is `None` encodes
//! as `null`; a field marked `omit` is left out when it is empty, like Go's
//! `omitempty`. Decode only through [`decode`], which gives Go's rules.

#![forbid(unsafe_code)]

pub mod build;
pub mod container;
pub mod decode;
pub mod error;
pub mod events;
pub mod exec;
pub mod filters;
pub mod image;
pub mod network;
pub mod registry;
pub mod system;
pub mod version;
pub mod volume;

/// Go's `omitempty`: false, zero, "", null and empty collections.
pub(crate) fn omit<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A set on the wire: `{"80/tcp":{}}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Empty {}
