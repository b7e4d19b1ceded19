//! The client: argv → api types → HTTP → text.

#![forbid(unsafe_code)]

pub mod format;

use std::ffi::OsString;
use std::process::ExitCode;

/// Entry point of `docker`; `args` without argv[0].
pub fn main(_args: &[OsString]) -> ExitCode {
    ExitCode::from(125)
}
