//! `POST /build`, its cancelling, and the build cache's prune.

use crate::api::build::{Options, SECRETS_HEADER, Secrets};
use crate::api::registry::AuthConfig;
use crate::engine::Engine;
use crate::engine::build::cache::prune::Wanted;
use crate::engine::build::context::kept::{List, MAX_LIST};
use crate::engine::build::{self, Abort};
use crate::error::{Context as _, Error, Result};
use crate::server::hijack;
use crate::server::request::Request;
use crate::server::response::{Response, Stream};
use crate::server::router::{Route, route};
use crate::util::json;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route("POST", "/build", build_image),
    route("POST", "/build/prune", build_prune),
    route("POST", "/build/cancel", build_cancel),
    route("POST", "/build/attach", build_attach),
    route("POST", "/build/context", build_context),
];

fn decode<T: serde::de::DeserializeOwned + Default>(text: Option<&str>) -> Option<T> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Some(T::default()) };
    let bytes = URL_SAFE.decode(text).or_else(|_| STANDARD.decode(text)).ok()?;
    json::from_slice(&bytes).ok()
}

fn build_image(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    if request.query("version") == Some("2") {
        return Err(Error::invalid(
            "this daemon builds by the classic API only: use its own client, or set DOCKER_BUILDKIT=0",
        ));
    }
    if request.query("securityopt").is_some_and(|s| !matches!(s, "" | "null" | "[]")) {
        return Err(Error::invalid("The daemon on this platform does not support setting security options on build"));
    }
    let all = &request.query;
    let options = Options::decode(|key| all.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect())?;
    let secrets: Secrets = decode(request.header(SECRETS_HEADER))
        .ok_or_else(|| Error::invalid(format!("invalid {SECRETS_HEADER} header")))?;
    // As the original: a header that cannot be read is none.
    let auths: BTreeMap<String, AuthConfig> = decode(request.header("X-Registry-Config")).unwrap_or_default();
    let wanted = build::Request { options, secrets, auths };
    let (gone, mut body, engine) = (request.gone()?, request.take_body(), engine.clone());
    Ok(Response::Stream(Stream {
        content_type: "application/json",
        headers: vec![],
        late_head: true,
        run: Box::new(move |out| {
            let abort = Arc::new(Abort::default());
            let (fired, theirs) = (abort.clone(), engine.clone());
            let _watch = gone.watch(move || fired.fire(&theirs))?;
            build::build(&engine, &wanted, &abort, &mut body, out)
        }),
    }))
}

fn build_prune(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let number = |key: &str| -> Result<u64> {
        let text = request.query(key).unwrap_or("");
        let bad = |_| Error::invalid(format!("{key} is in bytes and expects an integer, got {text}"));
        if text.is_empty() { Ok(0) } else { text.parse().map_err(bad) }
    };
    // The newer name of the same thing wins, as with the original.
    let keep = match number("reserved-space")? {
        0 => number("keep-storage")?,
        bytes => bytes,
    };
    let keep = keep.max(number("max-used-space")?);
    let wanted = Wanted { all: request.query_bool("all", false), filters: request.filters()?, keep };
    Response::ok(&engine.builds.cache.prune(engine, &wanted)?)
}

/// The list of a large context, before the build that will use it: the answer says
/// which files have to be sent.
fn build_context(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let key = request.query("key").unwrap_or("").to_owned();
    let build = request.query("id").filter(|id| !id.is_empty());
    let build = build.ok_or_else(|| Error::invalid("build ID not provided"))?.to_owned();
    let mut bytes = Vec::new();
    request.take_body().take(MAX_LIST + 1).read_to_end(&mut bytes).context("read the list of the context")?;
    if bytes.len() as u64 > MAX_LIST {
        return Err(Error::invalid(format!("the list of the context is longer than {} MiB", MAX_LIST >> 20)));
    }
    let needed = engine.builds.contexts.offer(&key, &build, List::new(bytes)?)?;
    Response::ok(&serde_json::json!({ "needed": needed }))
}

/// A raw connection that a running build takes when it needs it: `ssh:ID` leads to
/// an agent of the client, `output:N` to where the client keeps an output.
fn build_attach(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let session = engine.builds.session(request.query("id").unwrap_or(""))?;
    let name = request.query("name").unwrap_or("").to_owned();
    let (socket, _) = request.hijack()?;
    let mut out = std::fs::File::from(socket.try_clone()?);
    if out.write_all(&hijack::head(request, true)).is_ok() {
        session.offer(&name, socket);
    }
    Ok(Response::Hijacked)
}

fn build_cancel(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let id = request.query("id").filter(|id| !id.is_empty());
    engine.builds.cancel(engine, id.ok_or_else(|| Error::invalid("build ID not provided"))?);
    Ok(Response::Empty(204))
}
