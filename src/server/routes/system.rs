//! clearly instead of serving: `/session`, `/grpc`.

use crate::engine::{Engine, system};
use crate::error::{Error, Result};
use crate::server::grpc;
use crate::server::request::Request;
use crate::server::response::Response;
use crate::server::router::{Route, route};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

const IDLE: Duration = Duration::from_secs(60);

pub const ROUTES: &[Route] = &[
    route("GET", "/_ping", ping),
    route("HEAD", "/_ping", ping),
    route("GET", "/version", version),
    route("GET", "/info", info),
    route("GET", "/system/df", disk_usage),
    route("POST", "/session", session),
    route("POST", "/grpc", grpc),
    route("OPTIONS", "/", options),
    route("OPTIONS", "/{any*}", options),
];

fn ping(_: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let mut headers: Vec<(&'static str, String)> = vec![
        ("Builder-Version", "1".into()),
        ("Cache-Control", "no-cache, no-store, must-revalidate".into()),
        ("Pragma", "no-cache".into()),
        ("Swarm", "inactive".into()),
        ("Content-Type", "text/plain; charset=utf-8".into()),
    ];
    if request.method == "HEAD" {
        headers.push(("Content-Length", "0".into()));
        return Ok(Response::Head(200, headers));
    }
    Ok(Response::Plain(headers, b"OK".to_vec()))
}

fn version(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    Response::ok(&system::version(engine, request.version)?)
}

fn info(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    Response::ok(&system::info(engine, request.version)?)
}

fn disk_usage(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let kinds: Vec<&str> = request.query_all("type").collect();
    Response::ok(&system::disk_usage(engine, request.version, &kinds)?)
}

const NO_BUILDKIT: &str = "this engine has no BuildKit: sessions and the gRPC builder are not available";
const INSTEAD: &str = "build with the classic builder: set DOCKER_BUILDKIT=0, or use this engine's own docker build";

fn session(_: &Arc<Engine>, _: &mut Request) -> Result<Response> {
    Err(Error::not_implemented(NO_BUILDKIT).with_hint(INSTEAD))
}

/// A client of BuildKit hears the same in its own language.
fn grpc(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    if !request.wants_upgrade() {
        return session(engine, request);
    }
    let (socket, leftover) = request.hijack()?;
    let mut socket = std::os::unix::net::UnixStream::from(socket);
    // Who has asked and says nothing for so long has its answer.
    socket.set_read_timeout(Some(IDLE))?;
    socket.write_all(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")?;
    let mut input = std::io::Cursor::new(leftover).chain(socket.try_clone()?);
    // However it ends: there is nobody to tell.
    let _ = grpc::refuse(&mut input, &mut socket, &format!("{NO_BUILDKIT} ({INSTEAD})"));
    let _ = socket.shutdown(std::net::Shutdown::Both);
    Ok(Response::Hijacked)
}

fn options(_: &Arc<Engine>, _: &mut Request) -> Result<Response> {
    Ok(Response::Empty(200))
}
