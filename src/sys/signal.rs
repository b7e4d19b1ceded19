//! Signal state around fork and exec. signalfd and masks are nix's.

use super::{Result, check};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// Every signal back to its default action and none blocked: the state in which
/// a new program expects to start (Rust's runtime ignores SIGPIPE).
pub fn reset_all() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is always a valid action; the two signals that cannot
        // be changed, and the C library's own, answer EINVAL.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// Ignores `signals`; forked processes inherit that until [`reset_all`].
pub fn ignore(signals: &[i32]) {
    for signal in signals {
        // SAFETY: SIG_IGN is a valid action for every signal that can be caught.
        unsafe {
            libc::signal(*signal, libc::SIG_IGN);
        }
    }
}

/// Sends by number, real-time signals included, which nix's enum lacks.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: integers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}
