//! `docker images`.

use crate::cli::context::Context;
use crate::cli::format::{Column, List, human};
use crate::cli::image::tree;
use crate::cli::lists;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use crate::util::id::short;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// List images
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Ls {
    /// show all of them (default hides intermediate images)
    #[argh(switch, short = 'a')]
    pub all: bool,
    /// show digests
    #[argh(switch)]
    pub digests: bool,
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
    /// show multi-platform images as a tree
    #[argh(switch)]
    pub tree: bool,
    #[argh(positional)]
    pub reference: Option<String>,
}

const WITH_DIGESTS: &str = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince}}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";

/// An image of a list on the wire.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Summary {
    pub id: String,
    pub created: i64,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub size: i64,
    pub shared_size: i64,
    pub containers: i64,
    pub manifests: Vec<tree::Manifest>,
}

/// A line of the list: an image under one of its names.
#[derive(Debug, Clone, Default)]
pub struct Row {
    id: String,
    created: i64,
    size: i64,
    shared_size: i64,
    containers: i64,
    repository: String,
    tag: String,
    pub digest: String,
    full: bool,
}

const NONE: &str = "<none>";

/// The lines of one image. With `digests` a tag has a line per digest of its
/// repository; digests without a tag have lines of their own, all or the first.
pub fn rows(image: &Summary, digests: bool, all: bool, full: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |repository: &str, tag: &str, digest: &str| {
        rows.push(Row {
            id: image.id.clone(),
            created: image.created,
            size: image.size,
            shared_size: image.shared_size,
            containers: image.containers,
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            digest: digest.to_owned(),
            full,
        });
    };
    let split = |name: &'_ str, at: char| name.rsplit_once(at).map(|(a, b)| (a.to_owned(), b.to_owned()));
    let tags: Vec<_> = image.repo_tags.iter().filter_map(|t| split(t, ':')).filter(|t| t.0 != NONE).collect();
    let named: Vec<_> = image.repo_digests.iter().filter_map(|d| split(d, '@')).filter(|d| d.0 != NONE).collect();
    if tags.is_empty() && named.is_empty() {
        add(NONE, NONE, NONE);
    }
    for (repository, tag) in &tags {
        let own: Vec<_> = named.iter().filter(|(r, _)| digests && r == repository).collect();
        if own.is_empty() {
            add(repository, tag, NONE);
        }
        for (_, digest) in own {
            add(repository, tag, digest);
        }
    }
    let mut shown: Vec<&str> = Vec::new();
    for (repository, digest) in named.iter().filter(|(r, _)| !tags.iter().any(|(t, _)| t == r)) {
        if all {
            add(repository, NONE, digest);
        } else if !shown.contains(&repository.as_str()) {
            add(repository, NONE, "");
            shown.push(repository);
        }
    }
    rows
}

/// A size that the daemon did not count is -1.
fn counted(size: i64) -> String {
    if size == -1 { "N/A".into() } else { human::size(size as f64) }
}

pub static IMAGES: List<Row> = List {
    type_name: "*formatter.imageContext",
    columns: &[
        Column::new("ID", "IMAGE ID", |r: &Row| if r.full { r.id.as_str() } else { short(&r.id) }.into()),
        Column::new("Repository", "REPOSITORY", |r| r.repository.as_str().into()),
        Column::new("Tag", "TAG", |r| r.tag.as_str().into()),
        Column::new("Digest", "DIGEST", |r| r.digest.as_str().into()),
        Column::new("CreatedSince", "CREATED", |r| {
            if r.created == 0 { String::new() } else { lists::ago(r.created) }.into()
        }),
        Column::new("CreatedAt", "CREATED AT", |r| human::date(r.created).into()),
        Column::new("Size", "SIZE", |r| human::size3(r.size as f64).into()),
        Column::new("Containers", "CONTAINERS", |r| {
            if r.containers == -1 { "N/A".into() } else { r.containers.to_string().into() }
        }),
        Column::new("VirtualSize", "SIZE", |r| human::size(r.size as f64).into()),
        Column::new("SharedSize", "SHARED SIZE", |r| counted(r.shared_size).into()),
        Column::new("UniqueSize", "UNIQUE SIZE", |r| {
            if r.shared_size == -1 { "N/A".into() } else { counted(r.size - r.shared_size).into() }
        }),
    ],
    label: None,
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince}}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}",
    quiet: "{{.ID}}",
    raw: "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
};

impl Verb for Ls {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let mut filters = lists::filters(&self.filter);
        if let Some(name) = &self.reference {
            filters.add("reference", name);
        }
        if self.tree {
            let conflict = [
                (self.quiet, "--quiet"),
                (self.no_trunc, "--no-trunc"),
                (self.digests, "--show-digest"),
                (self.format.as_deref().is_some_and(|f| !f.is_empty()), "--format"),
            ];
            if let Some((_, name)) = conflict.iter().find(|(given, _)| *given) {
                return Err(Error::invalid(format!("{name} is not yet supported with --tree")));
            }
            return tree::run(cx, self.all, &filters);
        }
        let client = cx.client()?;
        let request = client.get("/images/json").query_filters(&filters).query_if("all", self.all);
        let images: Vec<Summary> = request.json()?;
        let format = match self.format.as_deref() {
            Some(format) if !format.is_empty() => format.to_owned(),
            _ if self.quiet => String::new(),
            _ => cx.config().text("imagesFormat").unwrap_or_default().to_owned(),
        };
        let plain = matches!(format.as_str(), "" | "table");
        let format = if plain && self.digests && !self.quiet { WITH_DIGESTS.to_owned() } else { format };
        let digests = self.digests || format.contains(".Digest");
        let rows = images.iter().flat_map(|image| rows(image, digests, self.digests, self.no_trunc));
        let text = IMAGES.render(&format, self.quiet, rows)?;
        cx.out.write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
