//! `docker search`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Search Docker Hub
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Search {
    /// show only what matches
    #[argh(option, short = 'f', arg_name = "filter")]
    pub filter: Vec<String>,
    /// output by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// most results to show
    #[argh(option, arg_name = "int")]
    pub limit: Option<i64>,
    /// do not shorten what is shown
    #[argh(switch)]
    pub no_trunc: bool,
    #[argh(positional)]
    pub term: String,
}

impl Verb for Search {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker search is not part of this build"))
    }
}
