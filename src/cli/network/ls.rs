//! `docker network ls`.

use crate::api::network::NetworkInspect;
use crate::cli::context::Context;
use crate::cli::context_store::natural;
use crate::cli::format::{Column, List};
use crate::cli::lists;
use crate::cli::tree::Verb;
use crate::error::Result;
use crate::util::id::short;
use crate::util::order;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// List networks
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Ls {
    /// show only what matches
    #[argh(option, short = 'f', arg_name = "filter")]
    pub filter: Vec<String>,
    /// output as "table", "table TEMPLATE", "json", or by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// do not shorten what is shown
    #[argh(switch)]
    pub no_trunc: bool,
    /// show IDs alone
    #[argh(switch, short = 'q')]
    pub quiet: bool,
}

pub struct Row {
    network: NetworkInspect,
    full: bool,
}

pub static NETWORKS: List<Row> = List {
    type_name: "*network.networkContext",
    columns: &[
        Column::new("ID", "NETWORK ID", |r: &Row| {
            if r.full { r.network.id.as_str() } else { short(&r.network.id) }.into()
        }),
        Column::new("Name", "NAME", |r| r.network.name.as_str().into()),
        Column::new("Driver", "DRIVER", |r| r.network.driver.as_str().into()),
        Column::new("Scope", "SCOPE", |r| r.network.scope.as_str().into()),
        Column::new("IPv4", "IPV4", |r| r.network.enable_ipv4.to_string().into()),
        Column::new("IPv6", "IPV6", |r| r.network.enable_ipv6.to_string().into()),
        Column::new("Internal", "INTERNAL", |r| r.network.internal.to_string().into()),
        Column::new("Labels", "LABELS", |r| lists::labels(&r.network.labels).into()),
        Column::new("CreatedAt", "CREATED AT", |r| lists::go_time(&r.network.created).into()),
    ],
    label: Some(|r, key| r.network.labels.get(key).cloned().unwrap_or_default()),
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "{{.ID}}",
    raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
};

impl Verb for Ls {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let filters = lists::filters(&self.filter);
        let mut networks: Vec<NetworkInspect> = cx.client()?.get("/networks").query_filters(&filters).json()?;
        order::sort_by(&mut networks, |a, b| natural(&a.name, &b.name));
        let format = match self.format.as_deref() {
            Some(format) if !format.is_empty() => format.to_owned(),
            _ if self.quiet => String::new(),
            _ => cx.config().text("networksFormat").unwrap_or_default().to_owned(),
        };
        let full = self.no_trunc;
        let rows = networks.into_iter().map(|network| Row { network, full });
        let text = NETWORKS.render(&format, self.quiet, rows)?;
        cx.out.write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
