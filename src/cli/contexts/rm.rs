//! `docker context rm`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Remove contexts
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    /// remove it also while it is in use
    #[argh(switch, short = 'f')]
    pub force: bool,
    #[argh(positional, greedy)]
    pub names: Vec<String>,
}

impl Verb for Rm {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker context rm is not part of this build"))
    }
}
