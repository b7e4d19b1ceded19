//! Images: list, inspect, history, tag, remove, prune, load, save. (Pull, push
//! and search are in `registry`, with `images/create` that import shares.)

use super::registry::progress_stream;
use crate::api::filters::Filters;
use crate::api::version::Version;
use crate::engine::Engine;
use crate::engine::image::{archive, inspect, list, names, pull, push, remove};
use crate::error::{Error, Kind, Result};
use crate::server::request::Request;
use crate::server::response::{Response, Stream};
use crate::server::router::{Route, route};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route("GET", "/images/json", images_list),
    route("GET", "/images/get", images_get),
    route("POST", "/images/load", images_load),
    route("POST", "/images/prune", images_prune),
    route("GET", "/images/{name*}/json", image_inspect),
    route("GET", "/images/{name*}/history", image_history),
    route("GET", "/images/{name*}/get", image_get),
    route("POST", "/images/{name*}/tag", image_tag),
    route("DELETE", "/images/{name*}", image_delete),
];

/// The JSON `platform` of newer versions; none if it is not given.
fn platform(request: &Request) -> Result<Option<archive::Platform>> {
    match request.query("platform") {
        Some(json) if !json.is_empty() && request.version >= Version(48) => push::platform(json).map(Some),
        _ => Ok(None),
    }
}

fn images_list(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let mut filters = request.filters()?;
    // Before 1.25 a name could stand outside of the filters.
    if let Some(name) = request.query("filter").filter(|n| !n.is_empty() && request.version < Version(41)) {
        filters.add("reference", name);
    }
    let query = list::Query {
        all: request.query_bool("all", false),
        shared_size: request.query_bool("shared-size", false) && request.version >= Version(42),
        manifests: request.query_bool("manifests", false) && request.version >= Version(47),
        version: request.version,
    };
    Response::ok(&list::list(engine, &filters, query)?)
}

fn image_inspect(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let manifests = request.query_bool("manifests", false) && request.version >= Version(48);
    let wanted = match request.query("platform") {
        Some(json) if !json.is_empty() && request.version >= Version(49) => Some(push::platform(json)?),
        _ => None,
    };
    if manifests && wanted.is_some() {
        return Err(Error::invalid("conflicting options: manifests and platform options cannot both be set"));
    }
    let image = inspect::resolve(engine, request.param("name"), wanted.as_ref())?;
    Response::ok(&inspect::inspect(engine, &image, request.version, manifests))
}

fn image_history(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let image = inspect::resolve(engine, request.param("name"), platform(request)?.as_ref())?;
    Response::ok(&inspect::history(engine, &image)?)
}

fn image_tag(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let (repo, tag) = (request.query("repo").unwrap_or(""), request.query("tag").unwrap_or(""));
    names::tag(engine, request.param("name"), repo, tag)?;
    Ok(Response::Empty(201))
}

fn image_delete(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let name = request.param("name");
    if name.trim().is_empty() {
        return Err(Error::invalid("image name cannot be blank"));
    }
    let options =
        remove::Options { force: request.query_bool("force", false), prune: !request.query_bool("noprune", false) };
    let platforms: Vec<archive::Platform> = match request.version >= Version(50) {
        true => request.query_all("platforms").map(push::platform).collect::<Result<_>>()?,
        false => Vec::new(),
    };
    if !platforms.is_empty() {
        return Response::ok(&remove::remove_platforms(engine, name, &platforms, options)?);
    }
    Response::ok(&remove::remove(engine, name, options)?)
}

fn images_prune(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let filters: Filters = request.filters()?;
    Response::ok(&remove::prune(engine, &filters)?)
}

fn images_load(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let wanted = platform(request)?;
    // Docker's server defaults to progress; its client asks for quiet.
    let quiet = request.query_bool("quiet", true);
    let (mut body, engine) = (request.take_body(), engine.clone());
    progress_stream(request, false, move |lines, cancel| {
        match archive::load(&engine, &mut body, wanted, quiet, lines, cancel.flag()) {
            Err(e) if e.kind() != Kind::Cancelled => lines.error(&e.told()),
            other => other,
        }
    })
}

fn images_get(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let names: Vec<String> = request.query_all("names").map(str::to_owned).collect();
    save(engine, request, &names)
}

fn image_get(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let name = request.param("name").to_owned();
    save(engine, request, &[name])
}

fn save(engine: &Arc<Engine>, request: &Request, names: &[String]) -> Result<Response> {
    if request.query_all("platform").nth(1).is_some() && request.version >= Version(48) {
        return Err(Error::invalid("multiple platform parameters not supported"));
    }
    let saved = archive::select(engine, names, platform(request)?.as_ref())?;
    let engine = engine.clone();
    Ok(Response::Stream(Stream {
        content_type: "application/x-tar",
        headers: vec![],
        late_head: true,
        run: Box::new(move |out| {
            // Chunks of the server's small lines would be slow for a tar.
            let mut out = std::io::BufWriter::with_capacity(128 * 1024, out);
            archive::save(&engine, saved, &mut out)
        }),
    }))
}

/// `POST /images/create?fromSrc=…`: `-` means that the body is the tar, else it is
/// fetched from there.
pub fn import(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let from = request.query("fromSrc").unwrap_or("");
    if from.is_empty() {
        return Err(Error::invalid("either fromImage or fromSrc must be given"));
    }
    let query = |key: &str| request.query(key).unwrap_or("").to_owned();
    let source = archive::Source {
        from: from.to_owned(),
        reference: names::reference(&query("repo"), &query("tag"))?,
        message: query("message"),
        changes: request.query_all("changes").map(str::to_owned).collect(),
        platform: match query("platform").as_str() {
            "" => None,
            text => Some(pull::platform(text)?),
        },
    };
    if source.platform.as_ref().is_some_and(|p| p.os != "linux") {
        return Err(Error::invalid("operating system is not supported"));
    }
    let (mut body, engine) = (request.take_body(), engine.clone());
    progress_stream(request, true, move |lines, cancel| {
        match archive::import(&engine, &mut body, source, lines, cancel) {
            Err(e) if lines.started() && e.kind() != Kind::Cancelled => lines.error(&e.told()),
            other => other,
        }
    })
}
