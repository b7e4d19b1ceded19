//! `docker checkpoint create`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Make a checkpoint of a running container
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Create {
    /// folder of the checkpoints
    #[argh(option, arg_name = "string")]
    pub checkpoint_dir: Option<String>,
    /// let the container run on
    #[argh(switch)]
    pub leave_running: bool,
    #[argh(positional)]
    pub container: String,
    #[argh(positional)]
    pub checkpoint: String,
}

impl Verb for Create {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker checkpoint create is not part of this build"))
    }
}
