//! `docker context export`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Write a context to a tar archive or STDOUT
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Export {
    #[argh(positional)]
    pub name: String,
    #[argh(positional)]
    pub file: Option<String>,
}

impl Verb for Export {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker context export is not part of this build"))
    }
}
