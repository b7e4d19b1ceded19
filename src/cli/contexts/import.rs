//! `docker context import`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Read a context from a tar or zip archive
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Import {
    #[argh(positional)]
    pub name: String,
    #[argh(positional)]
    pub file: String,
}

impl Verb for Import {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker context import is not part of this build"))
    }
}
