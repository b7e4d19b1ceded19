//! `docker container inspect`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show all there is to know about containers
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Inspect {
    /// output as "json", or by a Go template
    #[argh(option, short = 'f', arg_name = "string")]
    pub format: Option<String>,
    /// add file sizes
    #[argh(switch, short = 's')]
    pub size: bool,
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Inspect {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker container inspect is not part of this build"))
    }
}
