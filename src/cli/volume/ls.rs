//! `docker volume ls`.

use crate::api::volume::{Volume, VolumeList};
use crate::cli::context::Context;
use crate::cli::context_store::natural;
use crate::cli::format::{Column, List, human};
use crate::cli::lists;
use crate::cli::tree::Verb;
use crate::error::Result;
use crate::util::order;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// List volumes
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Ls {
    /// show only what matches
    #[argh(option, short = 'f', arg_name = "filter")]
    pub filter: Vec<String>,
    /// output as "table", "table TEMPLATE", "json", or by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// show names alone
    #[argh(switch, short = 'q')]
    pub quiet: bool,
}

fn usage(volume: &Volume, show: impl Fn(&crate::api::volume::VolumeUsage) -> String) -> String {
    volume.usage_data.as_ref().map_or_else(|| "N/A".into(), show)
}

pub static VOLUMES: List<Volume> = List {
    type_name: "*formatter.volumeContext",
    columns: &[
        Column::new("Name", "VOLUME NAME", |v: &Volume| v.name.as_str().into()),
        Column::new("Driver", "DRIVER", |v| v.driver.as_str().into()),
        Column::new("Scope", "SCOPE", |v| v.scope.as_str().into()),
        Column::new("Mountpoint", "MOUNTPOINT", |v| v.mountpoint.as_str().into()),
        Column::new("Labels", "LABELS", |v| v.labels.as_ref().map(lists::labels).unwrap_or_default().into()),
        Column::new("Links", "LINKS", |v| usage(v, |u| u.ref_count.to_string()).into()),
        Column::new("Size", "SIZE", |v| usage(v, |u| human::size(u.size as f64)).into()),
        Column::new("Group", "GROUP", |_| "N/A".into()),
        Column::new("Status", "STATUS", |_| "N/A".into()),
        Column::new("Availability", "AVAILABILITY", |_| "N/A".into()),
    ],
    label: Some(|v, key| v.labels.as_ref().and_then(|l| l.get(key)).cloned().unwrap_or_default()),
    table: "{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
    raw: "name: {{.Name}}\ndriver: {{.Driver}}\n",
};

impl Verb for Ls {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let filters = lists::filters(&self.filter);
        let mut list: VolumeList = cx.client()?.get("/volumes").query_filters(&filters).json()?;
        order::sort_by(&mut list.volumes, |a, b| natural(&a.name, &b.name));
        let format = match self.format.as_deref() {
            Some(format) if !format.is_empty() => format.to_owned(),
            _ if self.quiet => String::new(),
            _ => cx.config().text("volumesFormat").unwrap_or_default().to_owned(),
        };
        let text = VOLUMES.render(&format, self.quiet, list.volumes)?;
        cx.out.write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
