//! Execs: further processes in a running container. The table lives in memory
//! only; a daemon that comes back knows nothing of old execs, as Docker's does.

pub mod start;

use crate::api::exec::{ExecCreate, ExecInspect, ProcessConfig};
use crate::engine::container::state::Phase;
use crate::engine::container::{Container, lock, publish};
use crate::engine::watch::Watched;
use crate::engine::{Engine, keys};
use crate::error::{Error, Result};
use crate::runtime::ExitRecord;
use crate::util::id;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long an ended exec can be inspected.
const KEEP: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct Exec {
    pub id: String,
    pub container_id: String,
    pub config: ExecCreate,
    pub detach_keys: Vec<u8>,
    state: Mutex<State>,
    pub changed: Watched,
}

#[derive(Debug, Clone, Default)]
pub struct State {
    pub started: bool,
    pub running: bool,
    pub exit_code: Option<i32>,
    pub pid: i32,
    /// A health probe: not worth keeping after its end.
    pub probe: bool,
}

impl Exec {
    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// `CMD ARGS…` with Docker's blank after a lonely command.
    fn words(&self) -> String {
        let words = self.config.cmd.clone().unwrap_or_default();
        match words.split_first() {
            Some((first, rest)) => format!("{first} {}", rest.join(" ")),
            None => String::new(),
        }
    }

    fn publish(&self, engine: &Engine, action: &str, more: &[(&str, &str)]) {
        if let Some(container) = engine.containers.by_id(&self.container_id) {
            let mut attributes = vec![("execID", self.id.as_str())];
            attributes.extend_from_slice(more);
            publish(engine, &container, action, &attributes);
        }
    }
}

#[derive(Debug, Default)]
pub struct Execs {
    map: Mutex<HashMap<String, Arc<Exec>>>,
}

impl Execs {
    pub fn get(&self, id: &str) -> Result<Arc<Exec>> {
        lock(&self.map).get(id).cloned().ok_or_else(|| Error::no_such_exec(id))
    }

    pub fn remove(&self, id: &str) {
        lock(&self.map).remove(id);
    }
}

/// The container must run and not be paused; `shown` is what the client calls it.
fn check_container(container: &Container, shown: &str) -> Result<()> {
    let id = &container.id;
    match container.live().record.state.phase {
        Phase::Running => Ok(()),
        Phase::Paused => {
            Err(Error::conflict(format!("Container {shown} is paused, unpause the container before exec")))
        }
        Phase::Restarting => {
            Err(Error::conflict(format!("Container {id} is restarting, wait until the container is running")))
        }
        _ => Err(Error::conflict(format!("container {id} is not running"))),
    }
}

/// A user that the container does not know is refused before anything is
/// attached; numbers need no look.
fn check_user(engine: &Engine, container: &Container, user: &str) -> Result<()> {
    let numeric = |part: &str| part.is_empty() || part.bytes().all(|b| b.is_ascii_digit());
    if user.split(':').all(numeric) {
        return Ok(());
    }
    let root = engine.runtime.root_fd(&container.id)?;
    crate::runtime::check_user(root.as_fd(), user).map_err(Error::invalid)
}

pub fn create(engine: &Arc<Engine>, reference: &str, config: ExecCreate) -> Result<String> {
    let container = engine.containers.get(reference)?;
    container.await_start();
    if config.cmd.as_ref().is_some_and(|c| !c.is_empty()) {
        check_container(&container, reference)?;
    }
    let exec = make(engine, &container, config, false)?;
    Ok(exec.id.clone())
}

/// Makes an exec known; `probe` is for health checks.
pub fn make(engine: &Arc<Engine>, container: &Container, config: ExecCreate, probe: bool) -> Result<Arc<Exec>> {
    if config.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::invalid("No exec command specified"));
    }
    check_container(container, &container.id)?;
    let escape = |_| Error::system(format!("Invalid escape keys ({}) provided", config.detach_keys));
    let detach_keys = keys::parse(&config.detach_keys).map_err(escape)?;
    check_user(engine, container, &config.user)?;
    let exec = Arc::new(Exec {
        id: id::random(),
        container_id: container.id.clone(),
        config,
        detach_keys,
        state: Mutex::new(State { probe, ..State::default() }),
        changed: Watched::default(),
    });
    lock(&engine.execs.map).insert(exec.id.clone(), exec.clone());
    container.live().exec_ids.push(exec.id.clone());
    exec.publish(engine, &format!("exec_create: {}", exec.words()), &[]);
    Ok(exec)
}

/// `POST /exec/{id}/start` looks before it takes the connection over.
pub fn check(engine: &Engine, id: &str) -> Result<Arc<Exec>> {
    let exec = engine.execs.get(id)?;
    let container =
        engine.containers.by_id(&exec.container_id).ok_or_else(|| Error::no_such_container(&exec.container_id))?;
    check_container(&container, &container.id)?;
    Ok(exec)
}

pub fn inspect(engine: &Engine, id: &str) -> Result<ExecInspect> {
    let exec = engine.execs.get(id)?;
    if engine.containers.by_id(&exec.container_id).is_none() {
        return Err(Error::no_such_exec(id));
    }
    let state = exec.state().clone();
    let config = &exec.config;
    let mut words = config.cmd.clone().unwrap_or_default();
    let entrypoint = if words.is_empty() { String::new() } else { words.remove(0) };
    Ok(ExecInspect {
        id: exec.id.clone(),
        running: state.running,
        exit_code: state.exit_code.map(i64::from),
        process_config: ProcessConfig {
            tty: config.tty,
            entrypoint,
            arguments: words,
            privileged: Some(config.privileged),
            user: config.user.clone(),
        },
        open_stdin: config.attach_stdin,
        open_stderr: config.attach_stderr,
        open_stdout: config.attach_stdout,
        can_remove: false,
        container_id: exec.container_id.clone(),
        detach_keys: String::from_utf8_lossy(&exec.detach_keys).into_owned(),
        pid: state.pid.into(),
    })
}

pub fn resize(engine: &Engine, id: &str, rows: u16, cols: u16) -> Result<()> {
    let exec = check(engine, id)?;
    if !exec.state().running {
        return Err(Error::system(format!("exec {id} is not running")).context("cannot resize a stopped exec"));
    }
    engine.runtime.resize(&exec.id, rows, cols)
}

/// A run of the container is over, and with it what was to be executed in it.
pub fn forget_unstarted(engine: &Engine, container: &Container) {
    let unstarted = |id: &String| engine.execs.get(id).is_ok_and(|e| !e.state().started);
    container.live().exec_ids.retain(|id| {
        let gone = unstarted(id);
        if gone {
            engine.execs.remove(id);
        }
        !gone
    });
}

/// Its process ended. Runtime's monitor thread: quick.
pub fn exited(engine: &Arc<Engine>, id: &str, exit: ExitRecord) {
    let Ok(exec) = engine.execs.get(id) else { return };
    finish(engine, &exec, exit.code);
}

/// Ends the exec with `code`, by its exit or because it never started.
pub(crate) fn finish(engine: &Arc<Engine>, exec: &Arc<Exec>, code: i32) {
    let probe = {
        let mut state = exec.state();
        if state.exit_code.is_some() {
            return;
        }
        state.running = false;
        state.exit_code = Some(code);
        state.probe
    };
    if let Some(container) = engine.containers.by_id(&exec.container_id) {
        container.live().exec_ids.retain(|i| *i != exec.id);
    }
    exec.publish(engine, "exec_die", &[("exitCode", &code.to_string())]);
    exec.changed.notify();
    if probe {
        engine.execs.remove(&exec.id);
        return;
    }
    let (weak, id) = (Arc::downgrade(engine), exec.id.clone());
    engine.timers.after(KEEP, move || {
        if let Some(engine) = weak.upgrade() {
            engine.execs.remove(&id);
        }
    });
}

/// A client typed the detach keys.
pub fn detached(engine: &Engine, id: &str) {
    if let Ok(exec) = engine.execs.get(id) {
        exec.publish(engine, "exec_detach", &[]);
    }
}
