//! Exit codes: the one table from a failed command to its status.

use std::process::ExitCode;

/// A command line that cannot be read, and whatever keeps run from starting.
pub const USAGE: u8 = 125;
/// The command of the container cannot be invoked.
const NOT_EXECUTABLE: u8 = 126;
/// The command of the container is not there.
pub const NOT_FOUND: u8 = 127;

/// The status that run and exec end with when the daemon refused to start the
/// command, by the words of its refusal.
pub fn of_start(message: &str) -> u8 {
    let has = |text: &str| message.contains(text);
    if has("executable file not found") || has("no such file or directory") || has("system cannot find the file") {
        NOT_FOUND
    } else if has("permission denied") || has("is a directory") {
        NOT_EXECUTABLE
    } else {
        USAGE
    }
}

/// A container's status as ours: the low byte, as a shell would show it.
pub fn of_container(code: i64) -> ExitCode {
    ExitCode::from(code.to_le_bytes()[0])
}

/// The status of a program that a signal ended, as a shell would show it.
pub fn of_signal(signal: i32) -> ExitCode {
    ExitCode::from(128u8.saturating_add(signal.to_le_bytes()[0]))
}
