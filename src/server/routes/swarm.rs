//! Swarm, services, nodes, secrets, configs: there is no swarm here, and each
//! call says so in the words that clients know.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::server::request::Request;
use crate::server::response::Response;
use crate::server::router::{Route, route};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route("GET", "/swarm", not_a_manager),
    route("POST", "/swarm/init", no_swarm),
    route("POST", "/swarm/join", no_swarm),
    route("POST", "/swarm/leave", not_part),
    route("POST", "/swarm/update", not_a_manager),
    route("GET", "/swarm/unlockkey", not_a_manager),
    route("POST", "/swarm/unlock", not_locked),
    route("GET", "/services", not_a_manager),
    route("POST", "/services/create", not_a_manager),
    route("GET", "/services/{id}", not_a_manager),
    route("DELETE", "/services/{id}", not_a_manager),
    route("POST", "/services/{id}/update", not_a_manager),
    route("GET", "/services/{id}/logs", not_a_manager),
    route("GET", "/nodes", not_a_manager),
    route("GET", "/nodes/{id}", not_a_manager),
    route("DELETE", "/nodes/{id}", not_a_manager),
    route("POST", "/nodes/{id}/update", not_a_manager),
    route("GET", "/tasks", not_a_manager),
    route("GET", "/tasks/{id}", not_a_manager),
    route("GET", "/tasks/{id}/logs", not_a_manager),
    route("GET", "/secrets", not_a_manager),
    route("POST", "/secrets/create", not_a_manager),
    route("GET", "/secrets/{id}", not_a_manager),
    route("DELETE", "/secrets/{id}", not_a_manager),
    route("POST", "/secrets/{id}/update", not_a_manager),
    route("GET", "/configs", not_a_manager),
    route("POST", "/configs/create", not_a_manager),
    route("GET", "/configs/{id}", not_a_manager),
    route("DELETE", "/configs/{id}", not_a_manager),
    route("POST", "/configs/{id}/update", not_a_manager),
];

fn not_a_manager(_: &Arc<Engine>, _: &mut Request) -> Result<Response> {
    Err(Error::unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    ))
}

fn not_part(_: &Arc<Engine>, _: &mut Request) -> Result<Response> {
    Err(Error::unavailable("This node is not part of a swarm"))
}

fn not_locked(_: &Arc<Engine>, _: &mut Request) -> Result<Response> {
    Err(Error::conflict("swarm is not locked"))
}

fn no_swarm(_: &Arc<Engine>, _: &mut Request) -> Result<Response> {
    Err(Error::unavailable("swarm mode is not available: this engine runs containers of one machine"))
}
