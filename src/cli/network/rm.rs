//! `docker network rm`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::client::segment;
use crate::error::Kind;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Remove networks
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    /// a network that is not there is no error
    #[argh(switch, short = 'f')]
    pub force: bool,
    #[argh(positional, greedy)]
    pub networks: Vec<String>,
}

impl Verb for Rm {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let client = cx.client()?;
        let mut failed = false;
        for name in &self.networks {
            match client.delete(format!("/networks/{}", segment(name))).done() {
                Ok(()) => writeln!(cx.out, "{name}")?,
                Err(e) if self.force && e.kind() == Kind::NotFound => {}
                Err(e) => {
                    writeln!(cx.err, "{e}")?;
                    failed = true;
                }
            }
        }
        if failed {
            // The original's way of ending; scripts that compare stderr know the line.
            writeln!(cx.err, "exit status 1")?;
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}
