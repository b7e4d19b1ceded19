//! `docker port`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show where a container's ports are published
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Port {
    #[argh(positional)]
    pub container: String,
    #[argh(positional)]
    pub port: Option<String>,
}

impl Verb for Port {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker port is not part of this build"))
    }
}
