//! HTTP ONLY: one thread per request, no Docker semantics. Runs in dockerd.
//!
//! Invariants: whatever a peer sends costs bounded threads, descriptors and
//! memory (`http/`), one failing request is one 500 (`serve.rs`), and the accept
//! loop outlives every error (`accept.rs`). Handlers never see a head: they
//! decode, make one engine call and give back a [`response::Response`].

#![forbid(unsafe_code)]

pub mod accept;
pub mod gone;
mod grpc;
pub mod hijack;
pub mod http;
pub mod metrics;
pub mod origin;
mod park;
pub mod request;
pub mod response;
pub mod roles;
pub mod router;
pub mod routes;
mod serve;
pub mod status;
pub mod tls;
pub mod websocket;

use crate::api::version::{self, Version};
use crate::engine::Engine;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What every connection needs to know. Shared by all of them.
pub struct Server {
    pub engine: Arc<Engine>,
    /// `Docker/28.5.2 (linux)`.
    pub name: String,
    /// Lowest version served (`min-api-version`).
    pub minimum: Version,
    pub experimental: bool,
    /// For requests over the network.
    pub rules: origin::Rules,
    connections: park::Connections,
    stopping: AtomicBool,
}

impl Server {
    pub fn new(
        engine: Arc<Engine>,
        product: &str,
        minimum: Version,
        experimental: bool,
        rules: origin::Rules,
    ) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            engine,
            name: format!("Docker/{product} (linux)"),
            minimum: minimum.max(version::MIN),
            experimental,
            rules,
            connections: park::Connections::new()?,
            stopping: AtomicBool::new(false),
        }))
    }

    /// No request is taken any more; those under way go on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.connections.close_idle();
    }

    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
