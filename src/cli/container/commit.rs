//! `docker commit`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Make an image of a container's changes
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Commit {
    /// who made it ("Jane Doe <jane@example.org>")
    #[argh(option, short = 'a', arg_name = "string")]
    pub author: Option<String>,
    /// dockerfile instruction to apply to the image
    #[argh(option, short = 'c', arg_name = "list")]
    pub change: Vec<String>,
    /// message for the history
    #[argh(option, short = 'm', arg_name = "string")]
    pub message: Option<String>,
    /// pause the container meanwhile (default true)
    #[argh(option, short = 'p', arg_name = "bool", default = "true")]
    pub pause: bool,
    /// do not pause the container meanwhile
    #[argh(switch, hidden_help)]
    pub no_pause: bool,
    #[argh(positional)]
    pub container: String,
    #[argh(positional)]
    pub reference: Option<String>,
}

impl Verb for Commit {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker commit is not part of this build"))
    }
}
