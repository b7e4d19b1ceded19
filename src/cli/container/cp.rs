//! `docker cp`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Copy files between a container and this machine
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Cp {
    /// keep user and group of each file
    #[argh(switch, short = 'a')]
    pub archive: bool,
    /// copy what a symbolic link as SRC_PATH points to
    #[argh(switch, short = 'L')]
    pub follow_link: bool,
    /// do not show progress
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    #[argh(positional)]
    pub source: String,
    #[argh(positional)]
    pub destination: String,
}

impl Verb for Cp {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker cp is not part of this build"))
    }
}
