//! `docker checkpoint create`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::client::segment;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
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
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let body = serde_json::json!({
            "CheckpointID": self.checkpoint,
            "CheckpointDir": self.checkpoint_dir.unwrap_or_default(),
            "Exit": !self.leave_running,
        });
        cx.client()?.post(format!("/containers/{}/checkpoints", segment(&self.container))).json_body(&body)?.done()?;
        writeln!(cx.out, "{}", self.checkpoint)?;
        Ok(ExitCode::SUCCESS)
    }
}
