//! `docker version`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show the versions of client and daemon
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Version {
    /// output as "json", or by a Go template
    #[argh(option, short = 'f', arg_name = "string")]
    pub format: Option<String>,
}

impl Verb for Version {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker version is not part of this build"))
    }
}
