//! `docker images --tree`: one block per image, its names above one another, the
//! platforms of an index below it.

use crate::api::filters::Filters;
use crate::cli::context::{Context, columns};
use crate::cli::format::human;
use crate::cli::image::ls::Summary;
use crate::error::Result;
use crate::util::id::short;
use crate::util::order;
use std::io::Write;
use std::process::ExitCode;

/// One manifest of an image that is kept with several platforms.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
pub struct Manifest {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Available")]
    available: bool,
    #[serde(rename = "Kind")]
    kind: String,
    #[serde(rename = "Size")]
    size: ManifestSize,
    #[serde(rename = "ImageData")]
    image: ManifestImage,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ManifestSize {
    total: i64,
    content: i64,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ManifestImage {
    platform: Platform,
    containers: Vec<String>,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
struct Platform {
    os: String,
    architecture: String,
    variant: String,
}

impl Platform {
    fn text(&self) -> String {
        let parts = [&self.os, &self.architecture, &self.variant];
        parts.into_iter().filter(|p| !p.is_empty()).cloned().collect::<Vec<_>>().join("/")
    }
}

/// The four columns beside a name or a platform.
struct Details {
    cells: [String; 3],
    used: bool,
}

struct Child {
    platform: String,
    details: Details,
    available: bool,
}

/// An image. Its longest name comes first and the shortest stands beside the columns.
struct Top {
    names: Vec<String>,
    details: Details,
    children: Vec<Child>,
}

const HEADS: [&str; 5] = ["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"];
const WIDTHS: [usize; 5] = [5, 12, 10, 12, 5];
const GAP: &str = "   ";

pub fn run(cx: &mut Context, all: bool, filters: &Filters) -> Result<ExitCode> {
    let client = cx.client()?;
    let request = client.get("/images/json").query_filters(filters).query_if("all", all);
    let mut images: Vec<Summary> = request.query("manifests", "1").json()?;
    order::sort_by_key(&mut images, |i| std::cmp::Reverse(i.created));
    let named = |i: &&Summary| all || !(i.repo_tags.is_empty() && i.repo_digests.is_empty());
    let images: Vec<Top> = images.iter().filter(named).map(top).collect();
    let terminal = cx.out.is_terminal();
    let width = columns(&cx.out).unwrap_or(80);
    let mut text = String::new();
    let warning = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
    if terminal {
        text.push_str(&format!("\x1b[93m{warning}\x1b[0m\n"));
    } else {
        text.push_str(&format!("{warning}\n"));
    }
    text.push_str(&legend(width, terminal));
    text.push('\n');
    Table::new(&images, width, terminal).write(&mut text, &images);
    cx.out.write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn legend(width: usize, terminal: bool) -> String {
    let (shown, plain) = match terminal {
        false => ("Info ->  U In Use ".to_owned(), 18),
        true => (
            "\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo → \x1b[0m\x1b[0m \x1b[38;5;0m\x1b[48;5;14m U \x1b[0m In Use ".to_owned(),
            21,
        ),
    };
    format!("{}{shown}\n", " ".repeat(width.saturating_sub(plain)))
}

fn details(id: &str, size: i64, content: i64, used: bool) -> Details {
    let cells = [short(id).to_owned(), human::size3(size as f64), human::size3(content as f64)];
    Details { cells, used }
}

fn top(image: &Summary) -> Top {
    let used = image.containers > 0 || image.manifests.iter().any(|m| !m.image.containers.is_empty());
    let content: i64 = image.manifests.iter().map(|m| m.size.content).sum();
    let mut names = image.repo_tags.clone();
    order::sort_by_key(&mut names, |name| std::cmp::Reverse(name.len()));
    let child = |m: &Manifest| Child {
        platform: m.image.platform.text(),
        details: details(&m.id, m.size.total, m.size.content, !m.image.containers.is_empty()),
        available: m.available,
    };
    let children = image.manifests.iter().filter(|m| m.kind == "image").map(child).collect();
    Top { names, details: details(&image.id, image.size, content, used), children }
}

const NAME: &str = "\x1b[34m\x1b[1m";
const NORMAL: &str = "\x1b[39m";
const FAINT: &str = "\x1b[39m\x1b[2m";
const TITLE: &str = "\x1b[39m\x1b[1m";

struct Table {
    terminal: bool,
    /// Of the terminal.
    width: usize,
    /// Of the first column.
    first: usize,
    shown: usize,
    /// An image with platforms has room below it, and so have all others.
    spaced: bool,
}

impl Table {
    fn new(images: &[Top], width: usize, terminal: bool) -> Self {
        // What would leave fewer than twelve columns for the names is not shown.
        let (mut left, mut shown) = (width.max(20), 1);
        while shown < HEADS.len() && left >= WIDTHS[shown] + GAP.len() + 12 {
            left -= WIDTHS[shown] + GAP.len();
            shown += 1;
        }
        // The branch in front of a platform counts by its seven bytes.
        let names = images.iter().flat_map(|t| t.names.iter().map(String::len));
        let platforms = images.iter().flat_map(|t| t.children.iter().map(|c| c.platform.len() + "└─ ".len()));
        let first = names.chain(platforms).fold(WIDTHS[0], usize::max).min(left);
        Self { terminal, width, first, shown, spaced: images.iter().any(|t| !t.children.is_empty()) }
    }

    fn paint(&self, s: &str, colour: &str) -> String {
        if self.terminal { format!("{colour}{s}\x1b[0m") } else { s.to_owned() }
    }

    /// The first column: what does not fit is cut.
    fn name(&self, s: &str, colour: &str) -> String {
        let cut = human::ellipsis(s, self.first);
        self.paint(&cut, colour) + &" ".repeat(self.first - cut.chars().count())
    }

    fn details(&self, text: &mut String, of: &Details, colour: &str) {
        for (i, cell) in of.cells.iter().enumerate().take(self.shown - 1) {
            let pad = " ".repeat(WIDTHS[i + 1].saturating_sub(cell.chars().count()));
            let cell = self.paint(cell, colour);
            let cell = if i == 0 { format!("{cell}{pad}") } else { format!("{pad}{cell}") };
            text.push_str(&format!("{GAP}{cell}"));
        }
        if self.shown == HEADS.len() {
            text.push_str(GAP);
            text.push_str(match (of.used, self.terminal) {
                (false, _) => "     ",
                (true, false) => "U    ",
                (true, true) => "\x1b[38;5;0m\x1b[48;5;14m U \x1b[0m  ",
            });
        }
    }

    fn write(&self, text: &mut String, images: &[Top]) {
        for (i, head) in HEADS[..self.shown].iter().enumerate() {
            // Bold even into a pipe, as the original has it.
            let pad = if i == 0 { self.first } else { WIDTHS[i] } - head.len();
            let gap = if i == 0 { "" } else { GAP };
            text.push_str(&format!("{gap}{TITLE}{head}\x1b[0m{}", " ".repeat(pad)));
        }
        text.push('\n');
        for top in images {
            match top.names.split_last() {
                None => text.push_str(&self.name("<untagged>", FAINT)),
                Some((last, others)) => {
                    for name in others {
                        let name = if self.terminal { human::ellipsis(name, self.width) } else { name.clone() };
                        text.push_str(&self.paint(&name, NAME));
                        text.push('\n');
                    }
                    text.push_str(&self.name(last, NAME));
                }
            }
            self.details(text, &top.details, NORMAL);
            text.push_str(if self.spaced { "\n" } else { "" });
            for (i, child) in top.children.iter().enumerate() {
                let branch = if i + 1 == top.children.len() { "└─" } else { "├─" };
                let colour = if child.available { NORMAL } else { FAINT };
                text.push_str(&self.name(&format!("{branch} {}", child.platform), colour));
                self.details(text, &child.details, colour);
                text.push('\n');
            }
            text.push('\n');
        }
    }
}
