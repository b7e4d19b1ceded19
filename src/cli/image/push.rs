//! `docker push`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Send an image to a registry
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Push {
    /// send every tag of the repository
    #[argh(switch, short = 'a')]
    pub all_tags: bool,
    /// skip signature checks; there are none (default true)
    #[argh(option, arg_name = "bool", default = "true")]
    pub disable_content_trust: bool,
    /// platform to send where there are several
    #[argh(option, arg_name = "string")]
    pub platform: Option<String>,
    /// print nothing but errors
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    #[argh(positional)]
    pub reference: String,
}

impl Verb for Push {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker push is not part of this build"))
    }
}
