//! `/containers`: everything but copying (`archive`) and execs.

use crate::api::container::{CreateRequest, IdResponse, UpdateConfig, WaitResponse};
use crate::api::version::Version;
use crate::engine::container::{
    attach, create, inspect, list, prune, remove, rename, start, stats, stop, top, update, wait,
};
use crate::engine::{Engine, logs, until};
use crate::error::{Context, Error, Result};
use crate::server::request::Request;
use crate::server::response::{Response, Stream, json_line};
use crate::server::router::{Route, route};
use crate::server::{hijack, websocket};
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route("GET", "/containers/json", list_all),
    route("POST", "/containers/create", create_one),
    route("POST", "/containers/prune", prune_all),
    route("GET", "/containers/{id*}/json", inspect_one),
    route("GET", "/containers/{id*}/top", top_of),
    route("GET", "/containers/{id*}/logs", logs_of),
    route("GET", "/containers/{id*}/stats", stats_of),
    route("POST", "/containers/{id*}/start", start_one),
    route("POST", "/containers/{id*}/stop", stop_one),
    route("POST", "/containers/{id*}/restart", restart_one),
    route("POST", "/containers/{id*}/kill", kill_one),
    route("POST", "/containers/{id*}/pause", pause_one),
    route("POST", "/containers/{id*}/unpause", unpause_one),
    route("POST", "/containers/{id*}/wait", wait_for),
    route("POST", "/containers/{id*}/attach", attach_to),
    route("GET", "/containers/{id*}/attach/ws", attach_websocket),
    route("POST", "/containers/{id*}/resize", resize_one),
    route("POST", "/containers/{id*}/rename", rename_one),
    route("POST", "/containers/{id*}/update", update_one),
    route("GET", "/containers/{id*}/checkpoints", no_checkpoints),
    route("POST", "/containers/{id*}/checkpoints", no_checkpoints),
    route("DELETE", "/containers/{id}/checkpoints/{name}", no_checkpoints),
    // A link has a name with slashes: `parent/alias`.
    route("DELETE", "/containers/{id*}", remove_one),
];

fn list_all(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let options = list::Options {
        all: request.query_bool("all", false),
        limit: request.query_int("limit", -1)?,
        size: request.query_bool("size", false),
    };
    let mut list = list::list(engine, &options, &request.filters()?)?;
    if request.version < Version(46) {
        list.iter_mut().for_each(|line| line.host_config.annotations = None);
    }
    Response::ok(&list)
}

fn create_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let mut body: CreateRequest = request.json_required()?;
    gate(request.version, &mut body)?;
    let platform = request.query("platform").unwrap_or_default();
    Response::json(201, &create::create(engine, request.query("name"), platform, body)?)
}

/// What older clients mean by what they send (or cannot send).
fn gate(version: Version, body: &mut CreateRequest) -> Result<()> {
    let Some(host) = &mut body.host_config else { return Ok(()) };
    if version < Version(40) && host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".into();
    }
    if version < Version(42) {
        for mount in host.mounts.iter_mut().flatten() {
            // Options of another type were dropped in silence.
            let kind = mount.kind.clone();
            mount.bind_options.take_if(|_| kind != "bind");
            mount.volume_options.take_if(|_| kind != "volume");
            mount.tmpfs_options.take_if(|_| kind != "tmpfs");
        }
    }
    if version < Version(43) {
        host.annotations = None;
    }
    if version < Version(44) {
        if let Some(check) = &mut body.config.healthcheck {
            check.start_interval = 0;
        }
        for mount in host.mounts.iter_mut().flatten().filter(|m| m.kind == "bind" && m.read_only) {
            mount.bind_options.get_or_insert_default().read_only_non_recursive = true;
        }
        let endpoints = body.networking_config.iter().filter_map(|n| n.endpoints_config.as_ref());
        let names: Vec<String> = endpoints.flat_map(|e| e.keys().cloned()).collect();
        if names.len() > 1 {
            return Err(Error::invalid(format!(
                "Container cannot be created with multiple network endpoints: {}",
                names.join(", ")
            )));
        }
    }
    if version < Version(45)
        && host.mounts.iter().flatten().any(|m| m.volume_options.as_ref().is_some_and(|o| !o.subpath.is_empty()))
    {
        return Err(Error::invalid("VolumeOptions.Subpath needs API v1.45 or newer"));
    }
    if version < Version(48) && host.mounts.iter().flatten().any(|m| m.kind == "image") {
        return Err(Error::invalid("Mount type \"Image\" needs API v1.48 or newer"));
    }
    Ok(())
}

fn prune_all(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    Response::ok(&prune::prune(engine, &request.filters()?)?)
}

fn inspect_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    Response::ok(&inspect::inspect(engine, request.param("id"), request.query_bool("size", false))?)
}

fn top_of(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    Response::ok(&top::top(engine, request.param("id"), request.query("ps_args").unwrap_or("-ef"))?)
}

fn start_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    if request.query("checkpoint").is_some_and(|c| !c.is_empty()) {
        return no_checkpoints(engine, request);
    }
    start::start(engine, request.param("id"))?;
    Ok(Response::Empty(204))
}

/// `t`: absent is the container's own.
fn timeout(request: &Request) -> Result<Option<i64>> {
    match request.query("t") {
        None | Some("") => Ok(None),
        Some(_) => request.query_int("t", 0).map(Some),
    }
}

fn signal(request: &Request) -> Option<String> {
    let known = request.version >= Version(42);
    request.query("signal").filter(|s| known && !s.is_empty()).map(str::to_owned)
}

fn stop_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    stop::stop(engine, request.param("id"), signal(request).as_deref(), timeout(request)?)?;
    Ok(Response::Empty(204))
}

fn restart_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    stop::restart(engine, request.param("id"), signal(request).as_deref(), timeout(request)?)?;
    Ok(Response::Empty(204))
}

fn kill_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    stop::kill(engine, request.param("id"), request.query("signal"))?;
    Ok(Response::Empty(204))
}

fn pause_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    stop::pause(engine, request.param("id"))?;
    Ok(Response::Empty(204))
}

fn unpause_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    stop::unpause(engine, request.param("id"))?;
    Ok(Response::Empty(204))
}

fn wait_for(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let condition = wait::Condition::parse(request.query("condition").unwrap_or(""))?;
    let waiting = wait::begin(engine, request.param("id"), condition)?;
    let client = request.fd()?;
    let run = move |out: &mut dyn Write| {
        let code = waiting.finish(client.as_fd())?;
        json_line(out, &WaitResponse { status_code: code.into(), error: None }, "\n")
    };
    Ok(Response::Stream(Stream {
        content_type: "application/json",
        headers: Vec::new(),
        late_head: false,
        run: Box::new(run),
    }))
}

fn attach_options(request: &Request) -> attach::Options {
    attach::Options {
        stream: request.query_bool("stream", false),
        logs: request.query_bool("logs", false),
        stdin: request.query_bool("stdin", false),
        stdout: request.query_bool("stdout", false),
        stderr: request.query_bool("stderr", false),
        detach_keys: request.query("detachKeys").unwrap_or("").to_owned(),
        raw: false,
    }
}

fn attach_to(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let options = attach_options(request);
    crate::engine::keys::parse(&options.detach_keys)?;
    let ready = attach::check(engine, request.param("id"), &options)?;
    let (client, leftover) = request.hijack()?;
    let head = hijack::head(request, ready.tty);
    attach::attach(engine, ready, &options, client, leftover, &head)?;
    Ok(Response::Hijacked)
}

/// The bytes of both streams in binary messages, what comes goes to stdin.
fn attach_websocket(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let options = attach::Options { raw: true, ..attach_options(request) };
    let ready = attach::check(engine, request.param("id"), &options)?;
    let head = websocket::accept(request)?;
    let (client, leftover) = request.hijack()?;
    if crate::sys::socket::try_write(client.as_fd(), &head).ok() != Some(head.len()) {
        return Ok(Response::Hijacked);
    }
    let (ours, theirs) = crate::sys::socket::stream_pair()?;
    let owned = engine.clone();
    let carry = move || {
        if let Err(e) = attach::attach(&owned, ready, &options, theirs, Vec::new(), b"") {
            crate::debug!("a websocket's attach failed", "error" = e);
        }
    };
    // It may wait there for the container's start, while the client already speaks.
    crate::util::thread::start("attach", 256 << 10, carry).context("start a thread")?;
    let result = websocket::relay(&client, &leftover, &ours);
    websocket::end(&client);
    result.map(|()| Response::Hijacked)
}

fn dimension(request: &Request, key: &str) -> Result<u16> {
    let text = request.query(key).unwrap_or("");
    let bad = |why: &str| {
        Error::invalid(format!("invalid resize {} {text:?}: {why}", if key == "h" { "height" } else { "width" }))
    };
    match text.parse::<u64>() {
        Ok(n) => u16::try_from(n).map_err(|_| bad("value out of range")),
        Err(_) if text.parse::<i128>().is_ok() => Err(bad("value out of range")),
        Err(_) => Err(bad("invalid syntax")),
    }
}

/// Rows and columns.
pub fn size(request: &Request) -> Result<(u16, u16)> {
    Ok((dimension(request, "h")?, dimension(request, "w")?))
}

fn resize_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let (rows, cols) = size(request)?;
    attach::resize(engine, request.param("id"), rows, cols)?;
    Ok(Response::Empty(200))
}

fn rename_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    rename::rename(engine, request.param("id"), request.query("name").unwrap_or(""))?;
    Ok(Response::Empty(204))
}

fn update_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let body: UpdateConfig = request.json_required()?;
    Response::ok(&update::update(engine, request.param("id"), body)?)
}

fn remove_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let options = remove::Options {
        force: request.query_bool("force", false),
        volumes: request.query_bool("v", false),
        link: request.query_bool("link", false),
    };
    remove::remove(engine, request.param("id"), options)?;
    Ok(Response::Empty(204))
}

fn logs_of(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let time = |key: &str| match request.query(key) {
        None | Some("" | "0") => Ok(None),
        Some(text) => {
            until::point(text).map(Some).ok_or_else(|| Error::invalid(format!("invalid value for \"{key}\": {text:?}")))
        }
    };
    let tail = request.query("tail").unwrap_or("");
    let options = logs::Options {
        follow: request.query_bool("follow", false),
        stdout: request.query_bool("stdout", false),
        stderr: request.query_bool("stderr", false),
        since: time("since")?,
        until: time("until")?,
        timestamps: request.query_bool("timestamps", false),
        details: request.query_bool("details", false),
        // What is no number means all.
        tail: tail.parse().ok(),
    };
    if !options.stdout && !options.stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    let container = engine.containers.get(request.param("id"))?;
    let tty = container.live().record.config.tty;
    logs::files::Place::of(&container.record(), &container.dir)?;
    let (engine, client) = (engine.clone(), request.fd()?);
    let run = move |out: &mut dyn Write| {
        let result = logs::read::logs(&engine, &container, &options, !tty, out, Some(client.as_fd()));
        match result {
            // The head is out: the error can only follow in the stream.
            Err(e) if e.kind() != crate::error::Kind::Cancelled && !tty => {
                let text = format!("Error grabbing logs: {e}\n");
                let frame = hijack::frame(hijack::StreamKind::System, text.len() as u32);
                let _ = out.write_all(&frame).and_then(|()| out.write_all(text.as_bytes()));
                Ok(())
            }
            other => other,
        }
    };
    Ok(Response::Stream(Stream {
        content_type: hijack::content_type(request.version, tty),
        headers: Vec::new(),
        late_head: false,
        run: Box::new(run),
    }))
}

fn stats_of(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let stream = request.query_bool("stream", true);
    let one_shot = request.query_bool("one-shot", false) && request.version >= Version(41);
    if one_shot && stream {
        return Err(Error::invalid("cannot have stream=true and one-shot=true"));
    }
    let container = engine.containers.get(request.param("id"))?;
    if !stream {
        return Response::ok(&stats::once(engine, &container, one_shot)?);
    }
    let (engine, client) = (engine.clone(), request.fd()?);
    let run = move |out: &mut dyn Write| {
        stats::stream(&engine, &container, client.as_fd(), |sample| json_line(out, sample, "\n"))
    };
    Ok(Response::Stream(Stream {
        content_type: "application/json",
        headers: Vec::new(),
        late_head: false,
        run: Box::new(run),
    }))
}

fn no_checkpoints(engine: &Arc<Engine>, _: &mut Request) -> Result<Response> {
    Err(Error::not_implemented(match engine.config.experimental {
        true => "checkpoints need CRIU, which cannot work without privileges on the host",
        false => {
            "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it."
        }
    }))
}

/// 201 with an id alone.
pub fn created(id: String) -> Result<Response> {
    Response::json(201, &IdResponse { id })
}
