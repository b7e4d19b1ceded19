//! `docker login`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Log in to a registry
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Login {
    /// password or token
    #[argh(option, short = 'p', arg_name = "string")]
    pub password: Option<String>,
    /// read the password from STDIN
    #[argh(switch)]
    pub password_stdin: bool,
    /// user name
    #[argh(option, short = 'u', arg_name = "string")]
    pub username: Option<String>,
    #[argh(positional)]
    pub server: Option<String>,
}

impl Verb for Login {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker login is not part of this build"))
    }
}
