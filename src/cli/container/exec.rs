//! `docker exec`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Run a command in a running container
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Exec {
    /// run it in the background
    #[argh(switch, short = 'd')]
    pub detach: bool,
    /// key sequence that detaches from a container
    #[argh(option, arg_name = "string")]
    pub detach_keys: Option<String>,
    /// environment variables
    #[argh(option, short = 'e', arg_name = "list")]
    pub env: Vec<String>,
    /// file with environment variables, one per line
    #[argh(option, arg_name = "list")]
    pub env_file: Vec<String>,
    /// keep STDIN open also when not attached
    #[argh(switch, short = 'i')]
    pub interactive: bool,
    /// give the command all capabilities
    #[argh(switch)]
    pub privileged: bool,
    /// give it a terminal
    #[argh(switch, short = 't')]
    pub tty: bool,
    /// user name or UID, and group (name|uid[:group|gid])
    #[argh(option, short = 'u', arg_name = "string")]
    pub user: Option<String>,
    /// working directory
    #[argh(option, short = 'w', arg_name = "string")]
    pub workdir: Option<String>,
    #[argh(positional)]
    pub container: String,
    #[argh(positional, greedy)]
    pub command: Vec<String>,
}

impl Verb for Exec {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker exec is not part of this build"))
    }
}
