//! The daemon's life: bootstrap → config → engine → server → signals.

#![forbid(unsafe_code)]

pub mod bootstrap;

use std::ffi::OsString;
use std::process::ExitCode;

/// Entry point of `dockerd`; `args` without argv[0].
pub fn main(_args: &[OsString]) -> ExitCode {
    ExitCode::from(1)
}
