//! The daemon's ordered end: every container is asked to stop, all at once, and
//! killed when its time is over. One thread, once.
//!
//! Unlike `stop` this is nobody's wish for the container: restart policies bring
//! it back with the next daemon.

use super::{Container, stop};
use crate::engine::{Engine, signal};
use crate::util::order;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A container that insists on a longer time of its own gets it, and this more.
const SLACK: i64 = 5;
const AFTER_KILL: Duration = Duration::from_secs(5);

struct Leaving {
    container: Arc<Container>,
    exits: u64,
    deadline: Option<Instant>,
}

/// `timeout` in seconds bounds the whole; negative waits for ever.
pub fn stop_all(engine: &Arc<Engine>, timeout: i64) {
    let began = Instant::now();
    let mut leaving = Vec::new();
    let mut longest = 0;
    for container in engine.containers.all() {
        let (text, own, exits) = {
            let mut live = container.live();
            live.no_restart = true;
            if let Some(ticket) = live.restart_ticket.take() {
                engine.timers.cancel(ticket);
            }
            if !live.record.state.is_up() {
                continue;
            }
            (live.record.config.stop_signal.clone(), live.record.config.stop_timeout, live.exits)
        };
        let own = own.unwrap_or_else(|| engine.config.live().stop_timeout);
        longest = longest.max(own);
        let deadline = later(began, own);
        if let Err(e) = stop::deliver(engine, &container, signal::parse(&text).unwrap_or(signal::TERM)) {
            crate::warn!("cannot signal a container", "id" = container.id, "error" = e);
        }
        leaving.push(Leaving { container, exits, deadline });
    }
    let all = if timeout < 0 { None } else { later(began, timeout.max(longest.saturating_add(SLACK))) };
    let end = |own: Option<Instant>| match (own, all) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let left = |at: Instant| at.saturating_duration_since(Instant::now());
    order::sort_by_key(&mut leaving, |l| l.deadline.map_or(Duration::MAX, |d| d - began));
    leaving.retain(|l| {
        let ended = stop::wait_exit(&l.container, l.exits, end(l.deadline).map(left)).unwrap_or(false);
        if !ended && let Err(e) = stop::deliver(engine, &l.container, signal::KILL) {
            crate::error!("cannot kill a container", "id" = l.container.id, "error" = e);
        }
        !ended
    });
    let last = Instant::now() + AFTER_KILL;
    for l in &leaving {
        if !stop::wait_exit(&l.container, l.exits, Some(left(last))).unwrap_or(false) {
            crate::error!("a container did not end", "id" = l.container.id);
        }
    }
}

/// None for ever: a negative time, or one beyond every clock, which an image may ask for.
fn later(began: Instant, seconds: i64) -> Option<Instant> {
    u64::try_from(seconds).ok().and_then(|s| began.checked_add(Duration::from_secs(s)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_too_long() {
        let now = Instant::now();
        assert_eq!(later(now, 5), Some(now + Duration::from_secs(5)));
        assert_eq!((later(now, -1), later(now, i64::MAX)), (None, None));
    }
}
