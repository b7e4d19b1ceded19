//! `docker context update`.

use crate::cli::context::Context;
use crate::cli::context_store::check_name;
use crate::cli::contexts;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Change a context
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Update {
    /// what the context is for
    #[argh(option, arg_name = "string")]
    pub description: Option<String>,
    /// options of the endpoint (default [])
    #[argh(option, arg_name = "stringToString")]
    pub docker: Vec<String>,
    #[argh(positional)]
    pub name: String,
}

impl Verb for Update {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        check_name(&self.name)?;
        let store = contexts::store(cx);
        let mut meta = store.get(&self.name)?;
        if let Some(description) = self.description.filter(|d| !d.is_empty()) {
            meta.set_description(&description);
        }
        let endpoint = match self.docker.as_slice() {
            [] => None,
            given => Some(contexts::endpoint(cx, given)?),
        };
        if let Some((host, _, skip_verify)) = &endpoint {
            meta.set_endpoint(host, *skip_verify);
        }
        store.save(&meta)?;
        if let Some((_, tls, _)) = &endpoint {
            store.save_tls(&self.name, tls)?;
        }
        writeln!(cx.out, "{}", self.name)?;
        writeln!(cx.err, "Successfully updated context {:?}", self.name)?;
        Ok(ExitCode::SUCCESS)
    }
}
