//! `docker save`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Write images to a tar archive, STDOUT by default
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Save {
    /// file to write in place of STDOUT
    #[argh(option, short = 'o', arg_name = "string")]
    pub output: Option<String>,
    /// platform to save where there are several
    #[argh(option, arg_name = "string")]
    pub platform: Option<String>,
    #[argh(positional, greedy)]
    pub images: Vec<String>,
}

impl Verb for Save {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker save is not part of this build"))
    }
}
