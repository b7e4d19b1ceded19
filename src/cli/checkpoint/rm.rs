//! `docker checkpoint rm`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::client::segment;
use crate::error::Result;
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
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let path = format!("/containers/{}/checkpoints/{}", segment(&self.container), segment(&self.checkpoint));
        cx.client()?.delete(path).query_opt("dir", self.checkpoint_dir).done()?;
        Ok(ExitCode::SUCCESS)
    }
}
