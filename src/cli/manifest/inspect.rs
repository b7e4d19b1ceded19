//! `docker manifest inspect`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show a manifest or a manifest list
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Inspect {
    /// allow a registry without TLS
    #[argh(switch)]
    pub insecure: bool,
    /// show the manifests themselves too
    #[argh(switch, short = 'v')]
    pub verbose: bool,
    #[argh(positional, greedy)]
    pub references: Vec<String>,
}

impl Verb for Inspect {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker manifest inspect is not part of this build"))
    }
}
