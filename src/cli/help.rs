//! Help in the layout people know: usage, text, aliases, options in two columns,
//! subcommands by group. Written from the table of commands and argh's description
//! of each.

use crate::cli::tree::{COMMANDS, COMMON, Command, GROUPS, Group};
use crate::util::order;
pub use crate::util::usage::{capital, options};
use argh::FlagInfo;

/// Options are folded so that a line stays within this many columns.
const WIDTH: usize = 80;

/// `docker run [OPTIONS] …`, continued under a tab where there are two forms.
pub fn usage_line(path: &str, usage: &str) -> String {
    let mut line = String::new();
    for (n, form) in usage.split('\n').enumerate() {
        if n > 0 {
            line.push_str("\n\t");
        }
        line.push_str("docker ");
        line.push_str(path);
        if !form.is_empty() {
            line.push(' ');
            line.push_str(form);
        }
    }
    line
}

/// Help of a command that was called as `path`.
pub fn command(command: &Command, path: &str) -> String {
    let info = (command.info)();
    let mut out = format!("Usage:  {}\n\n{}\n", usage_line(path, command.usage), about(command));
    if command.names.len() > 1 {
        let names: Vec<_> = command.names.iter().map(|n| format!("docker {n}")).collect();
        out.push_str(&format!("\nAliases:\n  {}\n", names.join(", ")));
    }
    let flags: Vec<&FlagInfo<'_>> =
        info.flags.iter().filter(|f| !f.hidden && f.long != "--help" && !command.without.contains(&f.long)).collect();
    if !flags.is_empty() {
        out.push_str("\nOptions:\n");
        options(&mut out, flags, WIDTH);
    }
    out
}

pub fn about(command: &Command) -> String {
    command.about.map_or_else(|| (command.info)().description.to_owned(), str::to_owned)
}

/// Help of a word that only has subcommands.
pub fn group(group: &Group) -> String {
    let name = group.name;
    let mut out = format!("Usage:  docker {name} COMMAND\n\n{}\n", group.about);
    let (inner, commands) = children(name);
    listing(&mut out, "Management Commands", &inner);
    listing(&mut out, "Commands", &commands);
    out.push_str(&format!("\nRun 'docker {name} COMMAND --help' for more information on a command.\n"));
    out
}

/// Groups and commands right under `parent`, by name.
fn children(parent: &str) -> (Vec<Entry>, Vec<Entry>) {
    let under = |name: &str| -> Option<String> {
        let word = if parent.is_empty() { name } else { name.strip_prefix(parent)?.strip_prefix(' ')? };
        (!word.contains(' ')).then(|| word.to_owned())
    };
    let mut groups: Vec<Entry> = GROUPS
        .iter()
        .filter(|g| !g.hidden)
        .filter_map(|g| Some(Entry { name: under(g.name)?, about: g.about.to_owned() }))
        .collect();
    let mut commands: Vec<Entry> = COMMANDS
        .iter()
        .filter(|c| !c.hidden)
        .filter_map(|c| {
            let name = c.names.iter().find_map(|n| under(n))?;
            Some(Entry { name, about: about(c) })
        })
        .collect();
    order::sort_by(&mut groups, |a, b| a.name.cmp(&b.name));
    order::sort_by(&mut commands, |a, b| a.name.cmp(&b.name));
    (groups, commands)
}

#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub about: String,
}

/// One block of subcommands.
fn listing(out: &mut String, title: &str, entries: &[Entry]) {
    if entries.is_empty() {
        return;
    }
    out.push_str(&format!("\n{title}:\n"));
    let width = entries.iter().map(|e| e.name.len()).max().unwrap_or(0).max(11);
    for Entry { name, about } in entries {
        out.push_str(&format!("  {name:width$} {about}\n"));
    }
}

/// Help of `docker` itself. `plugins` are the programs beside it that add commands,
/// `broken` those that would if they worked.
pub fn root(flags: &[FlagInfo<'_>], config_dir: &str, plugins: &[Entry], broken: &[Entry]) -> String {
    let mut out = "Usage:  docker [OPTIONS] COMMAND\n\nRun programs in containers\n".to_owned();
    let (groups, commands) = children("");
    let (common, rest): (Vec<_>, Vec<_>) = commands.into_iter().partition(|e| COMMON.contains(&e.name.as_str()));
    let common: Vec<Entry> =
        COMMON.iter().filter_map(|name| common.iter().find(|e| e.name == *name).cloned()).collect();
    let (swarm, mut management): (Vec<_>, Vec<_>) = groups.into_iter().partition(|e| e.name == "swarm");
    management.extend(plugins.iter().map(|p| Entry { name: format!("{}*", p.name), about: p.about.clone() }));
    order::sort_by(&mut management, |a, b| a.name.cmp(&b.name));
    listing(&mut out, "Common Commands", &common);
    listing(&mut out, "Management Commands", &management);
    listing(&mut out, "Swarm Commands", &swarm);
    listing(&mut out, "Commands", &rest);
    listing(&mut out, "Invalid Plugins", broken);
    out.push_str("\nGlobal Options:\n");
    let mut text = String::new();
    options(&mut text, flags.iter().filter(|f| f.long != "--help").collect(), WIDTH);
    out.push_str(&text.replace("{config}", config_dir));
    out.push_str("\nRun 'docker COMMAND --help' for more information on a command.\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tree;

    #[test]
    fn layout() {
        let (c, path) = tree::find(&["container".into(), "list".into()]).map(|(c, n)| (c, tree::shown(c, n))).unwrap();
        assert_eq!(path, "container ls");
        let text = command(c, path);
        assert!(text.starts_with("Usage:  docker container ls [OPTIONS]\n\nList containers\n\nAliases:\n"), "{text}");
        assert!(text.contains("\n  docker container ls, docker container list, docker container ps, docker ps\n"));
        assert!(text.contains("\n  -a, --all             Show"), "{text}");
        assert!(text.lines().all(|l| l.len() <= WIDTH), "{text}");
        let text = group(GROUPS.iter().find(|g| g.name == "volume").unwrap());
        assert!(text.contains("\nCommands:\n  create      Create a volume\n"), "{text}");
    }

    #[test]
    fn every_name_is_there_once() {
        let mut seen = std::collections::BTreeSet::new();
        for name in COMMANDS.iter().flat_map(|c| c.names) {
            assert!(seen.insert(*name), "{name} stands twice");
        }
    }
}
