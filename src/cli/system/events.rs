//! `docker events`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show what happens in the daemon, live
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Events {
    /// show only what matches
    #[argh(option, short = 'f', arg_name = "filter")]
    pub filter: Vec<String>,
    /// output as "json", or by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// start at this time: a date ("2013-01-02T13:23:37Z") or so long ago ("42m")
    #[argh(option, arg_name = "string")]
    pub since: Option<String>,
    /// end at this time: a date ("2013-01-02T13:23:37Z") or so long ago ("42m")
    #[argh(option, arg_name = "string")]
    pub until: Option<String>,
}

impl Verb for Events {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker events is not part of this build"))
    }
}
