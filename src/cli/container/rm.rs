//! `docker rm`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Remove containers
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    /// kill it first when it runs
    #[argh(switch, short = 'f')]
    pub force: bool,
    /// remove a link, not a container
    #[argh(switch, short = 'l')]
    pub link: bool,
    /// remove its anonymous volumes too
    #[argh(switch, short = 'v')]
    pub volumes: bool,
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Rm {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker rm is not part of this build"))
    }
}
