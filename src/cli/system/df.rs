//! `docker system df`.

use crate::api::container::ContainerSummary;
use crate::api::system::{BuildCacheRecord, DiskUsage};
use crate::api::volume::Volume;
use crate::cli::context::Context;
use crate::cli::format::template::Template;
use crate::cli::format::value::Value;
use crate::cli::format::{Column, List, human};
use crate::cli::image::ls::Summary;
use crate::cli::system::df_rows::{CACHE, CONTAINERS, IMAGES, Part, VOLUMES, container_row, image_rows};
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;

/// Show the disk space that is used
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Df {
    /// output as "table", "table TEMPLATE", "json", or by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// show each object
    #[argh(switch, short = 'v')]
    pub verbose: bool,
}

type Usage = DiskUsage<Summary>;

/// One line of the summary.
struct Row {
    kind: &'static str,
    total: usize,
    active: usize,
    size: i64,
    reclaimable: i64,
    /// Whether a share in percent makes sense.
    percent: bool,
}

static SUMMARY: List<Row> = List {
    type_name: "*formatter.diskUsageImagesContext",
    columns: &[
        Column::new("Type", "TYPE", |r: &Row| r.kind.into()),
        Column::new("TotalCount", "TOTAL", |r| r.total.to_string().into()),
        Column::new("Active", "ACTIVE", |r| r.active.to_string().into()),
        Column::new("Size", "SIZE", |r| human::size(r.size as f64).into()),
        Column::new("Reclaimable", "RECLAIMABLE", |r| {
            let size = human::size(r.reclaimable as f64);
            match r.percent && r.size > 0 {
                true => format!("{size} ({}%)", r.reclaimable * 100 / r.size).into(),
                false => size.into(),
            }
        }),
    ],
    label: None,
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "",
    raw: "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n",
};

fn summary(usage: &Usage) -> [Row; 4] {
    let images = usage.images.as_deref().unwrap_or_default();
    let used: i64 = images
        .iter()
        .filter(|i| i.containers > 0 && i.size != -1 && i.shared_size != -1)
        .map(|i| i.size - i.shared_size)
        .sum();
    let containers = usage.containers.as_deref().unwrap_or_default();
    let active = |c: &&ContainerSummary| ["running", "paused", "restarting"].iter().any(|s| c.state.contains(s));
    let idle: i64 = containers.iter().filter(|c| !active(c)).map(|c| c.size_rw).sum();
    let volumes = usage.volumes.as_deref().unwrap_or_default();
    let size = |v: &Volume| v.usage_data.as_ref().map_or(0, |u| u.size.max(0));
    let linked = |v: &Volume| v.usage_data.as_ref().is_some_and(|u| u.ref_count > 0);
    let cache = usage.build_cache.as_deref().unwrap_or_default();
    let own = |used_only: bool| -> i64 {
        cache.iter().filter(|r| !r.shared && (!used_only || r.in_use)).map(|r| r.size).sum()
    };
    [
        Row {
            kind: "Images",
            total: images.len(),
            active: images.iter().filter(|i| i.containers > 0).count(),
            size: usage.layers_size,
            reclaimable: usage.layers_size - used,
            percent: true,
        },
        Row {
            kind: "Containers",
            total: containers.len(),
            active: containers.iter().filter(active).count(),
            size: containers.iter().map(|c| c.size_rw).sum(),
            reclaimable: idle,
            percent: true,
        },
        Row {
            kind: "Local Volumes",
            total: volumes.len(),
            active: volumes.iter().filter(|v| linked(v)).count(),
            size: volumes.iter().map(size).sum(),
            reclaimable: volumes.iter().filter(|v| !linked(v)).map(size).sum(),
            percent: true,
        },
        Row {
            kind: "Build Cache",
            total: cache.len(),
            active: cache.iter().filter(|r| r.in_use).count(),
            size: own(false),
            reclaimable: own(false) - own(true),
            percent: false,
        },
    ]
}

/// What `-v` lists: objects in full or with short ids.
struct Parts {
    images: Vec<crate::cli::image::ls::Row>,
    containers: Vec<crate::cli::container::ps::Row>,
    volumes: Vec<Volume>,
    cache: Vec<Part<BuildCacheRecord>>,
}

fn parts(usage: Usage, full: bool) -> Parts {
    Parts {
        images: usage.images.iter().flatten().flat_map(|i| image_rows(i, full)).collect(),
        containers: usage.containers.into_iter().flatten().map(|c| container_row(c, full)).collect(),
        volumes: usage.volumes.unwrap_or_default(),
        cache: usage.build_cache.into_iter().flatten().map(|item| Part { item, full }).collect(),
    }
}

fn sections(usage: Usage) -> Result<String> {
    let cache: i64 = usage.build_cache.iter().flatten().filter(|r| !r.shared).map(|r| r.size).sum();
    let parts = parts(usage, false);
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n\n{}",
        IMAGES.render("", false, parts.images)?,
        CONTAINERS.render("", false, parts.containers)?,
        VOLUMES.render("", false, parts.volumes)?,
        human::size(cache as f64),
        CACHE.render("", false, parts.cache)?,
    ))
}

fn raw(usage: Usage) -> Result<String> {
    let parts = parts(usage, true);
    Ok([
        IMAGES.render("raw", false, parts.images)?,
        CONTAINERS.render("raw", false, parts.containers)?,
        VOLUMES.render("raw", false, parts.volumes)?,
        CACHE.render("raw", false, parts.cache)?,
    ]
    .concat())
}

/// A template over all four lists at once. It ends without a line feed, as Docker's.
fn verbose(usage: Usage, format: &str) -> Result<String> {
    let parts = parts(usage, true);
    let all = Value::map(vec![
        (Rc::from("Images"), Value::list(parts.images.into_iter().map(|i| IMAGES.row(i)).collect())),
        (Rc::from("Containers"), Value::list(parts.containers.into_iter().map(|c| CONTAINERS.row(c)).collect())),
        (Rc::from("Volumes"), Value::list(parts.volumes.into_iter().map(|v| VOLUMES.row(v)).collect())),
        (Rc::from("BuildCache"), Value::list(parts.cache.into_iter().map(|c| CACHE.row(c)).collect())),
    ]);
    let source = if format == "json" { "{{json .}}" } else { format.strip_prefix("table").unwrap_or(format) };
    let source = source.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n");
    let wrong = |e: String| Error::invalid(format!("template parsing error: {e}"));
    let template = Template::parse(&source).map_err(wrong)?;
    template.render(&all.into_struct("*formatter.DiskUsageContext")).map_err(wrong)
}

impl Verb for Df {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let usage: Usage = cx.client()?.get("/system/df").json()?;
        let format = self.format.as_deref().unwrap_or_default();
        let text = match (self.verbose, format) {
            (false, _) => SUMMARY.render(format, false, summary(&usage))?,
            (true, "" | "table") => sections(usage)?,
            (true, "raw") => raw(usage)?,
            (true, template) => verbose(usage, template)?,
        };
        cx.out.write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
