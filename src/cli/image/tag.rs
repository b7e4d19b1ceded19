//! `docker tag`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Give SOURCE_IMAGE a further name
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Tag {
    #[argh(positional)]
    pub source: String,
    #[argh(positional)]
    pub target: String,
}

impl Verb for Tag {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker tag is not part of this build"))
    }
}
