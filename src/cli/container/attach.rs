//! `docker attach`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Connect this terminal to a running container
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Attach {
    /// key sequence that detaches from a container
    #[argh(option, arg_name = "string")]
    pub detach_keys: Option<String>,
    /// do not attach STDIN
    #[argh(switch)]
    pub no_stdin: bool,
    /// pass signals of this command on to the process (default true)
    #[argh(option, arg_name = "bool", default = "true")]
    pub sig_proxy: bool,
    #[argh(positional)]
    pub container: String,
}

impl Verb for Attach {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker attach is not part of this build"))
    }
}
