//! `docker network rm`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Remove networks
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    /// a network that is not there is no error
    #[argh(switch, short = 'f')]
    pub force: bool,
    #[argh(positional, greedy)]
    pub networks: Vec<String>,
}

impl Verb for Rm {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker network rm is not part of this build"))
    }
}
