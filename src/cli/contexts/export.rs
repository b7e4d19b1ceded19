//! `docker context export`.

use crate::cli::context::Context;
use crate::cli::context_store::Store;
use crate::cli::contexts;
use crate::cli::tree::Verb;
use crate::error::{Context as _, Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

/// Write a context to a tar archive or STDOUT
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Export {
    #[argh(positional)]
    pub name: String,
    #[argh(positional)]
    pub file: Option<String>,
}

impl Verb for Export {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let (meta, tls) = contexts::resolve(cx, &self.name)?;
        let archive = Store::archive(&meta, &tls)?;
        let file = self.file.unwrap_or_else(|| format!("{}.dockercontext", self.name));
        if file == "-" {
            if cx.out.is_terminal() {
                return Err(Error::invalid("cowardly refusing to export to a terminal, specify a file path"));
            }
            cx.out.write_all(&archive)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut target = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)
            .context(format!("open {file}"))?;
        target.write_all(&archive).context(format!("write {file}"))?;
        writeln!(cx.err, "Written file {file:?}")?;
        Ok(ExitCode::SUCCESS)
    }
}
