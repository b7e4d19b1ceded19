//! `docker ps`.

use crate::api::container::{ContainerSummary, Port};
use crate::cli::context::Context;
use crate::cli::format::value::Value;
use crate::cli::format::{Column, List, human};
use crate::cli::lists;
use crate::cli::tree::Verb;
use crate::error::Result;
use crate::image::reference::Reference;
use crate::util::id;
use crate::util::order;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// List containers
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Ps {
    /// show stopped ones too (default shows just running)
    #[argh(switch, short = 'a')]
    pub all: bool,
    /// show only what matches
    #[argh(option, short = 'f', arg_name = "filter")]
    pub filter: Vec<String>,
    /// output as "table", "table TEMPLATE", "json", or by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// show the last N created, in any state (default -1)
    #[argh(option, short = 'n', arg_name = "int")]
    pub last: Option<i64>,
    /// show the one created last, in any state
    #[argh(switch, short = 'l')]
    pub latest: bool,
    /// do not shorten what is shown
    #[argh(switch)]
    pub no_trunc: bool,
    /// show IDs alone
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// show the size on disk
    #[argh(switch, short = 's')]
    pub size: bool,
}

/// A row and whether its texts are shortened.
pub struct Row {
    pub c: ContainerSummary,
    pub trunc: bool,
}

pub static LIST: List<Row> = List {
    type_name: "*formatter.ContainerContext",
    columns: &[
        Column::new("Command", "COMMAND", |r: &Row| command(r).into()),
        Column::new("CreatedAt", "CREATED AT", |r| human::date(r.c.created).into()),
        Column::new("ID", "CONTAINER ID", |r| Value::str(if r.trunc { id::short(&r.c.id) } else { &r.c.id })),
        Column::new("Image", "IMAGE", |r| image(r).into()),
        Column::new("Labels", "LABELS", |r| lists::labels(&r.c.labels).into()),
        Column::new("LocalVolumes", "LOCAL VOLUMES", |r| {
            r.c.mounts.iter().filter(|m| m.driver == "local").count().to_string().into()
        }),
        Column::new("Mounts", "MOUNTS", |r| mounts(r).into()),
        Column::new("Names", "NAMES", |r| names(r).into()),
        Column::new("Networks", "NETWORKS", |r| {
            r.c.network_settings.networks.keys().cloned().collect::<Vec<_>>().join(",").into()
        }),
        Column::new("Platform", "PLATFORM", |_| Value::Nil),
        Column::new("Ports", "PORTS", |r| ports(&r.c.ports).into()),
        Column::new("RunningFor", "CREATED", |r| lists::ago(r.c.created).into()),
        Column::new("Size", "SIZE", |r| size(&r.c).into()),
        Column::new("State", "STATE", |r| Value::str(&r.c.state)),
        Column::new("Status", "STATUS", |r| Value::str(&r.c.status)),
    ],
    label: Some(|r, key| r.c.labels.get(key).cloned().unwrap_or_default()),
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet: "{{.ID}}",
    raw: "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n          state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n          labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n",
};

impl Verb for Ps {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let mut format = self.format.clone().unwrap_or_default();
        if format.is_empty() && !self.quiet {
            format = cx.config().text("psFormat").unwrap_or_default().to_owned();
        }
        if self.size && !self.quiet && matches!(format.as_str(), "" | "table") {
            format = format!("table {}\t{{{{.Size}}}}", LIST.table);
        }
        let trunc = !self.no_trunc;
        LIST.check(&format, self.quiet, Row { c: ContainerSummary::default(), trunc })?;
        let size = self.size || wants_size(&format);
        let limit = if self.latest { 1 } else { self.last.unwrap_or(-1) };
        let filters = lists::filters(&self.filter);
        let list = cx.client()?.container_list(self.all, limit, size, &filters)?;
        let text = LIST.render(&format, self.quiet, list.into_iter().map(|c| Row { c, trunc }))?;
        cx.out.write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Sizes cost the daemon time, so they are asked for only when the template shows them.
fn wants_size(format: &str) -> bool {
    format == "json"
        || format.contains("json .")
        || format
            .match_indices(".Size")
            .any(|(at, word)| !format[at + word.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
}

fn command(r: &Row) -> String {
    let text = if r.trunc { human::ellipsis(&r.c.command, 20) } else { r.c.command.clone() };
    crate::util::units::quote(&text)
}

fn image(r: &Row) -> String {
    let image = &r.c.image;
    if image.is_empty() {
        return "<no image>".into();
    }
    if !r.trunc {
        return image.clone();
    }
    let short = id::short(&r.c.image_id);
    if !short.is_empty() && id::short(image) == short {
        return short.to_owned();
    }
    // A name with a tag needs no digest behind it.
    match Reference::parse(image) {
        Ok(name) if name.tag().is_some() && name.digest().is_some() => {
            let tag = name.tag().unwrap_or_default();
            name.without_version().with_tag(tag).map_or_else(|| image.clone(), |n| n.familiar())
        }
        _ => image.clone(),
    }
}

fn names(r: &Row) -> String {
    let bare = r.c.names.iter().map(|n| n.strip_prefix('/').unwrap_or(n));
    // A name with a slash is what another container calls this one by a link.
    match r.trunc {
        true => bare.clone().find(|n| !n.contains('/')).unwrap_or_default().to_owned(),
        false => bare.collect::<Vec<_>>().join(","),
    }
}

fn mounts(r: &Row) -> String {
    let name = |m: &crate::api::container::MountPoint| {
        let name = if m.name.is_empty() { &m.source } else { &m.name };
        if r.trunc { human::ellipsis(name, 15) } else { name.clone() }
    };
    r.c.mounts.iter().map(name).collect::<Vec<_>>().join(",")
}

fn size(c: &ContainerSummary) -> String {
    let own = human::size3(c.size_rw as f64);
    match c.size_root_fs {
        n if n > 0 => format!("{own} (virtual {})", human::size3(n as f64)),
        _ => own,
    }
}

/// Neighbouring ports that are published under their own number are one range.
pub fn ports(ports: &[Port]) -> String {
    let mut sorted: Vec<&Port> = ports.iter().collect();
    order::sort_by(&mut sorted, |a, b| {
        (a.private_port, &a.ip, a.public_port, &a.kind).cmp(&(b.private_port, &b.ip, b.public_port, &b.kind))
    });
    struct Group {
        ip: String,
        kind: String,
        first: u16,
        last: u16,
    }
    let host = |ip: &str| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let show = |g: &Group| {
        let range = if g.first == g.last { g.first.to_string() } else { format!("{}-{}", g.first, g.last) };
        let head = if g.ip.is_empty() { String::new() } else { format!("{}:{range}->", host(&g.ip)) };
        format!("{head}{range}/{}", g.kind)
    };
    let (mut groups, mut out, mut mapped): (Vec<Group>, Vec<String>, Vec<String>) = Default::default();
    for p in sorted {
        if !p.ip.is_empty() && p.public_port != p.private_port {
            mapped.push(format!("{}:{}->{}/{}", host(&p.ip), p.public_port, p.private_port, p.kind));
            continue;
        }
        let (first, last) = (p.private_port, p.private_port);
        match groups.iter_mut().find(|g| g.ip == p.ip && g.kind == p.kind) {
            None => groups.push(Group { ip: p.ip.clone(), kind: p.kind.clone(), first, last }),
            Some(g) if g.last.checked_add(1) == Some(p.private_port) => g.last = p.private_port,
            Some(g) => {
                out.push(show(g));
                (g.first, g.last) = (first, last);
            }
        }
    }
    out.extend(groups.iter().map(show));
    out.extend(mapped);
    out.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges() {
        let p =
            |ip: &str, private_port, public_port| Port { ip: ip.into(), private_port, public_port, kind: "tcp".into() };
        let list = [
            p("0.0.0.0", 80, 80),
            p("::", 80, 80),
            p("0.0.0.0", 81, 81),
            p("::", 81, 81),
            p("", 90, 0),
            p("0.0.0.0", 95, 8095),
        ];
        assert_eq!(ports(&list), "0.0.0.0:80-81->80-81/tcp, [::]:80-81->80-81/tcp, 90/tcp, 0.0.0.0:8095->95/tcp");
    }

    #[test]
    fn sizes_are_asked_for_when_shown() {
        assert!(wants_size("{{.Size}}") && wants_size("table {{.ID}}\t{{.Size}}") && !wants_size("{{.ID}}"));
    }
}
