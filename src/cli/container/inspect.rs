//! `docker container inspect`.

use crate::cli::context::Context;
use crate::cli::inspect;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show all there is to know about containers
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Inspect {
    /// output as "json", or by a Go template
    #[argh(option, short = 'f', arg_name = "string")]
    pub format: Option<String>,
    /// add file sizes
    #[argh(switch, short = 's')]
    pub size: bool,
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Inspect {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let client = cx.client()?;
        inspect::run(cx, self.format.as_deref(), &self.containers, |_, name| {
            Ok(("container", client.container_inspect_raw(name, self.size)?))
        })
    }
}
