//! `docker volume create`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Create a volume
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Create {
    /// driver to use (default "local")
    #[argh(option, short = 'd', arg_name = "string")]
    pub driver: Option<String>,
    /// metadata for the volume
    #[argh(option, arg_name = "list")]
    pub label: Vec<String>,
    /// options of the driver (default map[])
    #[argh(option, short = 'o', arg_name = "map")]
    pub opt: Vec<String>,
    #[argh(positional)]
    pub name: Option<String>,
}

impl Verb for Create {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker volume create is not part of this build"))
    }
}
