//! `docker unpause`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Let paused containers go on
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Unpause {
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Unpause {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        cx.each(&self.containers, |client, name| client.container_unpause(name))
    }
}
