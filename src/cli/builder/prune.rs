//! `docker builder prune`.

use crate::cli::context::Context;
use crate::cli::lists;
use crate::cli::tree::Verb;
use crate::error::Result;
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

/// The answer of `POST /build/prune`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CachePruned {
    pub caches_deleted: Vec<String>,
    pub space_reclaimed: u64,
}

impl Verb for Prune {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let mut filters = lists::prune_filters(cx, &self.filter);
        filters.remove("label");
        let warning = match self.all {
            true => "This will remove all build cache.",
            false => "This will remove all dangling build cache.",
        };
        if !self.force && !cx.confirm(&format!("WARNING! {warning} Are you sure you want to continue?"))? {
            return Ok(ExitCode::SUCCESS);
        }
        let client = cx.client()?;
        let request = client.post("/build/prune").query_if("all", self.all).query_filters(&filters);
        let request = request.query_opt("keep-storage", self.keep_storage.map(|n| n.to_string()));
        let report: CachePruned = request.json()?;
        lists::pruned(cx, "Deleted build cache objects", &report.caches_deleted, report.space_reclaimed)?;
        Ok(ExitCode::SUCCESS)
    }
}
