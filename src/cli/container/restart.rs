//! `docker restart`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Stop containers and start them again
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Restart {
    /// signal to send
    #[argh(option, short = 's', arg_name = "string")]
    pub signal: Option<String>,
    /// seconds to wait before it is killed (also --time)
    #[argh(option, short = 't', arg_name = "int")]
    pub timeout: Option<i64>,
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Restart {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        cx.each(&self.containers, |client, name| client.container_restart(name, self.signal.as_deref(), self.timeout))
    }
}
