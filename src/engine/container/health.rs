//! Health checks: a probe is an exec whose output is kept. The timers' thread
//! begins each probe, a thread of its own runs it; no container without a check
//! costs anything.

use super::{Container, publish};
use crate::api::container::{Health, HealthResult, Healthcheck};
use crate::api::exec::ExecCreate;
use crate::engine::exec::start::Client;
use crate::engine::{Engine, exec, watch};
use crate::error::{Context, Result};
use crate::util::atomic_file::Durability;
use crate::util::time::{now, rfc3339_nano};
use crate::util::units;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

const INTERVAL: i64 = 30_000_000_000;
const TIMEOUT: i64 = 30_000_000_000;
const START_INTERVAL: i64 = 5_000_000_000;
const RETRIES: i64 = 3;
const KEEP: usize = 5;
const MAX_OUTPUT: usize = 4096;

/// The timings with Docker's defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timings {
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: i64,
}

impl Timings {
    fn of(check: &Healthcheck) -> Self {
        let or = |value: i64, default: i64| Duration::from_nanos(if value > 0 { value } else { default } as u64);
        Self {
            interval: or(check.interval, INTERVAL),
            timeout: or(check.timeout, TIMEOUT),
            start_period: or(check.start_period, 0),
            start_interval: or(check.start_interval, START_INTERVAL),
            retries: if check.retries > 0 { check.retries } else { RETRIES },
        }
    }

    /// The pause before the next probe.
    fn pause(&self, status: &str, up: Duration) -> Duration {
        if status == "starting" && up < self.start_period {
            self.start_interval.min(self.interval)
        } else {
            self.interval
        }
    }
}

/// The command of a check; none if there is none.
fn command(check: &Healthcheck, shell: Option<&[String]>) -> Option<Vec<String>> {
    match check.test.first().map(String::as_str) {
        Some("CMD") => Some(check.test[1..].to_vec()),
        Some("CMD-SHELL") => {
            let default = ["/bin/sh".to_owned(), "-c".to_owned()];
            let shell = shell.filter(|s| !s.is_empty()).unwrap_or(&default);
            Some(shell.iter().cloned().chain(check.test.get(1).cloned()).collect())
        }
        _ => None,
    }
    .filter(|c| !c.is_empty())
}

/// The result of one probe: exit code (-1 = no answer in time) and output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Probe {
    start: String,
    end: String,
    code: i32,
    output: String,
}

/// Counts a probe. `in_start_period`: failures do not count while starting.
fn record(health: &mut Health, probe: Probe, retries: i64, in_start_period: bool) {
    if probe.code == 0 {
        health.failing_streak = 0;
        health.status = "healthy".into();
    } else if !(in_start_period && health.status == "starting") {
        health.failing_streak += 1;
        if health.failing_streak >= retries {
            health.status = "unhealthy".into();
        }
    }
    let log = health.log.get_or_insert_default();
    log.push(HealthResult { start: probe.start, end: probe.end, exit_code: probe.code.into(), output: probe.output });
    let surplus = log.len().saturating_sub(KEEP);
    log.drain(..surplus);
}

fn starting() -> Health {
    Health { status: "starting".into(), failing_streak: 0, log: Some(Vec::new()) }
}

/// A container has started.
pub fn begin(engine: &Arc<Engine>, container: &Arc<Container>) {
    let (timings, run) = {
        let mut live = container.live();
        let config = &live.record.config;
        let Some(check) = config.healthcheck.as_ref().filter(|c| command(c, config.shell.as_deref()).is_some()) else {
            live.record.health = None;
            return;
        };
        let timings = Timings::of(check);
        live.record.health = Some(starting());
        (timings, live.run)
    };
    schedule(engine, container, run, timings.pause("starting", Duration::ZERO));
}

/// A daemon came back to a container that runs. One that was killed before the
/// first probe has written no word of it.
pub fn resume(engine: &Arc<Engine>, container: &Arc<Container>) {
    let (timings, run) = {
        let mut live = container.live();
        let config = &live.record.config;
        let Some(check) = config.healthcheck.as_ref().filter(|c| command(c, config.shell.as_deref()).is_some()) else {
            return;
        };
        let timings = Timings::of(check);
        live.record.health.get_or_insert_with(starting);
        (timings, live.run)
    };
    schedule(engine, container, run, timings.interval);
}

/// A container has ended: what was being probed is unhealthy from now on.
pub fn end(engine: &Engine, container: &Container) {
    let mut live = container.live();
    if let Some(ticket) = live.health_ticket.take() {
        engine.timers.cancel(ticket);
    }
    live.run += 1;
    if let Some(health) = &mut live.record.health {
        health.status = "unhealthy".into();
    }
}

fn schedule(engine: &Arc<Engine>, container: &Arc<Container>, run: u64, delay: Duration) {
    let (owned, theirs) = (engine.clone(), container.clone());
    let ticket = engine.timers.after(delay, move || round(&owned, &theirs, run));
    container.live().health_ticket = Some(ticket);
}

/// One probe and what follows from it.
fn round(engine: &Arc<Engine>, container: &Arc<Container>, run: u64) {
    let (timings, command, paused) = {
        let live = container.live();
        let config = &live.record.config;
        let Some(check) = &config.healthcheck else { return };
        if live.run != run || !live.record.state.is_up() {
            return;
        }
        let Some(command) = command(check, config.shell.as_deref()) else { return };
        (Timings::of(check), command, live.record.state.phase == super::state::Phase::Paused)
    };
    if paused {
        schedule(engine, container, run, timings.interval);
        return;
    }
    let probe = probe(engine, container, command, timings.timeout);
    engine.metrics.probed(probe.code == 0);
    let (status, changed, up) = {
        let mut live = container.live();
        if live.run != run {
            return;
        }
        let up = live.started.map_or(Duration::MAX, |s| s.elapsed());
        let Some(health) = &mut live.record.health else { return };
        let before = health.status.clone();
        record(health, probe, timings.retries, up < timings.start_period);
        (health.status.clone(), health.status != before, up)
    };
    if changed {
        if let Err(e) = container.save(engine, Durability::Renamed) {
            crate::warn!("cannot save a container", "id" = container.id, "error" = e);
        }
        publish(engine, container, &format!("health_status: {status}"), &[]);
    }
    schedule(engine, container, run, timings.pause(&status, up));
}

fn probe(engine: &Arc<Engine>, container: &Arc<Container>, command: Vec<String>, timeout: Duration) -> Probe {
    let start = rfc3339_nano(now());
    let (code, output) = match run(engine, container, command, timeout) {
        Ok(result) => result,
        Err(e) => (-1, e.to_string()),
    };
    Probe { start, end: rfc3339_nano(now()), code, output }
}

/// Runs a command in the container and gives its code and output.
fn run(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    command: Vec<String>,
    timeout: Duration,
) -> Result<(i32, String)> {
    let config = ExecCreate { cmd: Some(command), attach_stdout: true, attach_stderr: true, ..ExecCreate::default() };
    let exec = exec::make(engine, container, config, true)?;
    let watcher = exec.changed.watch()?;
    let (ours, theirs) = UnixStream::pair().context("make a socket pair")?;
    let deadline = Instant::now() + timeout;
    let client = Client { socket: OwnedFd::from(theirs), leftover: Vec::new(), framed: false };
    exec::start::start(engine, &exec, Some(client), None)?;
    let mut raw = Vec::new();
    let in_time = collect(&ours, deadline, &mut raw)?;
    drop(ours);
    let mut code = None;
    while in_time && code.is_none() {
        code = exec.state().exit_code;
        if code.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if watcher.wait(None, Some(left))? == watch::Woken::TimedOut {
                break;
            }
        }
    }
    let output = cut(&raw);
    match code {
        Some(code) => Ok((code, output)),
        None => {
            let _ = engine.runtime.signal(&exec.id, crate::engine::signal::KILL);
            let colon = if output.is_empty() { "" } else { ": " };
            Ok((-1, format!("Health check exceeded timeout ({}){colon}{output}", units::duration(timeout))))
        }
    }
}

/// Reads to the end or the deadline; true at the end. Output beyond what is kept
/// is read and dropped, so that the probe does not block on it.
fn collect(stream: &UnixStream, deadline: Instant, out: &mut Vec<u8>) -> Result<bool> {
    use nix::poll::{PollFd, PollFlags, poll};
    let mut reader = stream;
    let mut chunk = [0u8; 4096];
    loop {
        let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, watch::remaining(Some(deadline))) {
            Err(nix::Error::EINTR) => continue,
            Err(e) => return Err(e).context("poll"),
            Ok(0) => return Ok(false),
            Ok(_) => {}
        }
        match reader.read(&mut chunk) {
            Ok(0) => return Ok(true),
            Ok(n) if out.len() < 4 * MAX_OUTPUT => out.extend_from_slice(&chunk[..n]),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(true),
        }
    }
}

/// The text, cut where Docker cuts it.
fn cut(raw: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&raw[..raw.len().min(MAX_OUTPUT)]).into_owned();
    if raw.len() > MAX_OUTPUT {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(code: i32) -> Probe {
        Probe { code, ..Probe::default() }
    }

    #[test]
    fn status_follows_the_streak() {
        let mut health = Health { status: "starting".into(), ..Health::default() };
        record(&mut health, probe(1), 2, true);
        assert_eq!((health.status.as_str(), health.failing_streak), ("starting", 0));
        record(&mut health, probe(0), 2, true);
        assert_eq!(health.status, "healthy");
        record(&mut health, probe(1), 2, true);
        assert_eq!((health.status.as_str(), health.failing_streak), ("healthy", 1), "one success ends the start");
        record(&mut health, probe(-1), 2, false);
        assert_eq!(health.status, "unhealthy");
        for _ in 0..9 {
            record(&mut health, probe(0), 2, false);
        }
        assert_eq!(health.log.unwrap().len(), 5);
    }

    #[test]
    fn commands_and_timings() {
        let check = |test: &[&str]| Healthcheck {
            test: test.iter().map(|s| (*s).to_owned()).collect(),
            ..Healthcheck::default()
        };
        assert_eq!(command(&check(&["NONE"]), None), None);
        assert_eq!(command(&check(&[]), None), None);
        assert_eq!(command(&check(&["CMD", "a", "b"]), None).unwrap(), ["a", "b"]);
        assert_eq!(command(&check(&["CMD-SHELL", "a b"]), None).unwrap(), ["/bin/sh", "-c", "a b"]);
        let timings = Timings::of(&Healthcheck { start_period: 10_000_000_000, ..check(&["CMD", "a"]) });
        assert_eq!(timings.pause("starting", Duration::from_secs(1)), Duration::from_secs(5));
        assert_eq!(timings.pause("starting", Duration::from_secs(11)), Duration::from_secs(30));
        assert_eq!(timings.pause("healthy", Duration::from_secs(1)), Duration::from_secs(30));
    }
}
