//! Starting an exec: its spec, and what a client hears if it cannot start. Runs
//! on the request's thread; the client's socket goes to the shim.

use super::{Exec, finish};
use crate::api::container::ContainerConfig;
use crate::engine::container::record::Record;
use crate::engine::container::{links, merge, spec, start::exit_code_of};
use crate::engine::{Engine, keys};
use crate::error::{Error, Kind, Result};
use crate::runtime::Attach;
use crate::runtime::spec::{ExecSpec, Process, Stdio, User};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A client that wants the streams: its socket and what it sent already.
#[derive(Debug)]
pub struct Client {
    pub socket: OwnedFd,
    pub leftover: Vec<u8>,
    /// What the start said of a terminal, not the exec: the original frames the
    /// output of a terminal as well for who started it without `Tty`.
    pub framed: bool,
}

/// Runs the exec. Refusals come back as errors, for the response or the stream;
/// `console_size` is rows and columns.
pub fn start(
    engine: &Arc<Engine>,
    exec: &Arc<Exec>,
    client: Option<Client>,
    console_size: Option<(u16, u16)>,
) -> Result<()> {
    {
        let mut state = exec.state();
        if state.exit_code.is_some() {
            return Err(Error::conflict(format!("exec command {} has already run", exec.id)));
        }
        if state.started {
            return Err(Error::conflict(format!("exec command {} is already running", exec.id)));
        }
        state.started = true;
    }
    let result = launch(engine, exec, client, console_size);
    if let Err(e) = &result {
        finish(engine, exec, exit_code_of(e.message()));
    }
    result
}

fn launch(
    engine: &Arc<Engine>,
    exec: &Arc<Exec>,
    client: Option<Client>,
    console_size: Option<(u16, u16)>,
) -> Result<()> {
    let container =
        engine.containers.by_id(&exec.container_id).ok_or_else(|| Error::no_such_container(&exec.container_id))?;
    let record = container.record();
    let config = &exec.config;
    let attaches = client
        .map(|client| Attach {
            client: client.socket,
            leftover: client.leftover,
            stdin: config.attach_stdin,
            stdout: config.attach_stdout,
            stderr: config.attach_stderr,
            framed: client.framed,
            detach_keys: if exec.detach_keys.is_empty() { keys::DEFAULT.to_vec() } else { exec.detach_keys.clone() },
        })
        .into_iter()
        .collect::<Vec<_>>();
    let asked = config.console_size.filter(|s| *s != [0, 0]).map(|s| (s[0] as u16, s[1] as u16));
    let spec = ExecSpec {
        id: exec.id.clone(),
        container_id: container.id.clone(),
        run_dir: engine.runtime.run_dir(&container.id),
        process: process(engine, exec, &record)?,
        stdio: Stdio {
            tty: config.tty,
            open_stdin: config.attach_stdin && !attaches.is_empty(),
            stdin_once: true,
            console_size: console_size.or(asked),
        },
        cgroup: None,
    };
    exec.publish(engine, &format!("exec_start: {}", exec.words()), &[]);
    exec.state().running = true;
    let started = engine.runtime.exec(&spec, Vec::new(), attaches).map_err(unusable)?;
    exec.state().pid = started.pid;
    Ok(())
}

/// A command that is not there, or may not be executed, is the caller's mistake.
fn unusable(e: Error) -> Error {
    match exit_code_of(e.message()) {
        126 | 127 if e.kind() == Kind::System => Error::invalid(e.message()),
        _ => e,
    }
}

fn process(engine: &Engine, exec: &Exec, record: &Record) -> Result<Process> {
    let config = &exec.config;
    let own = ContainerConfig { tty: config.tty, ..record.config.clone() };
    let mut env = merge::environment(&own, &own.hostname, &links::environment(engine, record));
    merge::replace_or_append(&mut env, config.env.as_deref().unwrap_or_default());
    let or = |mine: &str, theirs: &str| if mine.is_empty() { theirs.to_owned() } else { mine.to_owned() };
    let cwd = or(&config.working_dir, &record.config.working_dir);
    Ok(Process {
        args: config.cmd.clone().unwrap_or_default(),
        env,
        cwd: or(&cwd, "/"),
        user: User {
            spec: or(&config.user, &record.config.user),
            additional_groups: record.host_config.group_add.clone().unwrap_or_default(),
            set_home: true,
        },
        capabilities: spec::exec_capabilities(record, config.privileged || record.host_config.privileged)?,
        no_new_privileges: spec::security(&record.host_config)?.no_new_privileges || engine.config.no_new_privileges,
        seccomp: spec::exec_seccomp(engine, record, config.privileged || record.host_config.privileged)?,
        rlimits: spec::rlimits(&engine.config, &record.host_config)?,
        oom_score_adj: (record.host_config.oom_score_adj != 0).then_some(record.host_config.oom_score_adj as i32),
        umask: 0o022,
    })
}
