//! `docker volume rm`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::client::segment;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Remove volumes
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    /// a volume that is not there is no error
    #[argh(switch, short = 'f')]
    pub force: bool,
    #[argh(positional, greedy)]
    pub volumes: Vec<String>,
}

impl Verb for Rm {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let client = cx.client()?;
        cx.for_each(&self.volumes, |_, name| {
            client.delete(format!("/volumes/{}", segment(name))).query_if("force", self.force).done()
        })
    }
}
