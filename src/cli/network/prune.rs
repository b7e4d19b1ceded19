//! `docker network prune`.

use crate::api::network::NetworkPruneReport;
use crate::cli::context::Context;
use crate::cli::lists;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Remove all unused networks
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
        let warning = "This will remove all custom networks not used by at least one container.";
        if !lists::may_prune(cx, self.force, warning)? {
            return Ok(ExitCode::SUCCESS);
        }
        let report: NetworkPruneReport = cx.client()?.post("/networks/prune").query_filters(&filters).json()?;
        let names = report.networks_deleted.unwrap_or_default();
        if !names.is_empty() {
            writeln!(cx.out, "Deleted Networks:\n{}\n", names.join("\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
