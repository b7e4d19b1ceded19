//! What goes through to registries: login, search, remote descriptors. A client
//! that goes away ends the work at the registry too.

use crate::api::filters::Filters;
use crate::api::registry::AuthConfig;
use crate::api::version::Version;
use crate::engine::Engine;
use crate::engine::image::{distribution, login, progress, pull, push, search};
use crate::error::{Error, Result};
use crate::server::gone::Watch;
use crate::server::request::Request;
use crate::server::response::{Response, Stream};
use crate::server::router::{Route, route};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route("POST", "/auth", auth),
    route("POST", "/images/create", images_create),
    route("POST", "/images/{name*}/push", images_push),
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

/// Docker takes a header that it cannot read for none here.
fn lenient_auth(request: &Request) -> AuthConfig {
    AuthConfig::from_header(request.header("X-Registry-Auth").unwrap_or("")).unwrap_or_default()
}

/// Lines of progress, ended when the client goes. `late_head`: an error before the first
/// of them is an answer of its own.
pub(super) fn progress_stream(
    request: &Request,
    late_head: bool,
    run: impl FnOnce(&mut progress::Lines<'_>, &Arc<login::Cancel>) -> Result<()> + Send + 'static,
) -> Result<Response> {
    let gone = request.gone()?;
    Ok(Response::Stream(Stream {
        content_type: "application/json",
        headers: vec![],
        late_head,
        run: Box::new(move |out| {
            let cancel = Arc::new(login::Cancel::default());
            let fired = cancel.clone();
            let _watch = gone.watch(move || fired.fire())?;
            run(&mut progress::Lines::new(out), &cancel)
        }),
    }))
}

/// With `fromImage` a pull, with `fromSrc` an import.
fn images_create(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let from = request.query("fromImage").unwrap_or("");
    if from.is_empty() {
        return super::image::import(engine, request);
    }
    let tag = request.query("tag").unwrap_or("");
    // Our own word: Docker has no way to ask for all of them.
    let whole = request.query("platform") == Some("all");
    let platform = match request.query("platform") {
        None | Some("" | "all") => None,
        Some(text) => Some(pull::platform(text)?),
    };
    let reference = pull::reference(from, tag)?;
    let wanted = pull::Request { reference, platform, whole, credentials: login::credentials(&lenient_auth(request)) };
    let engine = engine.clone();
    progress_stream(request, true, move |lines, cancel| pull::pull(&engine, &wanted, lines, cancel))
}

fn images_push(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let tag = request.query("tag").unwrap_or("");
    let platform = match request.query("platform") {
        Some(json) if !json.is_empty() && request.version >= Version(46) => Some(push::platform(json)?),
        _ => None,
    };
    let reference = push::reference(request.param("name"), tag)?;
    let wanted =
        push::Request { reference, platform, credentials: login::credentials(&lenient_auth(request)), form: None };
    let engine = engine.clone();
    progress_stream(request, true, move |lines, cancel| push::push(&engine, &wanted, lines, cancel))
}
