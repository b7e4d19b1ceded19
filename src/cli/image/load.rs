//! `docker load`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Load images from a tar archive or STDIN
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Load {
    /// file to read in place of STDIN
    #[argh(option, short = 'i', arg_name = "string")]
    pub input: Option<String>,
    /// platform to load where there are several
    #[argh(option, arg_name = "string")]
    pub platform: Option<String>,
    /// do not show progress
    #[argh(switch, short = 'q')]
    pub quiet: bool,
}

impl Verb for Load {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker load is not part of this build"))
    }
}
