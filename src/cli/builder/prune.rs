//! `docker builder prune`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Remove the build cache
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Prune {
    /// remove all cache, not only what is unused
    #[argh(switch, short = 'a')]
    pub all: bool,
    /// remove only what matches ("until=24h")
    #[argh(option, arg_name = "filter")]
    pub filter: Vec<String>,
    /// do not ask first
    #[argh(switch, short = 'f')]
    pub force: bool,
    /// disk space to leave to the cache
    #[argh(option, arg_name = "bytes")]
    pub keep_storage: Option<i64>,
}

impl Verb for Prune {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker builder prune is not part of this build"))
    }
}
