//! `docker ps`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// List containers
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Ps {
    /// show stopped ones too (default shows just running)
    #[argh(switch, short = 'a')]
    pub all: bool,
    /// show only what matches
    #[argh(option, short = 'f', arg_name = "filter")]
    pub filter: Vec<String>,
    /// output as "table", "table TEMPLATE", "json", or by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// show the last N created, in any state (default -1)
    #[argh(option, short = 'n', arg_name = "int")]
    pub last: Option<i64>,
    /// show the one created last, in any state
    #[argh(switch, short = 'l')]
    pub latest: bool,
    /// do not shorten what is shown
    #[argh(switch)]
    pub no_trunc: bool,
    /// show IDs alone
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// show the size on disk
    #[argh(switch, short = 's')]
    pub size: bool,
}

impl Verb for Ps {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker ps is not part of this build"))
    }
}
