//! `docker build`: Dockerfile text → instructions → stage graph → steps. The
//! request's thread takes the context in and writes what is reported; the stages
//! are carried out on threads of their own, one each.
//!
//! Invariant: a build that ends in any way leaves no container, no file of its
//! context and no secret; what stays are whole layers, named by the cache.

pub mod cache;
pub mod context;
pub mod execute;
pub mod language;
pub mod report;
pub mod result;
pub mod session;
pub mod stage;
pub mod state;
pub mod steps;
pub mod transfer;

use super::container::remove;
use super::image::login::Cancel;
use super::{Engine, EngineConfig};
use crate::api::build::{Message, Options, Secrets};
use crate::api::registry::AuthConfig;
use crate::error::{Error, Kind, Result};
use crate::util::id;
use crate::util::json;
use result::finish;
use session::Session;
use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};

/// What the engine keeps of builds.
#[derive(Debug)]
pub struct Builds {
    pub cache: cache::Cache,
    /// Large contexts, as they were at the last build.
    pub contexts: Arc<context::kept::Kept>,
    /// Those that run now, by the id that their client gave them.
    running: Mutex<BTreeMap<String, Running>>,
}

#[derive(Clone, Debug)]
struct Running {
    abort: Arc<Abort>,
    session: Arc<Session>,
}

impl Builds {
    pub fn open(config: &EngineConfig) -> Result<Self> {
        let root = config.data_root.join("build-cache");
        let contexts = context::kept::Kept::open(root.join("contexts"))?;
        Ok(Self { cache: cache::Cache::open(root)?, contexts, running: Mutex::default() })
    }

    /// `POST /build/cancel`. An id that is not known is an end already reached.
    pub fn cancel(&self, engine: &Arc<Engine>, id: &str) {
        let found = self.running.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(build) = found {
            build.abort.fire(engine);
        }
    }

    /// `POST /build/attach`: a connection for the build to use.
    pub fn session(&self, id: &str) -> Result<Arc<Session>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let found = running.get(id).map(|build| build.session.clone());
        found.ok_or_else(|| Error::not_found(format!("no such build: {id}")))
    }
}

/// Removes what builds of a killed daemon left.
pub fn clean_up(engine: &Arc<Engine>) {
    for container in engine.containers.all().iter().filter(|c| c.live().record.build_step) {
        let options = remove::Options { force: true, volumes: true, link: false };
        if let Err(e) = remove::remove(engine, &container.id, options) {
            crate::warn!("cannot remove the container of a build", "id" = container.id, "error" = e);
        }
    }
    context::clean_up(engine);
}

/// Ends a build: its transfers, and the containers that it runs.
#[derive(Debug, Default)]
pub struct Abort {
    pub cancel: Arc<Cancel>,
    containers: Mutex<HashSet<String>>,
}

impl Abort {
    /// Does not block: killing is done on a thread of its own.
    pub fn fire(self: &Arc<Self>, engine: &Arc<Engine>) {
        self.cancel.fire();
        let (engine, this) = (engine.clone(), self.clone());
        super::timer::spawn("abort", move || {
            let running = this.containers.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for id in running {
                let _ = engine.runtime.signal(&id, libc::SIGKILL);
            }
        });
    }

    pub fn check(&self) -> Result<()> {
        if self.cancel.fired() { Err(Error::cancelled()) } else { Ok(()) }
    }
}

/// One `POST /build`.
pub struct Request {
    pub options: Options,
    pub secrets: Secrets,
    /// By registry, for base images.
    pub auths: BTreeMap<String, AuthConfig>,
}

impl Request {
    /// The client is asked to open connections of its own.
    fn takes_connections(&self) -> bool {
        let options = &self.options;
        let local = |t: &String| cache::spread::Spec::parse(t).kind == "local";
        !options.build_id.is_empty()
            && (!self.secrets.ssh.is_empty()
                || options.outputs.iter().any(result::output::is_sent)
                || options.cache_to.iter().any(local))
    }
}

/// Why a build ended, and where.
#[derive(Debug, Clone, Default)]
pub struct Fault {
    pub message: String,
    /// Of the command that failed.
    pub code: Option<i32>,
    pub line: usize,
    pub column: usize,
    pub source: String,
}

impl Fault {
    fn message(&self, file: &str, structured: bool) -> String {
        if !structured || self.line == 0 || self.source.is_empty() {
            return self.message.clone();
        }
        let first = self.source.lines().next().unwrap_or("");
        format!("{file}:{}:{}: {}\n{:>4} | {first}", self.line, self.column, self.message, self.line)
    }

    fn to_message(&self, file: &str, structured: bool) -> Message {
        let message = self.message(file, structured);
        let mut detail = serde_json::json!({ "message": message });
        if let Some(code) = self.code {
            detail["code"] = code.into();
        }
        if structured && self.line > 0 {
            detail["file"] = file.into();
            detail["line"] = self.line.into();
            detail["column"] = self.column.into();
        }
        Message { error_detail: Some(detail), error: Some(message), ..Message::default() }
    }
}

/// Takes the context in, builds, writes the answer's stream. An error before the
/// first line is the caller's to report.
pub fn build(
    engine: &Arc<Engine>,
    request: &Request,
    abort: &Arc<Abort>,
    body: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<()> {
    let name = request.options.build_id.clone();
    let running = || engine.builds.running.lock().unwrap_or_else(PoisonError::into_inner);
    let session = Arc::new(Session::default());
    if !name.is_empty() {
        running().insert(name.clone(), Running { abort: abort.clone(), session: session.clone() });
    }
    let result = whole(engine, request, abort, &session, body, out);
    if !name.is_empty() {
        running().remove(&name);
    }
    result
}

fn whole(
    engine: &Arc<Engine>,
    request: &Request,
    abort: &Arc<Abort>,
    session: &Arc<Session>,
    body: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<()> {
    finish::check(&request.options)?;
    let context = context::receive(engine, &id::random()[..16], &request.options, body, abort)?;
    let structured = request.options.structured;
    let plans = finish::platforms(&request.options)?
        .into_iter()
        .map(|platform| execute::plan(request, &context, &platform).map(|plan| (platform, plan)))
        .collect::<std::result::Result<Vec<_>, Fault>>()
        .map_err(|fault| Error::invalid(fault.message(&context.dockerfile_name, structured)))?;
    let (sender, messages) = channel();
    if request.takes_connections() {
        let aux = Some(serde_json::json!({ "attach": true }));
        line(out, &Message { aux, ..Message::default() })?;
    }
    let report = report::Report::new(sender, structured, request.options.quiet);
    let mut lost = false;
    let fault = std::thread::scope(|scope| {
        let context = &context;
        let work = move || {
            let build = |plan| execute::Build::new(engine, request, context, plan, &report, (abort, session));
            execute::run(plans.into_iter().map(build).collect())
        };
        let worker = std::thread::Builder::new().name("build".into()).spawn_scoped(scope, work)?;
        for message in messages {
            if !lost && line(out, &message).is_err() {
                lost = true;
                abort.fire(engine);
            }
        }
        worker.join().unwrap_or_else(|_| Err(Error::system("the build's thread panicked")))
    })?;
    match fault {
        _ if lost => Err(Error::cancelled()),
        Some(fault) => line(out, &fault.to_message(&context.dockerfile_name, structured)),
        None => Ok(()),
    }
}

fn line(out: &mut dyn Write, message: &Message) -> Result<()> {
    let mut text = json::to_vec(message)?;
    text.extend_from_slice(b"\r\n");
    out.write_all(&text).and_then(|()| out.flush()).map_err(|_| Error::new(Kind::Cancelled, "the client went away"))
}
