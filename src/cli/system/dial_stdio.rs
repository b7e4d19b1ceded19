//! `docker system dial-stdio`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Connect STDIN and STDOUT to the daemon
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct DialStdio {}

impl Verb for DialStdio {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker system dial-stdio is not part of this build"))
    }
}
