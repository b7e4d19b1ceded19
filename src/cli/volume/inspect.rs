//! `docker volume inspect`.

use crate::cli::context::Context;
use crate::cli::inspect;
use crate::cli::tree::Verb;
use crate::client::segment;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show all there is to know about volumes
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Inspect {
    /// output as "json", or by a Go template
    #[argh(option, short = 'f', arg_name = "string")]
    pub format: Option<String>,
    #[argh(positional, greedy)]
    pub volumes: Vec<String>,
}

impl Verb for Inspect {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let client = cx.client()?;
        inspect::run(cx, self.format.as_deref(), &self.volumes, |_, name| {
            Ok(("volume", client.get(format!("/volumes/{}", segment(name))).bytes()?))
        })
    }
}
