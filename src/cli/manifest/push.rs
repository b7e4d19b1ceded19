//! `docker manifest push`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Send a manifest list to a registry
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Push {
    /// allow a registry without TLS
    #[argh(switch)]
    pub insecure: bool,
    /// remove the local list afterwards
    #[argh(switch, short = 'p')]
    pub purge: bool,
    #[argh(positional)]
    pub list: String,
}

impl Verb for Push {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker manifest push is not part of this build"))
    }
}
