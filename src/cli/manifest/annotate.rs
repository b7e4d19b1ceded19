//! `docker manifest annotate`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Add facts to an image of a manifest list
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Annotate {
    /// architecture
    #[argh(option, arg_name = "string")]
    pub arch: Option<String>,
    /// operating system
    #[argh(option, arg_name = "string")]
    pub os: Option<String>,
    /// features of the operating system
    #[argh(option, arg_name = "strings")]
    pub os_features: Vec<String>,
    /// version of the operating system
    #[argh(option, arg_name = "string")]
    pub os_version: Option<String>,
    /// variant of the architecture
    #[argh(option, arg_name = "string")]
    pub variant: Option<String>,
    #[argh(positional)]
    pub list: String,
    #[argh(positional)]
    pub manifest: String,
}

impl Verb for Annotate {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker manifest annotate is not part of this build"))
    }
}
