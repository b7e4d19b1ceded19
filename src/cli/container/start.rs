//! `docker start`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Start stopped containers
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Start {
    /// connect to its output and pass signals on
    #[argh(switch, short = 'a')]
    pub attach: bool,
    /// checkpoint to go on from
    #[argh(option, arg_name = "string")]
    pub checkpoint: Option<String>,
    /// folder of the checkpoints
    #[argh(option, arg_name = "string")]
    pub checkpoint_dir: Option<String>,
    /// key sequence that detaches from a container
    #[argh(option, arg_name = "string")]
    pub detach_keys: Option<String>,
    /// connect its STDIN
    #[argh(switch, short = 'i')]
    pub interactive: bool,
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Start {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker start is not part of this build"))
    }
}
