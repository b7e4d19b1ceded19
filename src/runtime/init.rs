//! The pid-1 reaper and signal forwarder of `--init`, run inside the container
//! as `/sbin/docker-init -- CMD`. One thread.

use std::ffi::OsString;
use std::process::ExitCode;

/// Entry point under the name `docker-init`.
pub fn main(_args: &[OsString]) -> ExitCode {
    ExitCode::from(125)
}
