//! Commands of swarm mode, managed plugins and content trust.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// A command whose flags are not looked at
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Raw {
    #[argh(positional, greedy)]
    pub line: Vec<String>,
}

impl Verb for Raw {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented(format!("{} is not part of this engine", cx.command)))
    }
}
