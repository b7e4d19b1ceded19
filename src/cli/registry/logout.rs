//! `docker logout`.

use crate::cli::context::Context;
use crate::cli::credentials;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Log out from a registry
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Logout {
    #[argh(positional)]
    pub server: Option<String>,
}

impl Verb for Logout {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let server = credentials::key(self.server.as_deref().filter(|s| !s.is_empty()).unwrap_or("docker.io"));
        writeln!(cx.out, "Removing login credentials for {server}")?;
        let mut config = cx.config().clone();
        if let Err(e) = credentials::erase(&mut config, &server) {
            writeln!(cx.err, "WARNING: could not erase credentials:\n{server}: {e}")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
