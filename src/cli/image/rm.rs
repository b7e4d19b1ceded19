//! `docker rmi`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Remove images
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    /// remove it also when containers use it
    #[argh(switch, short = 'f')]
    pub force: bool,
    /// keep untagged parents
    #[argh(switch)]
    pub no_prune: bool,
    /// remove this platform alone, in the form os[/arch[/variant]]
    #[argh(option, arg_name = "strings")]
    pub platform: Vec<String>,
    #[argh(positional, greedy)]
    pub images: Vec<String>,
}

impl Verb for Rm {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker rmi is not part of this build"))
    }
}
