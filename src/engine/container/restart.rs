//! Restart policies: whether, and after how long. Pure.

use super::state::State;
use crate::api::container::RestartPolicy;
use crate::error::{Error, Result};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// A run this long was a success: the back-off begins anew.
const STEADY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    next: Option<Duration>,
}

impl Backoff {
    /// The pause before the next start, after a run of `ran`.
    pub fn next(&mut self, ran: Duration) -> Duration {
        let delay = match self.next {
            Some(next) if ran < STEADY => next,
            _ => FIRST,
        };
        self.next = Some((delay * 2).min(LONGEST));
        delay
    }

    pub fn reset(&mut self) {
        self.next = None;
    }
}

/// After an exit that nobody asked for.
pub fn after_exit(policy: &RestartPolicy, exit_code: i32, restarts: i64) -> bool {
    match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => exit_code != 0 && (policy.maximum_retry_count == 0 || restarts < policy.maximum_retry_count),
        _ => false,
    }
}

/// When the daemon comes up and finds the container down. `was_running` means
/// that its record says it ran when everything was killed.
pub fn at_boot(policy: &RestartPolicy, state: &State, was_running: bool, restarts: i64) -> bool {
    match policy.name.as_str() {
        "always" => was_running || state.started_at.is_some(),
        "unless-stopped" => !state.manually_stopped && (was_running || state.started_at.is_some()),
        "on-failure" => !state.manually_stopped && (was_running || after_exit(policy, state.exit_code, restarts)),
        _ => false,
    }
}

/// Docker's rules for a policy as asked for.
pub fn validate(policy: &RestartPolicy) -> Result<()> {
    let count = policy.maximum_retry_count;
    match policy.name.as_str() {
        "" | "no" | "always" | "unless-stopped" if count != 0 => {
            let text = match count < 0 {
                true => "maximum retry count can only be used with 'on-failure' and cannot be negative",
                false => "maximum retry count can only be used with 'on-failure'",
            };
            Err(Error::invalid(format!("invalid restart policy: {text}")))
        }
        "on-failure" if count < 0 => {
            Err(Error::invalid("invalid restart policy: maximum retry count cannot be negative"))
        }
        "" | "no" | "always" | "unless-stopped" | "on-failure" => Ok(()),
        name => Err(Error::invalid(format!(
            "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, maximum_retry_count: i64) -> RestartPolicy {
        RestartPolicy { name: name.into(), maximum_retry_count }
    }

    #[test]
    fn backoff_doubles_and_forgets() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        let pauses: Vec<u128> = (0..12).map(|_| backoff.next(short).as_millis()).collect();
        assert_eq!(pauses[..5], [100, 200, 400, 800, 1600]);
        assert_eq!(pauses[11], 60_000);
        assert_eq!(backoff.next(STEADY), FIRST);
    }

    #[test]
    fn policies_decide() {
        assert!(after_exit(&policy("always", 0), 0, 99));
        assert!(!after_exit(&policy("no", 0), 1, 0));
        assert!(!after_exit(&policy("on-failure", 0), 0, 0));
        assert!(after_exit(&policy("on-failure", 3), 1, 2));
        assert!(!after_exit(&policy("on-failure", 3), 1, 3));
        assert!(validate(&policy("always", 1)).is_err());
        assert!(validate(&policy("sometimes", 0)).is_err());
        assert!(validate(&policy("on-failure", 5)).is_ok());
        let mut stopped = State { manually_stopped: true, ..State::default() };
        stopped.set_running(1);
        assert!(at_boot(&policy("always", 0), &stopped, false, 0));
        assert!(!at_boot(&policy("unless-stopped", 0), &stopped, false, 0));
        assert!(!at_boot(&policy("always", 0), &State::default(), false, 0), "never started stays down");
    }
}
