//! `docker diff`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Show what changed in a container's file system
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Diff {
    #[argh(positional)]
    pub container: String,
}

impl Verb for Diff {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        if self.container.is_empty() {
            return Err(Error::invalid("Container name cannot be empty"));
        }
        for change in cx.client()?.container_changes(&self.container)? {
            let kind = ['C', 'A', 'D'].get(usize::from(change.kind)).copied().unwrap_or(' ');
            writeln!(cx.out, "{kind} {}", change.path)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
