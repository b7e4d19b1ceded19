//! `docker history`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show how an image came about
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct History {
    /// output as "table", "table TEMPLATE", "json", or by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// sizes and dates for people (default true)
    #[argh(option, short = 'H', arg_name = "bool", default = "true")]
    pub human: bool,
    /// do not shorten what is shown
    #[argh(switch)]
    pub no_trunc: bool,
    /// platform to show where there are several
    #[argh(option, arg_name = "string")]
    pub platform: Option<String>,
    /// show IDs alone
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    #[argh(positional)]
    pub image: String,
}

impl Verb for History {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker history is not part of this build"))
    }
}
