//! `docker rename`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Give a container another name
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Rename {
    #[argh(positional)]
    pub container: String,
    #[argh(positional)]
    pub name: String,
}

impl Verb for Rename {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let (old, new) = (self.container.trim(), self.name.trim());
        if old.is_empty() || new.is_empty() {
            return Err(Error::invalid("Error: Neither old nor new names may be empty"));
        }
        if let Err(e) = cx.client()?.container_rename(old, new) {
            writeln!(cx.err, "{e}")?;
            return Err(Error::system(format!("Error: failed to rename container named {old}")));
        }
        Ok(ExitCode::SUCCESS)
    }
}
