//! `docker stats`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show live what containers use
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Stats {
    /// show stopped ones too (default shows just running)
    #[argh(switch, short = 'a')]
    pub all: bool,
    /// output as "table", "table TEMPLATE", "json", or by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// show one result and end
    #[argh(switch)]
    pub no_stream: bool,
    /// do not shorten what is shown
    #[argh(switch)]
    pub no_trunc: bool,
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Stats {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker stats is not part of this build"))
    }
}
