//! Managed plugins: none can be installed, so the list is empty and every name
//! is unknown.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::server::request::Request;
use crate::server::response::Response;
use crate::server::router::{Route, route};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route("GET", "/plugins", list),
    route("GET", "/plugins/privileges", unavailable),
    route("POST", "/plugins/pull", unavailable),
    route("POST", "/plugins/create", unavailable),
    route("GET", "/plugins/{name*}/json", not_found),
    route("POST", "/plugins/{name*}/enable", not_found),
    route("POST", "/plugins/{name*}/disable", not_found),
    route("POST", "/plugins/{name*}/upgrade", not_found),
    route("POST", "/plugins/{name*}/push", not_found),
    route("POST", "/plugins/{name*}/set", not_found),
    route("DELETE", "/plugins/{name*}", not_found),
];

fn list(_: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    request.filters()?.check(&["enabled", "capability"])?;
    Response::ok(&Vec::<String>::new())
}

fn unavailable(_: &Arc<Engine>, _: &mut Request) -> Result<Response> {
    Err(Error::unavailable("managed plugins are not available: this engine runs no plugin processes"))
}

fn not_found(_: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    Err(Error::not_found(format!("plugin {:?} not found", request.param("name"))))
}
