//! `docker logs`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show what a container wrote
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Logs {
    /// show the details that were given to the log driver
    #[argh(switch)]
    pub details: bool,
    /// go on as new output comes
    #[argh(switch, short = 'f')]
    pub follow: bool,
    /// start at this time: a date ("2013-01-02T13:23:37Z") or so long ago ("42m")
    #[argh(option, arg_name = "string")]
    pub since: Option<String>,
    /// lines to show, counted from the end (default "all")
    #[argh(option, short = 'n', arg_name = "string")]
    pub tail: Option<String>,
    /// show the time of each line
    #[argh(switch, short = 't')]
    pub timestamps: bool,
    /// end at this time: a date ("2013-01-02T13:23:37Z") or so long ago ("42m")
    #[argh(option, arg_name = "string")]
    pub until: Option<String>,
    #[argh(positional)]
    pub container: String,
}

impl Verb for Logs {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker logs is not part of this build"))
    }
}
