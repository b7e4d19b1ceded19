//! `docker context create`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
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
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker context create is not part of this build"))
    }
}
