//! `docker top`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show the processes of a container
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Top {
    #[argh(positional)]
    pub container: String,
    #[argh(positional, greedy)]
    pub options: Vec<String>,
}

impl Verb for Top {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker top is not part of this build"))
    }
}
