//! `/containers/{id}/archive`, `changes`, `export`, and `/commit`.

use super::container::created;
use crate::api::container::ContainerConfig;
use crate::engine::Engine;
use crate::engine::container::publish;
use crate::engine::copy::{archive, changes, commit, extract, stat, view};
use crate::error::{Error, Result};
use crate::server::request::Request;
use crate::server::response::{Response, Stream};
use crate::server::router::{Route, route};
use crate::util::json;
use base64::Engine as _;
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route("HEAD", "/containers/{id*}/archive", stat_of),
    route("GET", "/containers/{id*}/archive", get),
    route("PUT", "/containers/{id*}/archive", put),
    route("GET", "/containers/{id*}/changes", changes_of),
    route("GET", "/containers/{id*}/export", export),
    route("POST", "/commit", commit_one),
];

const STAT: &str = "X-Docker-Container-Path-Stat";

fn path(request: &Request) -> Result<String> {
    match request.query("path") {
        None | Some("") => Err(Error::invalid("missing or empty path parameter: bad parameter")),
        Some(path) => Ok(path.to_owned()),
    }
}

fn look(engine: &Arc<Engine>, request: &Request) -> Result<(view::View, String, String)> {
    let (path, id) = (path(request)?, request.param("id").to_owned());
    let container = engine.containers.get(&id)?;
    let view = view::open(engine, &container)?;
    let (described, _) = stat::stat(&view, &path, &id)?;
    let json = json::to_vec(&described)?;
    Ok((view, path, base64::engine::general_purpose::STANDARD.encode(json)))
}

fn stat_of(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let (_, _, header) = look(engine, request)?;
    Ok(Response::Head(200, vec![(STAT, header)]))
}

fn get(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let (view, path, header) = look(engine, request)?;
    let id = request.param("id").to_owned();
    let container = engine.containers.get(&id)?;
    publish(engine, &container, "archive-path", &[]);
    let run = move |out: &mut dyn Write| {
        let mut out = BufWriter::with_capacity(64 << 10, out);
        archive::path(&view, &path, &id, &mut out)
    };
    Ok(Response::Stream(Stream {
        content_type: "application/x-tar",
        headers: vec![(STAT, header)],
        late_head: true,
        run: Box::new(run),
    }))
}

fn put(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let (path, id) = (path(request)?, request.param("id").to_owned());
    let container = engine.containers.get(&id)?;
    let view = view::open(engine, &container)?;
    // A container without a user of its own keeps the ids of the archive.
    let owner = match request.query_bool("copyUIDGID", false) && !container.record().config.user.is_empty() {
        true => Some(extract::owner_of(&view)?),
        false => None,
    };
    let options =
        extract::Options { no_overwrite_dir_non_dir: request.query_bool("noOverwriteDirNonDir", false), owner };
    extract::extract(&view, &path, &id, request.body(), options)?;
    publish(engine, &container, "extract-to-dir", &[]);
    Ok(Response::Empty(200))
}

fn changes_of(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let container = engine.containers.get(request.param("id"))?;
    let found = changes::changes(engine, &container.record())?;
    // Go's nil slice.
    Response::ok(&Some(found).filter(|f| !f.is_empty()))
}

fn export(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let container = engine.containers.get(request.param("id"))?;
    let tree = archive::export(engine, &container)?;
    let owners = container.record().owners;
    publish(engine, &container, "export", &[]);
    let run = move |out: &mut dyn Write| {
        let mut out = BufWriter::with_capacity(64 << 10, out);
        let mut archiver = archive::Archiver::new(&mut out, owners);
        archiver.content(tree.as_fd(), b"", "")?;
        archiver.finish()
    };
    Ok(Response::Stream(Stream {
        content_type: "application/octet-stream",
        headers: Vec::new(),
        late_head: false,
        run: Box::new(run),
    }))
}

fn commit_one(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let config: Option<ContainerConfig> = request.json()?;
    let text = |key: &str| request.query(key).unwrap_or("").to_owned();
    let options = commit::Options {
        repo: text("repo"),
        tag: text("tag"),
        comment: text("comment"),
        author: text("author"),
        pause: request.query_bool("pause", true),
        changes: request.query_all("changes").map(str::to_owned).collect(),
        config: config.filter(|c| *c != ContainerConfig::default()),
    };
    created(commit::commit(engine, &text("container"), options)?)
}
