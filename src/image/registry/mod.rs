//! THE DISTRIBUTION PROTOCOL: manifests and blobs to and from registries.
//! Runs in dockerd (pull, push, login, search, distribution) and, for
//! `docker manifest` alone, in the client.
//!
//! From the outside in: [`endpoint`] turns a registry name into base URLs,
//! [`client`] is one repository at one of them (credentials, redirects,
//! retries), [`auth`] gets and keeps tokens, [`transport`] is one HTTP exchange.
//! [`blob`] reads content that survives a cut link.
//!
//! Invariants: credentials go to the origin they belong to or to the token
//! service it names, nowhere else; nothing is handed on before its digest is
//! known to be right, except as a stream whose consumer must not commit before
//! the end; every wait ends at the settings' limit or when [`transport::Cancel`] fires.

#![forbid(unsafe_code)]

pub mod auth;
pub mod blob;
pub mod challenge;
pub mod client;
pub mod document;
pub mod endpoint;
pub mod fault;
pub mod search;
pub mod service;
pub mod tls;
pub mod transfer;
pub mod transport;
pub mod upload;
pub mod url;
