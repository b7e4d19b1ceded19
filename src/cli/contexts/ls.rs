//! `docker context ls`.

use crate::cli::context::Context;
use crate::cli::context_store::{DEFAULT, natural};
use crate::cli::contexts;
use crate::cli::format::value::Value;
use crate::cli::format::{Column, List, human};
use crate::cli::tree::Verb;
use crate::error::Result;
use crate::util::order;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// List contexts
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Ls {
    /// output as "table", "table TEMPLATE", "json", or by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// show names alone
    #[argh(switch, short = 'q')]
    pub quiet: bool,
}

#[derive(Default)]
struct Row {
    name: String,
    current: bool,
    description: String,
    endpoint: String,
    error: String,
}

static CONTEXTS: List<Row> = List {
    type_name: "*formatter.clientContextContext",
    columns: &[
        Column::new("Current", "", |r: &Row| Value::Bool(r.current)),
        Column::new("Description", "DESCRIPTION", |r| r.description.as_str().into()),
        Column::new("DockerEndpoint", "DOCKER ENDPOINT", |r| r.endpoint.as_str().into()),
        Column::new("Error", "ERROR", |r| human::ellipsis(&r.error, 45).into()),
        Column::new("Name", "NAME", |r| r.name.as_str().into()),
    ],
    label: None,
    table: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
    quiet: "{{.Name}}",
    raw: "",
};

impl Verb for Ls {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let current = crate::cli::host::context_name(cx)?;
        let mut rows = Vec::new();
        for meta in contexts::store(cx).list()? {
            rows.push(Row {
                current: meta.name == current,
                description: meta.description().to_owned(),
                endpoint: meta.host().to_owned(),
                name: meta.name,
                error: String::new(),
            });
        }
        let mut default = Row { name: DEFAULT.into(), current: current == DEFAULT, ..Row::default() };
        match contexts::resolve(cx, DEFAULT) {
            Ok((meta, _)) => {
                default.description = meta.description().to_owned();
                default.endpoint = meta.host().to_owned();
            }
            Err(e) => default.error = e.message().to_owned(),
        }
        rows.push(default);
        if !rows.iter().any(|r| r.name == current) {
            let error = contexts::resolve(cx, &current).err().map(|e| e.message().to_owned()).unwrap_or_default();
            rows.push(Row { name: current.clone(), current: true, error, ..Row::default() });
        }
        order::sort_by(&mut rows, |a, b| natural(&a.name, &b.name));
        let text = CONTEXTS.render(self.format.as_deref().unwrap_or_default(), self.quiet, rows)?;
        cx.out.write_all(text.as_bytes())?;
        cx.out.flush()?;
        if std::env::var_os("DOCKER_HOST").is_some_and(|h| !h.is_empty()) && !self.quiet {
            writeln!(
                cx.err,
                "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the global --context flag, or unset DOCKER_HOST environment variable."
            )?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
