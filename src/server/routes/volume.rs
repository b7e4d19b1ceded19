//! `/volumes`.

use crate::api::version::Version;
use crate::api::volume::VolumeCreate;
use crate::engine::Engine;
use crate::engine::volume::{self, Wanted, list};
use crate::error::{Error, Result};
use crate::server::request::Request;
use crate::server::response::Response;
use crate::server::router::{Route, route};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route("GET", "/volumes", list_all),
    route("POST", "/volumes/create", create_one),
    route("POST", "/volumes/prune", prune_all),
    route("GET", "/volumes/{name*}", inspect_one),
    route("PUT", "/volumes/{name*}", update_one),
    route("DELETE", "/volumes/{name*}", remove_one),
];

fn list_all(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    Response::ok(&list::list(engine, &request.filters()?)?)
}

fn create_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let body: VolumeCreate = request.json()?;
    if body.cluster_volume_spec.is_some() {
        return Err(Error::unavailable(
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this \
             node to swarm and try again.",
        ));
    }
    let wanted =
        Wanted { name: body.name, driver: body.driver, labels: body.labels, options: body.driver_opts, user: None };
    Response::json(201, &volume::create(engine, wanted)?.to_api())
}

fn prune_all(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    Response::ok(&list::prune(engine, &request.filters()?, request.version < Version(42))?)
}

fn inspect_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    Response::ok(&engine.volumes.get(request.param("name"))?.to_api())
}

fn update_one(_: &Arc<Engine>, _: &mut Request) -> Result<Response> {
    Err(Error::unavailable("volume update only valid for cluster volumes, but swarm is unavailable"))
}

fn remove_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    volume::remove(engine, request.param("name"), request.query_bool("force", false))?;
    Ok(Response::Empty(204))
}
