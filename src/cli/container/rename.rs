//! `docker rename`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Give a container another name
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Rename {
    #[argh(positional)]
    pub container: String,
    #[argh(positional)]
    pub name: String,
}

impl Verb for Rename {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker rename is not part of this build"))
    }
}
