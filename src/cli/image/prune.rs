//! `docker image prune`.

use crate::cli::context::Context;
use crate::cli::image::rm::Removed;
use crate::cli::lists;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Remove unused images
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Prune {
    /// remove all unused images, not only dangling ones
    #[argh(switch, short = 'a')]
    pub all: bool,
    /// remove only what matches ("until=24h")
    #[argh(option, arg_name = "filter")]
    pub filter: Vec<String>,
    /// do not ask first
    #[argh(switch, short = 'f')]
    pub force: bool,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImagesPruned {
    pub images_deleted: Vec<Removed>,
    pub space_reclaimed: u64,
}

/// The steps as prune words them: in lower case, unlike rmi.
pub fn steps(report: &ImagesPruned) -> Vec<String> {
    let line = |step: &Removed| match step.untagged.as_str() {
        "" => format!("deleted: {}", step.deleted),
        name => format!("untagged: {name}"),
    };
    report.images_deleted.iter().map(line).collect()
}

impl Verb for Prune {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let mut filters = lists::prune_filters(cx, &self.filter);
        filters.remove("dangling");
        filters.add("dangling", if self.all { "false" } else { "true" });
        let warning = match self.all {
            true => "This will remove all images without at least one container associated to them.",
            false => "This will remove all dangling images.",
        };
        if !lists::may_prune(cx, self.force, warning)? {
            return Ok(ExitCode::SUCCESS);
        }
        let report: ImagesPruned = cx.client()?.post("/images/prune").query_filters(&filters).json()?;
        let lines = steps(&report);
        if !lines.is_empty() {
            writeln!(cx.out, "Deleted Images:\n{}\n", lines.join("\n"))?;
        }
        lists::pruned(cx, "", &[], report.space_reclaimed)?;
        Ok(ExitCode::SUCCESS)
    }
}
