//! `docker volume prune`.

use crate::api::volume::VolumesPruned;
use crate::cli::context::Context;
use crate::cli::lists;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Remove unused volumes
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Prune {
    /// remove all unused volumes, not only anonymous ones
    #[argh(switch, short = 'a')]
    pub all: bool,
    /// remove only what matches ("label=key=value")
    #[argh(option, arg_name = "filter")]
    pub filter: Vec<String>,
    /// do not ask first
    #[argh(switch, short = 'f')]
    pub force: bool,
}

impl Verb for Prune {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let mut filters = lists::prune_filters(cx, &self.filter);
        let mut warning = "This will remove anonymous local volumes not used by at least one container.";
        if self.all {
            if filters.contains("all") {
                return Err(Error::invalid("conflicting options: cannot specify both --all and --filter all=1"));
            }
            filters.add("all", "true");
            warning = "This will remove all local volumes not used by at least one container.";
        }
        if !lists::may_prune(cx, self.force, warning)? {
            return Ok(ExitCode::SUCCESS);
        }
        let report: VolumesPruned = cx.client()?.post("/volumes/prune").query_filters(&filters).json()?;
        lists::pruned(cx, "Deleted Volumes", &report.volumes_deleted, report.space_reclaimed)?;
        Ok(ExitCode::SUCCESS)
    }
}
