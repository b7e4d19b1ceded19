//! `docker context import`.

use crate::cli::context::Context;
use crate::cli::context_store::{Store, check_name};
use crate::cli::contexts;
use crate::cli::tree::Verb;
use crate::error::{Context as _, Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::{Read, Write};
use std::process::ExitCode;

/// Read a context from a tar or zip archive
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Import {
    #[argh(positional)]
    pub name: String,
    #[argh(positional)]
    pub file: String,
}

impl Verb for Import {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        check_name(&self.name)?;
        let store = contexts::store(cx);
        if store.exists(&self.name) {
            return Err(Error::conflict(format!("context {:?} already exists", self.name)));
        }
        let mut data = Vec::new();
        match self.file.as_str() {
            "-" => std::io::stdin().read_to_end(&mut data).context("read standard input")?,
            path => {
                let mut file = std::fs::File::open(path).context(format!("open {path}"))?;
                file.read_to_end(&mut data).context(format!("read {path}"))?
            }
        };
        let (mut meta, tls) = Store::unpack(&data)?;
        meta.name.clone_from(&self.name);
        store.save(&meta)?;
        store.save_tls(&self.name, &tls)?;
        writeln!(cx.out, "{}", self.name)?;
        writeln!(cx.err, "Successfully imported context {:?}", self.name)?;
        Ok(ExitCode::SUCCESS)
    }
}
