//! `docker pause`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Pause all processes of containers
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Pause {
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Pause {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker pause is not part of this build"))
    }
}
