//! `/networks`: decode, one engine call, encode.

use crate::engine::Engine;
use crate::engine::network::{connect, create, list, remove};
use crate::error::{Error, Result};
use crate::server::request::Request;
use crate::server::response::Response;
use crate::server::router::{Route, route};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route("GET", "/networks", all),
    route("GET", "/networks/", all),
    route("POST", "/networks/create", new),
    route("POST", "/networks/prune", prune),
    route("GET", "/networks/{id}", inspect),
    route("POST", "/networks/{id}/connect", connect),
    route("POST", "/networks/{id}/disconnect", disconnect),
    route("DELETE", "/networks/{id}", delete),
];

fn all(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    Response::ok(&list::list(&engine.networks, &request.filters()?)?)
}

fn inspect(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    // Only one scope and no services: both parameters are checked and done with.
    if let Some(scope) = request.query("scope").filter(|s| !matches!(*s, "" | "local")) {
        return Err(Error::not_found(format!("network {} not found in scope {scope}", request.param("id"))));
    }
    Response::ok(&list::inspect(&engine.networks, request.param("id"))?)
}

fn new(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let body = request.json_required()?;
    Response::json(201, &create::create(engine, body)?)
}

fn delete(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    remove::remove(engine, request.param("id"))?;
    Ok(Response::Empty(204))
}

fn prune(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    Response::ok(&remove::prune(engine, &request.filters()?)?)
}

fn connect(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let body = request.json_required()?;
    connect::connect(engine, request.param("id"), body)?;
    Ok(Response::Empty(200))
}

fn disconnect(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let body = request.json_required()?;
    connect::disconnect(engine, request.param("id"), &body)?;
    Ok(Response::Empty(200))
}
