//! `docker info`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show what the daemon and this machine are like
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Info {
    /// output as "json", or by a Go template
    #[argh(option, short = 'f', arg_name = "string")]
    pub format: Option<String>,
}

impl Verb for Info {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker info is not part of this build"))
    }
}
