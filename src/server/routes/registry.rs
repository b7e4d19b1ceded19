//! What goes through to registries: login, search, remote descriptors. A client
//! that goes away ends the work at the registry too.

use crate::api::filters::Filters;
use crate::api::registry::AuthConfig;
use crate::engine::Engine;
use crate::engine::image::{distribution, login, search};
use crate::error::{Error, Result};
use crate::server::gone::Watch;
use crate::server::request::Request;
use crate::server::response::Response;
use crate::server::router::{Route, route};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route("POST", "/auth", auth),
    route("GET", "/images/search", images_search),
    route("GET", "/distribution/{name*}/json", distribution_inspect),
];

/// A token that fires when the client is gone, for as long as the watch lives.
fn cancel_with_client(request: &Request) -> Result<(Arc<login::Cancel>, Watch)> {
    let cancel = Arc::new(login::Cancel::default());
    let fired = cancel.clone();
    let watch = request.gone()?.watch(move || fired.fire())?;
    Ok((cancel, watch))
}

/// Pull and push take a bad header for none, as Docker does; elsewhere it is refused.
fn strict_auth(request: &Request) -> Result<AuthConfig> {
    AuthConfig::from_header(request.header("X-Registry-Auth").unwrap_or(""))
        .ok_or_else(|| Error::invalid("invalid X-Registry-Auth header: invalid JSON"))
}

fn auth(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let auth: AuthConfig = request.json_required()?;
    let (cancel, _watch) = cancel_with_client(request)?;
    Response::ok(&login::login(engine, &auth.split_auth(), &cancel)?)
}

fn images_search(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let limit = match request.query("limit") {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|_| {
            Error::invalid(format!("invalid limit specified: strconv.Atoi: parsing \"{text}\": invalid syntax"))
        })?),
    };
    let filters = Filters::parse(request.query("filters").unwrap_or(""))?;
    let auth = AuthConfig::from_header(request.header("X-Registry-Auth").unwrap_or("")).unwrap_or_default();
    let (cancel, _watch) = cancel_with_client(request)?;
    let term = request.query("term").unwrap_or("");
    Response::ok(&search::search(engine, term, limit, &filters, &auth, &cancel)?)
}

fn distribution_inspect(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let auth = strict_auth(request)?;
    let (cancel, _watch) = cancel_with_client(request)?;
    Response::ok(&distribution::inspect(engine, request.param("name"), &auth, &cancel)?)
}
