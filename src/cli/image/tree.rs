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

/// A line: name, then the four columns, which only an image's last name has.
struct Line {
    name: String,
    cells: Option<[String; 3]>,
    used: bool,
    /// Not a name of an image: drawn plain.
    child: bool,
    available: bool,
}

const HEADS: [&str; 5] = ["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"];
const WIDTHS: [usize; 5] = [5, 12, 10, 12, 5];
const GAP: &str = "   ";

pub fn run(cx: &mut Context, all: bool, filters: &Filters) -> Result<ExitCode> {
    let client = cx.client()?;
    let request = client.get("/images/json").query_filters(filters).query_if("all", all);
    let mut images: Vec<Summary> = request.query("manifests", "1").json()?;
    order::sort_by_key(&mut images, |i| std::cmp::Reverse(i.created));
    let lines: Vec<Line> = images.iter().filter(|i| all || !i.repo_tags.is_empty()).flat_map(lines).collect();
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
    table(&mut text, &lines, width, terminal);
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

fn lines(image: &Summary) -> Vec<Line> {
    let used = image.containers > 0 || image.manifests.iter().any(|m| !m.image.containers.is_empty());
    let content: i64 = image.manifests.iter().map(|m| m.size.content).sum();
    let cells = |id: &str, size: i64, content: i64| {
        Some([short(id).to_owned(), human::size3(size as f64), human::size3(content as f64)])
    };
    let mut names = image.repo_tags.clone();
    if names.is_empty() {
        names.push("<untagged>".into());
    }
    let last = names.len() - 1;
    let mut lines: Vec<Line> = names
        .into_iter()
        .enumerate()
        .map(|(i, name)| Line {
            name,
            cells: if i == last { cells(&image.id, image.size, content) } else { None },
            used: used && i == last,
            child: false,
            available: true,
        })
        .collect();
    let children: Vec<_> = image.manifests.iter().filter(|m| m.kind == "image").collect();
    if children.len() < 2 {
        return lines;
    }
    for (i, manifest) in children.iter().enumerate() {
        let branch = if i + 1 == children.len() { "└─" } else { "├─" };
        lines.push(Line {
            name: format!("{branch} {}", manifest.image.platform.text()),
            cells: cells(&manifest.id, manifest.size.total, manifest.size.content),
            used: !manifest.image.containers.is_empty(),
            child: true,
            available: manifest.available,
        });
    }
    lines
}

fn table(text: &mut String, lines: &[Line], width: usize, terminal: bool) {
    let longest = lines.iter().map(|l| l.name.chars().count()).max().unwrap_or(0).max(WIDTHS[0]);
    // What does not fit is left out from the right; names give way first.
    let mut shown = HEADS.len();
    let rest = |shown: usize| WIDTHS[1..shown].iter().map(|w| w + GAP.len()).sum::<usize>();
    while shown > 2 && rest(shown) + longest.min(20) > width {
        shown -= 1;
    }
    let first = longest.min(width.saturating_sub(rest(shown))).max(WIDTHS[0]);
    let bold = |s: &str| format!("\x1b[39m\x1b[1m{s}\x1b[0m");
    for (i, head) in HEADS[..shown].iter().enumerate() {
        text.push_str(&bold(head));
        if i + 1 < shown {
            let pad = if i == 0 { first } else { WIDTHS[i] } - head.len();
            text.push_str(&" ".repeat(pad));
            text.push_str(GAP);
        }
    }
    text.push('\n');
    let colour = |s: &str, code: &str| if terminal { format!("{code}{s}\x1b[0m") } else { s.to_owned() };
    for line in lines {
        let name = human::ellipsis(&line.name, first);
        let faint = if line.available { "\x1b[39m" } else { "\x1b[2m" };
        let style = if line.child { faint } else { "\x1b[34m\x1b[1m" };
        text.push_str(&colour(&name, style));
        if let Some(cells) = &line.cells {
            text.push_str(&" ".repeat(first - name.chars().count()));
            for (i, cell) in cells.iter().enumerate().take(shown - 1) {
                let pad = " ".repeat(WIDTHS[i + 1].saturating_sub(cell.len()));
                let cell = colour(cell, faint);
                let cell = if i == 0 { format!("{cell}{pad}") } else { format!("{pad}{cell}") };
                text.push_str(&format!("{GAP}{cell}"));
            }
            if shown == HEADS.len() {
                let chip = match (line.used, terminal) {
                    (false, _) => "     ".to_owned(),
                    (true, false) => " U   ".to_owned(),
                    (true, true) => "\x1b[38;5;0m\x1b[48;5;14m U \x1b[0m  ".to_owned(),
                };
                text.push_str(&format!("{GAP}{chip}"));
            }
        }
        text.push('\n');
    }
}
