//! `docker history`.

use crate::cli::context::Context;
use crate::cli::format::{Column, List, human};
use crate::cli::image::platform;
use crate::cli::lists::{ago, rfc3339};
use crate::cli::tree::Verb;
use crate::client::segment;
use crate::error::Result;
use crate::util::id::short;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Show how an image came about
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct History {
    /// output as "table", "table TEMPLATE", "json", or by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// sizes and dates for people (default true)
    #[argh(option, short = 'H', arg_name = "bool", default = "true")]
    pub human: bool,
    /// do not shorten what is shown
    #[argh(switch)]
    pub no_trunc: bool,
    /// platform to show where there are several
    #[argh(option, arg_name = "string")]
    pub platform: Option<String>,
    /// show IDs alone
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    #[argh(positional)]
    pub image: String,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Layer {
    id: String,
    created: i64,
    created_by: String,
    size: i64,
    comment: String,
}

pub struct Row {
    layer: Layer,
    human: bool,
    full: bool,
}

static HISTORY: List<Row> = List {
    type_name: "*image.historyContext",
    columns: &[
        Column::new("ID", "IMAGE", |r: &Row| if r.full { r.layer.id.as_str() } else { short(&r.layer.id) }.into()),
        Column::new("CreatedAt", "CREATED AT", |r| rfc3339(r.layer.created).into()),
        Column::new("CreatedSince", "CREATED", |r| {
            if r.human { ago(r.layer.created) } else { rfc3339(r.layer.created) }.into()
        }),
        Column::new("CreatedBy", "CREATED BY", |r| {
            let text = r.layer.created_by.replace('\t', " ");
            if r.full { text } else { human::ellipsis(&text, 45) }.into()
        }),
        Column::new("Size", "SIZE", |r| {
            if r.human { human::size3(r.layer.size as f64) } else { r.layer.size.to_string() }.into()
        }),
        Column::new("Comment", "COMMENT", |r| r.layer.comment.as_str().into()),
    ],
    label: None,
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "{{.ID}}",
    raw: "",
};

impl Verb for History {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let platform = platform(self.platform.as_deref())?;
        let request = cx.client()?;
        let request = request.get(format!("/images/{}/history", segment(&self.image)));
        let layers: Vec<Layer> = request.query_opt("platform", platform.as_deref()).json()?;
        let format = match self.format.as_deref().unwrap_or_default() {
            "" | "table" if !self.quiet && !self.human => {
                "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
            }
            other => other,
        };
        let (human, full) = (self.human, self.no_trunc);
        let rows = layers.into_iter().map(|layer| Row { layer, human, full });
        let text = HISTORY.render(format, self.quiet, rows)?;
        cx.out.write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
