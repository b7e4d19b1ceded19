//! `docker context show`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Print the name of the current context
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Show {}

impl Verb for Show {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let name = crate::cli::host::context_name(cx)?;
        writeln!(cx.out, "{name}")?;
        Ok(ExitCode::SUCCESS)
    }
}
