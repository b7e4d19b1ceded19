//! A container's state machine.
//!
//! ```text
//!   created ──start──▶ running ◀─unpause─ paused      dead (removal failed)
//!      ▲                │  │ └──pause──────▶│            ▲
//!      └ start failed   │  └─exit, policy─▶ restarting   │
//!                       └─exit─▶ exited ◀──stop──┘       │
//!   any ────────────────────────────remove───────────────┘
//! ```
//! Invariant: `pid` is non-zero exactly in running and paused.

use crate::util::time::{GO_ZERO, Timestamp, now, rfc3339_nano};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    #[default]
    Created,
    Running,
    Paused,
    /// Exited, and the restart policy is waiting to start it again.
    Restarting,
    Exited,
    /// A removal that failed half-way.
    Dead,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    pub phase: Phase,
    /// A removal is under way; not persistent: after a crash it is tried again.
    #[serde(skip)]
    pub removing: bool,
    pub pid: i32,
    pub exit_code: i32,
    pub oom_killed: bool,
    pub error: String,
    pub started_at: Option<Nanos>,
    pub finished_at: Option<Nanos>,
    /// `--stop`, `--kill` by a person: `unless-stopped` stays down.
    pub manually_stopped: bool,
}

/// A time in a record, as nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Nanos(pub i64);

impl From<Timestamp> for Nanos {
    fn from(t: Timestamp) -> Self {
        Nanos(i64::try_from(t.0).unwrap_or(i64::MAX))
    }
}

impl From<Nanos> for Timestamp {
    fn from(n: Nanos) -> Self {
        Timestamp(n.0.into())
    }
}

/// RFC 3339, or Go's zero time for what never was.
pub fn time_text(t: Option<Nanos>) -> String {
    t.map_or_else(|| GO_ZERO.to_owned(), |t| rfc3339_nano(t.into()))
}

impl State {
    /// Docker's word.
    pub fn status(&self) -> &'static str {
        match self.phase {
            _ if self.removing => "removing",
            Phase::Created => "created",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Restarting => "restarting",
            Phase::Exited => "exited",
            Phase::Dead => "dead",
        }
    }

    /// The `Running` of the API: true for paused and restarting ones too.
    pub fn counts_as_running(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Paused | Phase::Restarting)
    }

    /// There is a process.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Paused)
    }

    pub fn set_running(&mut self, pid: i32) {
        self.phase = Phase::Running;
        self.pid = pid;
        self.exit_code = 0;
        self.oom_killed = false;
        self.error.clear();
        self.started_at = Some(now().into());
    }

    pub fn set_exited(&mut self, code: i32, oom: bool, at: Timestamp, phase: Phase) {
        self.phase = phase;
        self.pid = 0;
        self.exit_code = code;
        self.oom_killed = oom;
        self.finished_at = Some(at.into());
    }

    /// What `docker ps` prints under STATUS; `health` without a leading space.
    pub fn text(&self, health: Option<&str>) -> String {
        let age = |t: Option<Nanos>| t.map_or_else(String::new, |t| human_duration(now().since(t.into())));
        let health = health.map(|h| format!(" ({h})")).unwrap_or_default();
        match self.phase {
            _ if self.removing => "Removal In Progress".into(),
            Phase::Running => format!("Up {}{health}", age(self.started_at)),
            Phase::Paused => format!("Up {} (Paused)", age(self.started_at)),
            Phase::Restarting => format!("Restarting ({}) {} ago", self.exit_code, age(self.finished_at)),
            Phase::Dead => "Dead".into(),
            Phase::Created => "Created".into(),
            Phase::Exited if self.finished_at.is_none() => String::new(),
            Phase::Exited => format!("Exited ({}) {} ago", self.exit_code, age(self.finished_at)),
        }
    }
}

/// Docker's approximate words for a duration.
fn human_duration(d: Duration) -> String {
    let seconds = d.as_secs();
    let hours = (d.as_secs_f64() / 3600.0 + 0.5) as u64;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if seconds < 120 => "About a minute".into(),
        () if seconds < 3600 => format!("{} minutes", seconds / 60),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_dockers() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (48 * 3600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (730 * 86_400, "2 years"),
        ] {
            assert_eq!(human_duration(Duration::from_secs(seconds)), text, "{seconds}");
        }
    }

    #[test]
    fn status_text_follows_the_phase() {
        let mut state = State::default();
        assert_eq!(state.text(None), "Created");
        state.set_running(7);
        assert_eq!(state.text(Some("healthy")), "Up Less than a second (healthy)");
        assert!(state.counts_as_running() && state.is_up());
        state.set_exited(3, false, now(), Phase::Restarting);
        assert_eq!(state.text(None), "Restarting (3) Less than a second ago");
        assert!(state.counts_as_running() && !state.is_up() && state.pid == 0);
        state.phase = Phase::Exited;
        assert_eq!(state.text(None), "Exited (3) Less than a second ago");
        state.removing = true;
        assert_eq!((state.status(), state.text(None).as_str()), ("removing", "Removal In Progress"));
    }
}
