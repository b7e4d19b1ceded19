//! `docker context use`.

use crate::cli::context::Context;
use crate::cli::context_store::DEFAULT;
use crate::cli::contexts;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Set the default context
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Use {
    #[argh(positional)]
    pub name: String,
}

impl Verb for Use {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        if self.name != DEFAULT {
            contexts::store(cx).get(&self.name)?;
        }
        contexts::set_current(cx, &self.name)?;
        writeln!(cx.out, "{}", self.name)?;
        writeln!(cx.err, "Current context is now {:?}", self.name)?;
        if self.name != DEFAULT && std::env::var_os("DOCKER_HOST").is_some_and(|h| !h.is_empty()) {
            writeln!(
                cx.err,
                "Warning: DOCKER_HOST environment variable overrides the active context. To use {:?}, either set the global --context flag, or unset DOCKER_HOST environment variable.",
                self.name
            )?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
