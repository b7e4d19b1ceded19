//! `docker context create`.

use crate::cli::context::Context;
use crate::cli::context_store::{Meta, check_name};
use crate::cli::contexts;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Create a context
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Create {
    /// what the context is for
    #[argh(option, arg_name = "string")]
    pub description: Option<String>,
    /// options of the endpoint (default [])
    #[argh(option, arg_name = "stringToString")]
    pub docker: Vec<String>,
    /// context to start from
    #[argh(option, arg_name = "string")]
    pub from: Option<String>,
    #[argh(positional)]
    pub name: String,
}

impl Verb for Create {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        check_name(&self.name)?;
        let store = contexts::store(cx);
        if store.exists(&self.name) {
            return Err(Error::conflict(format!("context {:?} already exists", self.name)));
        }
        if self.from.is_some() && !self.docker.is_empty() {
            return Err(Error::invalid("cannot use --docker flag when --from is set"));
        }
        let (mut meta, tls) = if self.docker.is_empty() {
            let from = match &self.from {
                Some(name) if !name.is_empty() => name.clone(),
                _ => crate::cli::host::context_name(cx)?,
            };
            contexts::resolve(cx, &from)?
        } else {
            let (host, tls, skip_verify) = contexts::endpoint(cx, &self.docker)?;
            (Meta::new(&self.name, "", &host, skip_verify), tls)
        };
        meta.name = self.name;
        if let Some(description) = self.description.filter(|d| !d.is_empty()) {
            meta.set_description(&description);
        }
        store.save(&meta)?;
        store.save_tls(&meta.name, &tls)?;
        writeln!(cx.out, "{}", meta.name)?;
        writeln!(cx.err, "Successfully created context {:?}", meta.name)?;
        Ok(ExitCode::SUCCESS)
    }
}
