//! `docker context inspect`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show all there is to know about contexts
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Inspect {
    /// output as "json", or by a Go template
    #[argh(option, short = 'f', arg_name = "string")]
    pub format: Option<String>,
    #[argh(positional, greedy)]
    pub names: Vec<String>,
}

impl Verb for Inspect {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker context inspect is not part of this build"))
    }
}
