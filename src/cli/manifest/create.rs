//! `docker manifest create`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Create a local manifest list
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Create {
    /// add to a list that exists
    #[argh(switch, short = 'a')]
    pub amend: bool,
    /// allow a registry without TLS
    #[argh(switch)]
    pub insecure: bool,
    #[argh(positional)]
    pub list: String,
    #[argh(positional, greedy)]
    pub manifests: Vec<String>,
}

impl Verb for Create {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker manifest create is not part of this build"))
    }
}
