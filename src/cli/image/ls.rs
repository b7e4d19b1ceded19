//! `docker images`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// List images
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Ls {
    /// show all of them (default hides intermediate images)
    #[argh(switch, short = 'a')]
    pub all: bool,
    /// show digests
    #[argh(switch)]
    pub digests: bool,
    /// show only what matches
    #[argh(option, short = 'f', arg_name = "filter")]
    pub filter: Vec<String>,
    /// output as "table", "table TEMPLATE", "json", or by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// do not shorten what is shown
    #[argh(switch)]
    pub no_trunc: bool,
    /// show IDs alone
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// show multi-platform images as a tree
    #[argh(switch)]
    pub tree: bool,
    #[argh(positional)]
    pub reference: Option<String>,
}

impl Verb for Ls {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker images is not part of this build"))
    }
}
