//! `docker import`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Make an image of a file system in a tar archive
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Import {
    /// dockerfile instruction to apply to the image
    #[argh(option, short = 'c', arg_name = "list")]
    pub change: Vec<String>,
    /// message for the history
    #[argh(option, short = 'm', arg_name = "string")]
    pub message: Option<String>,
    /// platform to note in the image
    #[argh(option, arg_name = "string")]
    pub platform: Option<String>,
    #[argh(positional)]
    pub source: String,
    #[argh(positional)]
    pub reference: Option<String>,
}

impl Verb for Import {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker import is not part of this build"))
    }
}
