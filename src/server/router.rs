//! The HTTP surface as data: method, pattern, first version, handler.

use crate::engine::Engine;
use crate::error::Result;
use crate::server::request::Request;
use crate::server::response::Response;
use std::sync::Arc;

pub type Handler = fn(&Arc<Engine>, &mut Request) -> Result<Response>;

/// One line of the API. `{name}` matches one path segment, `{name*}` matches
/// greedily with slashes (image references).
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub method: &'static str,
    pub pattern: &'static str,
    pub handler: Handler,
}

pub const fn route(method: &'static str, pattern: &'static str, handler: Handler) -> Route {
    Route { method, pattern, handler }
}
