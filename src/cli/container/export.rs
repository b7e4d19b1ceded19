//! `docker export`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Write a container's file system as a tar archive
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Export {
    /// file to write in place of STDOUT
    #[argh(option, short = 'o', arg_name = "string")]
    pub output: Option<String>,
    #[argh(positional)]
    pub container: String,
}

impl Verb for Export {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker export is not part of this build"))
    }
}
