//! `docker container prune`.

use crate::cli::context::Context;
use crate::cli::lists;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Remove all stopped containers
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Prune {
    /// remove only what matches ("until=24h")
    #[argh(option, arg_name = "filter")]
    pub filter: Vec<String>,
    /// do not ask first
    #[argh(switch, short = 'f')]
    pub force: bool,
}

impl Verb for Prune {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let filters = lists::prune_filters(cx, &self.filter);
        if lists::may_prune(cx, self.force, "This will remove all stopped containers.")? {
            let pruned = cx.client()?.containers_prune(&filters)?;
            let names = pruned.containers_deleted.unwrap_or_default();
            lists::pruned(cx, "Deleted Containers", &names, pruned.space_reclaimed)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
