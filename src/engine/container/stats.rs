//! `docker stats`: one sample a second, from the container's cgroup if it has
//! one of ours, else added up from /proc over its processes. Request threads.

use super::{Container, cgroup, stats_read};
use crate::api::container::Stats;
use crate::engine::Engine;
use crate::engine::watch::{Gone, Woken};
use crate::error::{Error, Result};
use crate::util::time::{GO_ZERO, now, rfc3339_nano};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(1);

/// One sample. Unless it is `one_shot`, a second after another one, so that the
/// client can tell a load from it.
pub fn once(engine: &Engine, container: &Arc<Container>, one_shot: bool) -> Result<Stats> {
    let first = sample(engine, container, None);
    if one_shot || !container.live().record.state.is_up() {
        return Ok(first);
    }
    std::thread::sleep(EVERY);
    Ok(sample(engine, container, Some(&first)))
}

/// Samples until the client leaves or the container is removed. What does not
/// run gives empty samples, as long as it is there.
pub fn stream(
    engine: &Engine,
    container: &Arc<Container>,
    client: BorrowedFd<'_>,
    mut give: impl FnMut(&Stats) -> Result<()>,
) -> Result<()> {
    let watcher = container.changed.watch()?;
    let mut before: Option<Stats> = None;
    let mut due = Instant::now();
    loop {
        let next = sample(engine, container, before.as_ref());
        give(&next)?;
        before = Some(next);
        due += EVERY;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            match watcher.wait(Some((client, Gone::HalfClosed)), Some(left))? {
                Woken::ClientGone => return Err(Error::cancelled()),
                Woken::Changed if container.live().removed => return Ok(()),
                Woken::Changed => {}
                Woken::TimedOut => break,
            }
        }
    }
}

fn sample(engine: &Engine, container: &Container, before: Option<&Stats>) -> Stats {
    let (name, up) = {
        let live = container.live();
        (live.record.name.clone(), live.record.state.is_up())
    };
    let mut stats = Stats { name: format!("/{name}"), id: container.id.clone(), ..Stats::default() };
    stats.preread = before.map_or_else(|| GO_ZERO.to_owned(), |b| b.read.clone());
    stats.read = if up { rfc3339_nano(now()) } else { GO_ZERO.to_owned() };
    if let Some(before) = before {
        stats.precpu_stats = before.cpu_stats.clone();
    }
    if up && let Ok(pids) = engine.runtime.pids(&container.id) {
        stats_read::fill(&mut stats, &pids);
        if let Some(cgroup) = engine.runtime.cgroup(&container.id) {
            cgroup::fill(&mut stats, &cgroup.usage());
        }
    }
    stats
}
