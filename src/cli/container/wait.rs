//! `docker wait`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Wait until containers stop and print their exit codes
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Wait {
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Wait {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker wait is not part of this build"))
    }
}
