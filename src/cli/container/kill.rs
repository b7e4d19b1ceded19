//! `docker kill`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Send a signal to running containers, SIGKILL by default
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Kill {
    /// signal to send
    #[argh(option, short = 's', arg_name = "string")]
    pub signal: Option<String>,
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Kill {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        cx.each(&self.containers, |client, name| client.container_kill(name, self.signal.as_deref()))
    }
}
