//! `docker search`.

use crate::api::registry::SearchResult;
use crate::cli::context::Context;
use crate::cli::format::value::Value;
use crate::cli::format::{Column, List, human};
use crate::cli::tree::Verb;
use crate::cli::{credentials, lists};
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Search Docker Hub
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Search {
    /// show only what matches
    #[argh(option, short = 'f', arg_name = "filter")]
    pub filter: Vec<String>,
    /// output by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// most results to show
    #[argh(option, arg_name = "int")]
    pub limit: Option<i64>,
    /// do not shorten what is shown
    #[argh(switch)]
    pub no_trunc: bool,
    #[argh(positional)]
    pub term: String,
}

pub struct Row {
    found: SearchResult,
    full: bool,
    json: bool,
}

/// `[OK]` in a table, a word in JSON.
fn flag(value: bool, json: bool) -> Value {
    match (value, json) {
        (true, true) => "true",
        (true, false) => "[OK]",
        (false, true) => "false",
        (false, false) => "",
    }
    .into()
}

static SEARCH: List<Row> = List {
    type_name: "*registry.searchContext",
    columns: &[
        Column::new("Name", "NAME", |r: &Row| r.found.name.as_str().into()),
        Column::new("Description", "DESCRIPTION", |r| {
            let text = r.found.description.replace(['\n', '\r'], " ");
            if r.full { text } else { human::ellipsis(&text, 45) }.into()
        }),
        Column::new("StarCount", "STARS", |r| r.found.star_count.to_string().into()),
        Column::new("IsOfficial", "OFFICIAL", |r| flag(r.found.is_official, r.json)),
    ],
    label: None,
    table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
    quiet: "{{.Name}}",
    raw: "",
};

impl Verb for Search {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let host = self.term.split_once('/').map_or("", |(host, _)| host);
        let registry = if host.contains(['.', ':']) || host == "localhost" { host } else { "docker.io" };
        let header = credentials::offered(cx, registry).map_or_else(|| "e30=".to_owned(), |c| c.header());
        let client = cx.client()?;
        let found: Vec<SearchResult> = client
            .get("/images/search")
            .query("term", &self.term)
            .query_opt("limit", self.limit.filter(|l| *l != 0).map(|l| l.to_string()))
            .query_filters(&lists::filters(&self.filter))
            .header("X-Registry-Auth", header)
            .json()?;
        let format = self.format.unwrap_or_default();
        let rows = found.into_iter().map(|found| Row { found, full: self.no_trunc, json: format == "json" });
        let text = SEARCH.render(&format, false, rows)?;
        cx.out.write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
