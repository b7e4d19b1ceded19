//! `docker network inspect`.

use crate::cli::context::Context;
use crate::cli::inspect;
use crate::cli::tree::Verb;
use crate::client::segment;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show all there is to know about networks
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Inspect {
    /// output as "json", or by a Go template
    #[argh(option, short = 'f', arg_name = "string")]
    pub format: Option<String>,
    /// show details of other nodes too
    #[argh(switch, short = 'v')]
    pub verbose: bool,
    #[argh(positional, greedy)]
    pub networks: Vec<String>,
}

impl Verb for Inspect {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let client = cx.client()?;
        inspect::run(cx, self.format.as_deref(), &self.networks, |_, name| {
            let request = client.get(format!("/networks/{}", segment(name)));
            let request = if self.verbose { request.query("verbose", "true") } else { request };
            Ok(("network", request.bytes()?))
        })
    }
}
