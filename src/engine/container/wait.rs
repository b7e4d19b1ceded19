//! `docker wait`: blocks a request thread until its condition holds or its
//! client leaves.

use super::Container;
use crate::engine::Engine;
use crate::engine::watch::{Gone, Woken};
use crate::error::{Error, Result};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// At once if it does not run.
    NotRunning,
    /// The next exit, even of a container that has not started yet.
    NextExit,
    Removed,
}

impl Condition {
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            _ => Err(Error::invalid(format!("invalid condition: {text:?}"))),
        }
    }
}

/// A wait that has begun: what happens from now on counts.
pub struct Waiting {
    container: Arc<Container>,
    condition: Condition,
    exits: u64,
    watcher: crate::engine::watch::Watcher,
}

/// Begins to wait; the caller then sends its response's head.
pub fn begin(engine: &Engine, reference: &str, condition: Condition) -> Result<Waiting> {
    let container = engine.containers.get(reference)?;
    let watcher = container.changed.watch()?;
    let exits = container.live().exits;
    Ok(Waiting { container, condition, exits, watcher })
}

impl Waiting {
    /// The exit code. A start that fails ends the wait too, with the code that
    /// its client will use.
    pub fn finish(self, client: BorrowedFd<'_>) -> Result<i32> {
        loop {
            {
                let live = self.container.live();
                let state = &live.record.state;
                let done = match self.condition {
                    // An exit that a policy turned into a restart counts too.
                    Condition::NotRunning => !state.counts_as_running() || live.exits > self.exits || live.removed,
                    Condition::NextExit => live.exits > self.exits || live.removed,
                    Condition::Removed => live.removed,
                };
                if done {
                    let code = if live.exits > self.exits { live.last_exit } else { state.exit_code };
                    return Ok(code);
                }
            }
            if self.watcher.wait(Some((client, Gone::HalfClosed)), None)? == Woken::ClientGone {
                return Err(Error::cancelled());
            }
        }
    }
}
