//! `docker manifest rm`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Remove local manifest lists
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    #[argh(positional, greedy)]
    pub lists: Vec<String>,
}

impl Verb for Rm {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker manifest rm is not part of this build"))
    }
}
