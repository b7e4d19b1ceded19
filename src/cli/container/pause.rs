//! `docker pause`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Pause all processes of containers
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Pause {
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Pause {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        cx.each(&self.containers, |client, name| client.container_pause(name))
    }
}
