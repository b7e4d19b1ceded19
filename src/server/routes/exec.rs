//! `/exec` and `/containers/{id}/exec`.

use super::container::{created, size};
use crate::api::exec::{ExecCreate, ExecStart};
use crate::api::version;
use crate::engine::container::attach;
use crate::engine::exec::start::{self, Client};
use crate::engine::{Engine, exec};
use crate::error::{Context, Result};
use crate::server::hijack;
use crate::server::request::Request;
use crate::server::response::Response;
use crate::server::router::{Route, route};
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route("POST", "/containers/{id*}/exec", create_one),
    route("POST", "/exec/{id}/start", start_one),
    route("POST", "/exec/{id}/resize", resize_one),
    route("GET", "/exec/{id}/json", inspect_one),
];

fn create_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let mut body: ExecCreate = request.json_required()?;
    if request.version < version::Version(42) {
        body.console_size = None;
    }
    created(exec::create(engine, request.param("id"), body)?)
}

fn start_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let body: ExecStart = request.json()?;
    let exec = exec::check(engine, request.param("id"))?;
    // Without a terminal, or from a client that cannot know of it, a size says nothing.
    let sized = body.tty && request.version >= version::Version(42);
    let console = body.console_size.filter(|s| sized && *s != [0, 0]).map(|s| (s[0] as u16, s[1] as u16));
    if body.detach {
        start::start(engine, &exec, None, console)?;
        return Ok(Response::Empty(200));
    }
    let (client, leftover) = request.hijack()?;
    let mut out = std::fs::File::from(client.try_clone().context("duplicate the client's connection")?);
    let usual = [
        ("Api-Version".to_owned(), version::MAX.to_string()),
        ("Docker-Experimental".to_owned(), engine.config.experimental.to_string()),
        ("Ostype".to_owned(), "linux".to_owned()),
        ("Server".to_owned(), format!("Docker/{} (linux)", version::PRODUCT)),
    ];
    if out.write_all(&hijack::head_with(request, body.tty, &usual)).is_err() {
        return Ok(Response::Hijacked);
    }
    attach::let_head_be_read(client.as_fd());
    let client = Client { socket: client, leftover, framed: !body.tty };
    if let Err(e) = start::start(engine, &exec, Some(client), console) {
        let text = format!("{e}\r\n");
        let mut bytes = Vec::new();
        if !body.tty {
            bytes.extend(hijack::frame(hijack::StreamKind::Stdout, text.len() as u32));
        }
        bytes.extend_from_slice(text.as_bytes());
        let _ = out.write_all(&bytes);
    }
    Ok(Response::Hijacked)
}

fn resize_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let (rows, cols) = size(request)?;
    exec::resize(engine, request.param("id"), rows, cols)?;
    Ok(Response::Empty(200))
}

fn inspect_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    Response::ok(&exec::inspect(engine, request.param("id"))?)
}
