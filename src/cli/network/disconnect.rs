//! `docker network disconnect`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Disconnect a container from a network
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Disconnect {
    /// take the container away also when it does not answer
    #[argh(switch, short = 'f')]
    pub force: bool,
    #[argh(positional)]
    pub network: String,
    #[argh(positional)]
    pub container: String,
}

impl Verb for Disconnect {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker network disconnect is not part of this build"))
    }
}
