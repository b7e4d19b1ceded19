//! The generator behind `coracle docs DIR`: `man/*.1`, `man/dockerd.8` and
//! `completions/*`, from the command table and argh's descriptions. What a table
//! cannot say (why, examples, files) stands in `manual/prose.rs`.
//!
//! Invariant: the same sources give the same bytes; the files are committed and a
//! test fails when they are not what this writes.

mod prose;

use crate::cli::complete;
use crate::cli::context::Globals;
use crate::cli::help;
use crate::cli::tree::{COMMANDS, Command, GROUPS, Group};
use crate::error::{Context as _, Error, Result};
use crate::util::order;
use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// `coracle docs [DIR]`; `daemon` describes dockerd's command line.
pub fn main(args: &[OsString], daemon: &CommandInfoWithArgs) -> ExitCode {
    let dir = args.first().map_or_else(|| Path::new("."), Path::new);
    match write(dir, daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "coracle docs: {e}");
            ExitCode::FAILURE
        }
    }
}

fn write(dir: &Path, daemon: &CommandInfoWithArgs) -> Result<()> {
    for folder in ["man", "completions"] {
        let path = dir.join(folder);
        std::fs::create_dir_all(&path).with_context(|| format!("mkdir {}", path.display()))?;
    }
    for (name, text) in files(daemon) {
        let path = dir.join(&name);
        std::fs::write(&path, text).map_err(Error::from).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Every generated file: its path and its text.
pub fn files(daemon: &CommandInfoWithArgs) -> Vec<(String, String)> {
    let mut files = vec![
        ("man/docker.1".to_owned(), root()),
        ("man/dockerd.8".to_owned(), dockerd(daemon)),
        ("completions/docker.bash".to_owned(), complete::BASH.to_owned()),
        ("completions/_docker".to_owned(), complete::ZSH.to_owned()),
        ("completions/docker.fish".to_owned(), complete::FISH.to_owned()),
    ];
    for found in GROUPS.iter().filter(|g| !g.hidden) {
        files.push((format!("man/{}.1", page(found.name)), group(found)));
    }
    for found in COMMANDS.iter().filter(|c| shown(c)) {
        let main = found.names[0];
        files.push((format!("man/{}.1", page(main)), command(found)));
        for alias in &found.names[1..] {
            files.push((format!("man/{}.1", page(alias)), format!(".so man1/{}.1\n", page(main))));
        }
    }
    order::sort(&mut files);
    files
}

/// Commands that only answer for something that is not here have no page.
fn shown(command: &Command) -> bool {
    let group = command.names[0].split(' ').next().unwrap_or_default();
    let hidden = GROUPS.iter().any(|g| g.hidden && g.name == group);
    !command.hidden && !hidden && (!command.raw || group == "plugin")
}

fn page(name: &str) -> String {
    format!("docker-{}", name.replace(' ', "-"))
}

/// Characters that troff would take for its own.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let lines: Vec<String> =
        text.lines().map(|l| if l.starts_with(['.', '\'']) { format!("\\&{l}") } else { l.to_owned() }).collect();
    lines.join("\n")
}

fn head(name: &str, section: u8, about: &str) -> String {
    let about = about.trim_end_matches('.');
    let about = about
        .chars()
        .next()
        .map_or_else(String::new, |c| c.to_lowercase().chain(about.chars().skip(1)).collect::<String>());
    format!(
        ".\\\" Written by \"coracle docs\"; edit the command, not this file.\n.TH {} {section} \"\" \"Coracle {}\" \"Docker commands\"\n.SH NAME\n{} \\- {}\n",
        name.to_uppercase().replace('-', "\\-"),
        env!("CARGO_PKG_VERSION"),
        name.replace('-', "\\-"),
        escape(&about),
    )
}

fn command(found: &Command) -> String {
    let name = found.names[0];
    let info = (found.info)();
    let about = help::capital(&help::about(found));
    let mut out = head(&page(name), 1, &about);
    out.push_str(".SH SYNOPSIS\n");
    for form in found.usage.split('\n') {
        out.push_str(&format!(".B docker {}\n{}\n.br\n", name.replace('-', "\\-"), synopsis(form)));
    }
    out.push_str(&format!(".SH DESCRIPTION\n{}.\n", escape(about.trim_end_matches('.'))));
    let told = prose::of(name);
    paragraphs(&mut out, told.description);
    let flags: Vec<&FlagInfo<'_>> =
        info.flags.iter().filter(|f| !f.hidden && f.long != "--help" && !found.without.contains(&f.long)).collect();
    options(&mut out, flags);
    sections(&mut out, &told);
    if found.names.len() > 1 {
        let names: Vec<String> = found.names.iter().map(|n| format!("docker {}", n.replace('-', "\\-"))).collect();
        out.push_str(&format!(".SH ALIASES\n{}\n", names.join(", ")));
    }
    out.push_str(".SH EXIT STATUS\n");
    let usual = "0 on success, 1 when something failed, 125 for a line that cannot be read.";
    out.push_str(&format!("{}\n", escape(if told.exit.is_empty() { usual } else { told.exit })));
    out.push_str(".SH SEE ALSO\n");
    if let Some((parent, _)) = name.rsplit_once(' ') {
        out.push_str(&format!(".BR {} (1),\n", page(parent).replace('-', "\\-")));
    }
    out.push_str(".BR docker (1)\n");
    out
}

fn group(found: &Group) -> String {
    let name = found.name;
    let mut out = head(&page(name), 1, found.about);
    out.push_str(&format!(".SH SYNOPSIS\n.B docker {name}\n.I COMMAND\n"));
    out.push_str(&format!(".SH DESCRIPTION\n{}.\n", escape(found.about.trim_end_matches('.'))));
    paragraphs(&mut out, prose::of(name).description);
    out.push_str(".SH COMMANDS\n");
    let prefix = format!("{name} ");
    let mut children: Vec<(&str, String)> = COMMANDS
        .iter()
        .filter(|c| !c.hidden)
        .filter_map(|c| {
            Some((*c.names.iter().find(|n| n.strip_prefix(&prefix).is_some_and(|r| !r.contains(' ')))?, help::about(c)))
        })
        .collect();
    order::sort(&mut children);
    for (child, about) in children {
        out.push_str(&format!(
            ".TP\n.BR {} (1)\n{}.\n",
            page(child).replace('-', "\\-"),
            escape(help::capital(&about).trim_end_matches('.'))
        ));
    }
    out.push_str(".SH SEE ALSO\n.BR docker (1)\n");
    out
}

fn root() -> String {
    let mut out = head("docker", 1, "run programs in containers");
    out.push_str(".SH SYNOPSIS\n.B docker\n[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARG\\fR...]\n");
    let told = prose::of("");
    out.push_str(".SH DESCRIPTION\n");
    paragraphs(&mut out, told.description.trim_start_matches('\n'));
    let info = Globals::get_args_info();
    options(&mut out, info.flags.iter().filter(|f| f.long != "--help").collect());
    out.push_str(".SH COMMANDS\n");
    let mut names: Vec<(String, String)> = COMMANDS
        .iter()
        .filter(|c| shown(c))
        .filter_map(|c| {
            let name = c.names.iter().find(|n| !n.contains(' ')).unwrap_or(&c.names[0]);
            (!name.contains(' ')).then(|| ((*name).to_owned(), help::about(c)))
        })
        .chain(
            GROUPS
                .iter()
                .filter(|g| !g.hidden && !g.name.contains(' '))
                .map(|g| (g.name.to_owned(), g.about.to_owned())),
        )
        .collect();
    order::sort(&mut names);
    for (name, about) in names {
        out.push_str(&format!(
            ".TP\n.BR {} (1)\n{}.\n",
            page(&name).replace('-', "\\-"),
            escape(help::capital(&about).trim_end_matches('.'))
        ));
    }
    sections(&mut out, &told);
    out.push_str(&format!(".SH EXIT STATUS\n{}\n", escape(told.exit)));
    out.push_str(".SH SEE ALSO\n.BR dockerd (8)\n");
    out
}

fn dockerd(daemon: &CommandInfoWithArgs) -> String {
    let mut out = head("dockerd", 8, daemon.description);
    out.push_str(".SH SYNOPSIS\n.B dockerd\n[\\fIOPTIONS\\fR]\n");
    let told = prose::of("dockerd");
    out.push_str(".SH DESCRIPTION\n");
    paragraphs(&mut out, told.description.trim_start_matches('\n'));
    options(&mut out, daemon.flags.iter().filter(|f| !f.hidden && f.long != "--help").collect());
    sections(&mut out, &told);
    out.push_str(&format!(".SH EXIT STATUS\n{}\n", escape(told.exit)));
    out.push_str(".SH SEE ALSO\n.BR docker (1)\n");
    out
}

/// Upper-case words of a usage are what the user fills in.
fn synopsis(form: &str) -> String {
    let mut out = String::new();
    for (i, word) in form.split(' ').enumerate() {
        if i > 0 {
            out.push(' ');
        }
        let start = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
        let (open, rest) = word.split_at(start);
        let end = rest.find([']', '.']).unwrap_or(rest.len());
        let (inner, close) = rest.split_at(end);
        if inner.is_empty() {
            out.push_str(&escape(word));
        } else {
            out.push_str(&format!("{}\\fI{}\\fR{}", escape(open), escape(inner), escape(close)));
        }
    }
    out
}

fn options(out: &mut String, mut flags: Vec<&FlagInfo<'_>>) {
    if flags.is_empty() {
        return;
    }
    order::sort_by_key(&mut flags, |f| f.long);
    out.push_str(".SH OPTIONS\n");
    for flag in flags {
        let long = escape(flag.long);
        let name = match flag.short {
            Some(c) => format!("\\fB\\-{c}\\fR, \\fB{long}\\fR"),
            None => format!("\\fB{long}\\fR"),
        };
        let value = match &flag.kind {
            FlagInfoKind::Option { arg_name: "bool" } => "[=\\fIbool\\fR]".to_owned(),
            FlagInfoKind::Option { arg_name } => format!(" \\fI{}\\fR", escape(arg_name)),
            FlagInfoKind::Switch => String::new(),
        };
        let about = help::capital(flag.description).replace("{config}", "~/.docker");
        out.push_str(&format!(".TP\n{name}{value}\n{}\n", escape(&about)));
    }
}

/// Blank lines of prose end paragraphs; indented lines are examples.
fn paragraphs(out: &mut String, text: &str) {
    for paragraph in text.trim_matches('\n').split("\n\n").filter(|p| !p.is_empty()) {
        if paragraph.starts_with("    ") {
            let lines: Vec<&str> = paragraph.lines().map(|l| l.strip_prefix("    ").unwrap_or(l)).collect();
            out.push_str(&format!(".PP\n.EX\n{}\n.EE\n", escape(&lines.join("\n"))));
        } else {
            out.push_str(&format!(".PP\n{}\n", escape(paragraph)));
        }
    }
}

/// `NAME|text` items under their headings.
fn sections(out: &mut String, told: &prose::Prose) {
    for (title, items) in [("ENVIRONMENT", told.environment), ("FILES", told.files)] {
        if items.is_empty() {
            continue;
        }
        out.push_str(&format!(".SH {title}\n"));
        for (name, text) in items {
            out.push_str(&format!(".TP\n.B {}\n{}\n", escape(name), escape(text)));
        }
    }
    if !told.examples.is_empty() {
        out.push_str(".SH EXAMPLES\n");
        paragraphs(out, told.examples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let info = crate::cli::image::tag::Tag::get_args_info();
        let all = files(&info);
        let find = |name: &str| all.iter().find(|(n, _)| n == name).map(|(_, t)| t.as_str()).unwrap();
        assert_eq!(find("man/docker-ps.1"), ".so man1/docker-container-ls.1\n");
        let run = find("man/docker-container-run.1");
        assert!(run.contains(".TP\n\\fB\\-d\\fR, \\fB\\-\\-detach\\fR\n"), "{run}");
        assert!(run.contains("[\\fIOPTIONS\\fR] \\fIIMAGE\\fR [\\fICOMMAND\\fR]"), "{run}");
        for (name, text) in &all {
            assert!(text.ends_with('\n') && !text.contains("\n.\n"), "{name}");
        }
    }

    #[test]
    fn every_text_belongs_to_a_command() {
        for name in prose::names() {
            let known = name.is_empty()
                || name == "dockerd"
                || COMMANDS.iter().any(|c| c.names[0] == name)
                || GROUPS.iter().any(|g| g.name == name);
            assert!(known, "{name}");
        }
    }
}
