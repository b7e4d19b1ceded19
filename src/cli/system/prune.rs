//! `docker system prune`.

use crate::api::container::ContainersPruned;
use crate::api::filters::Filters;
use crate::api::network::NetworkPruneReport;
use crate::api::volume::VolumesPruned;
use crate::cli::builder::prune::CachePruned;
use crate::cli::context::Context;
use crate::cli::format::human;
use crate::cli::image::prune::{ImagesPruned, steps};
use crate::cli::lists;
use crate::cli::tree::Verb;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::util::order;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Remove what is not used
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Prune {
    /// remove all unused images, not only dangling ones
    #[argh(switch, short = 'a')]
    pub all: bool,
    /// remove only what matches ("label=key=value")
    #[argh(option, arg_name = "filter")]
    pub filter: Vec<String>,
    /// do not ask first
    #[argh(switch, short = 'f')]
    pub force: bool,
    /// remove anonymous volumes too
    #[argh(switch)]
    pub volumes: bool,
}

fn images(client: &Client, filters: &Filters, all: bool) -> Result<ImagesPruned> {
    let mut filters = filters.clone();
    filters.remove("dangling");
    filters.add("dangling", if all { "false" } else { "true" });
    client.post("/images/prune").query_filters(&filters).json()
}

/// The build cache has no labels.
fn without_labels(filters: &Filters) -> Filters {
    let mut filters = filters.clone();
    filters.remove("label");
    filters.remove("label!");
    filters
}

impl Prune {
    fn warning(&self, filters: &Filters) -> String {
        let mut items = vec!["all stopped containers", "all networks not used by at least one container"];
        if self.volumes {
            items.push("all anonymous volumes not used by at least one container");
        }
        if self.all {
            items.extend(["all images without at least one container associated to them", "all build cache"]);
        } else {
            items.extend(["all dangling images", "unused build cache"]);
        }
        let mut text = String::from("WARNING! This will remove:\n");
        for item in items {
            text.push_str(&format!("  - {item}\n"));
        }
        if !filters.is_empty() {
            text.push_str("\n  Items to be pruned will be filtered with:\n");
            let pairs = filters.iter().flat_map(|(key, values)| values.iter().map(move |v| format!("{key}={v}")));
            let mut pairs: Vec<String> = pairs.collect();
            order::sort(&mut pairs);
            for pair in pairs {
                text.push_str(&format!("  - {pair}\n"));
            }
        }
        text.push_str("\nAre you sure you want to continue?");
        text
    }
}

impl Verb for Prune {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let filters = lists::prune_filters(cx, &self.filter);
        if self.volumes && filters.contains("until") {
            return Err(Error::invalid("ERROR: The \"until\" filter is not supported with \"--volumes\""));
        }
        if !self.force && !cx.confirm(&self.warning(&filters))? {
            return Ok(ExitCode::SUCCESS);
        }
        let client = cx.client()?;
        let mut reclaimed = 0;
        let mut tell = |cx: &mut Context, title: &str, names: Vec<String>, space: u64| -> Result<()> {
            reclaimed += space;
            if !names.is_empty() {
                writeln!(cx.out, "{title}:\n{}\n", names.join("\n"))?;
            }
            Ok(())
        };
        let report: ContainersPruned = client.post("/containers/prune").query_filters(&filters).json()?;
        tell(cx, "Deleted Containers", report.containers_deleted.unwrap_or_default(), report.space_reclaimed)?;
        let report: NetworkPruneReport = client.post("/networks/prune").query_filters(&filters).json()?;
        tell(cx, "Deleted Networks", report.networks_deleted.unwrap_or_default(), 0)?;
        if self.volumes {
            let report: VolumesPruned = client.post("/volumes/prune").query_filters(&filters).json()?;
            tell(cx, "Deleted Volumes", report.volumes_deleted, report.space_reclaimed)?;
        }
        let report = images(&client, &filters, self.all)?;
        tell(cx, "Deleted Images", steps(&report), report.space_reclaimed)?;
        let cache = client.post("/build/prune").query_if("all", self.all).query_filters(&without_labels(&filters));
        let report: CachePruned = cache.json()?;
        tell(cx, "Deleted build cache objects", report.caches_deleted, report.space_reclaimed)?;
        writeln!(cx.out, "Total reclaimed space: {}", human::size(reclaimed as f64))?;
        Ok(ExitCode::SUCCESS)
    }
}
