//! `docker checkpoint rm`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Remove a checkpoint
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    /// folder of the checkpoints
    #[argh(option, arg_name = "string")]
    pub checkpoint_dir: Option<String>,
    #[argh(positional)]
    pub container: String,
    #[argh(positional)]
    pub checkpoint: String,
}

impl Verb for Rm {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker checkpoint rm is not part of this build"))
    }
}
