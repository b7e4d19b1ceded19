//! `docker checkpoint ls`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// List the checkpoints of a container
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Ls {
    /// folder of the checkpoints
    #[argh(option, arg_name = "string")]
    pub checkpoint_dir: Option<String>,
    #[argh(positional)]
    pub container: String,
}

impl Verb for Ls {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker checkpoint ls is not part of this build"))
    }
}
