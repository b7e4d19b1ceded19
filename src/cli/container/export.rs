//! `docker export`.

use crate::cli::context::Context;
use crate::cli::output::File;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Write a container's file system as a tar archive
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Export {
    /// file to write in place of STDOUT
    #[argh(option, short = 'o', arg_name = "string")]
    pub output: Option<String>,
    #[argh(positional)]
    pub container: String,
}

impl Verb for Export {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let Some(path) = self.output.as_deref().filter(|p| !p.is_empty()) else {
            if cx.out.is_terminal() {
                let text = "cowardly refusing to save to a terminal. Use the -o flag or redirect";
                return Err(Error::invalid(text));
            }
            let mut reply = cx.client()?.container_export(&self.container)?;
            std::io::copy(&mut reply, &mut cx.out)?;
            cx.out.flush()?;
            return Ok(ExitCode::SUCCESS);
        };
        let mut file = File::create(path).map_err(|e| e.context("failed to export container"))?;
        let mut reply = cx.client()?.container_export(&self.container)?;
        file.fill(&mut reply)?;
        Ok(ExitCode::SUCCESS)
    }
}
