//! `docker __complete WORD...`: what may stand in place of the last word. The
//! scripts of the shells only ask and show, so they never fall behind the commands.
//!
//! The answer has the form of Cobra's, which Docker's client uses: a candidate
//! with a description behind a tab per line, and a line `:N` at the end that says
//! whether file names may follow (0) or not (4).

use crate::cli::context::{Context, Globals};
use crate::cli::tree::{COMMANDS, Command, GROUPS, find, find_group};
use crate::cli::{help, plugin};
use crate::util::json;
use crate::util::order;
use argh::{ArgsInfo, FlagInfo, FlagInfoKind};
use serde_json::Value;
use std::io::Write;
use std::process::{ExitCode, Stdio};

pub const BASH: &str = include_str!("complete/docker.bash");
pub const ZSH: &str = include_str!("complete/_docker");
pub const FISH: &str = include_str!("complete/docker.fish");

/// Candidates, and whether file names are candidates too.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    items: Vec<(String, String)>,
    files: bool,
}

impl Found {
    fn files() -> Self {
        Self { items: Vec::new(), files: true }
    }
    fn words(words: &[&str]) -> Self {
        Self::names(words.iter().map(|w| (*w).to_owned()).collect())
    }
    fn names(names: Vec<String>) -> Self {
        Self { items: names.into_iter().map(|n| (n, String::new())).collect(), files: false }
    }
}

/// Answers for `words`, the last of which is to be completed.
pub fn run(cx: &mut Context, words: &[String]) -> std::io::Result<ExitCode> {
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", &[][..]),
    };
    // A plugin knows its own words; it answers in the same form.
    if let Some(word) = before.iter().find(|w| !w.starts_with('-'))
        && find(std::slice::from_ref(word)).is_none()
        && find_group(std::slice::from_ref(word)).is_none()
        && let Some(path) = plugin::find(cx, word)
    {
        let asked = std::iter::once("__complete").chain(words.iter().map(String::as_str));
        let answer =
            std::process::Command::new(path).args(asked).stdin(Stdio::null()).stderr(Stdio::null()).output()?;
        cx.out.write_all(&answer.stdout)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut found = candidates(&mut |kind| names(cx, kind), before, last);
    if before.iter().all(|w| w.starts_with('-')) && !last.starts_with('-') {
        found.items.extend(plugin::entries(cx).0.into_iter().map(|p| (p.name, p.about)));
    }
    let mut text = String::new();
    for (name, about) in found.items.iter().filter(|(name, _)| name.starts_with(last)) {
        text.push_str(name);
        if !about.is_empty() {
            text.push('\t');
            text.push_str(about);
        }
        text.push('\n');
    }
    text.push_str(if found.files { ":0\n" } else { ":4\n" });
    cx.out.write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What a list of names can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Containers,
    Running,
    Stopped,
    Images,
    Networks,
    Volumes,
    Contexts,
    Plugins,
}

type Names<'a> = &'a mut dyn FnMut(Kind) -> Vec<String>;

fn candidates(names: Names<'_>, before: &[String], last: &str) -> Found {
    let globals = Globals::get_args_info();
    let global: Vec<&FlagInfo<'_>> = globals.flags.iter().collect();
    let (rest, waiting) = skip_flags(&global, before);
    if let Some(flag) = waiting {
        return value(names, flag, "");
    }
    if rest.is_empty() {
        return match last.starts_with('-') {
            true => flags(&global),
            false => children(""),
        };
    }
    if let Some((command, used)) = find(rest) {
        return of_command(names, command, &rest[used.split(' ').count()..], last);
    }
    match find_group(rest) {
        Some(group) if group.name.split(' ').count() == rest.len() => children(group.name),
        _ if rest == ["help"] => children(""),
        _ if rest == ["completion"] => Found::words(&["bash", "fish", "zsh"]),
        _ => Found::default(),
    }
}

fn of_command(names: Names<'_>, command: &Command, args: &[String], last: &str) -> Found {
    let info = (command.info)();
    let own: Vec<&FlagInfo<'_>> =
        info.flags.iter().filter(|f| !f.hidden && !command.without.contains(&f.long)).collect();
    let mut positionals = 0;
    let mut rest = args;
    loop {
        let (after, waiting) = skip_flags(&own, rest);
        if let Some(flag) = waiting {
            return value(names, flag, command.names[0]);
        }
        match after.split_first() {
            None => break,
            Some((word, tail)) => {
                positionals += 1;
                if command.options_first || word == "--" {
                    positionals += tail.len();
                    break;
                }
                rest = tail;
            }
        }
    }
    if last.starts_with('-') && !(command.options_first && positionals > 0) {
        if let Some((name, _)) = last.split_once('=')
            && let Some(flag) = own.iter().find(|f| f.long == name)
        {
            let mut found = value(names, flag, command.names[0]);
            found.items.iter_mut().for_each(|(item, _)| *item = format!("{name}={item}"));
            return found;
        }
        return flags(&own);
    }
    positional(names, command, positionals)
}

/// Drops leading flags with their values; a flag at the very end that still wants
/// its value comes back.
fn skip_flags<'w, 'f>(flags: &[&'f FlagInfo<'f>], words: &'w [String]) -> (&'w [String], Option<&'f FlagInfo<'f>>) {
    let mut rest = words;
    while let Some((word, tail)) = rest.split_first() {
        if !word.starts_with('-') || word == "-" || word == "--" {
            break;
        }
        rest = tail;
        let takes = |f: &&&'f FlagInfo<'f>| matches!(f.kind, FlagInfoKind::Option { .. });
        let flag = match word.strip_prefix("--") {
            Some(_) if word.contains('=') => None,
            Some(_) => flags.iter().filter(takes).find(|f| f.long == word),
            // The last of a cluster may take the next word.
            None => word.chars().next_back().and_then(|c| flags.iter().filter(takes).find(|f| f.short == Some(c))),
        };
        if let Some(flag) = flag {
            match rest.split_first() {
                Some((_, tail)) => rest = tail,
                None => return (rest, Some(flag)),
            }
        }
    }
    (rest, None)
}

fn flags(flags: &[&FlagInfo<'_>]) -> Found {
    let mut items: Vec<(String, String)> =
        flags.iter().map(|f| (f.long.to_owned(), help::capital(f.description))).collect();
    order::sort(&mut items);
    Found { items, files: false }
}

/// Commands and groups right below a parent.
fn children(parent: &str) -> Found {
    let prefix = if parent.is_empty() { String::new() } else { format!("{parent} ") };
    let below = |name: &'static str| name.strip_prefix(prefix.as_str()).filter(|r| !r.is_empty() && !r.contains(' '));
    let groups = GROUPS.iter().filter(|g| !g.hidden).filter_map(|g| Some((below(g.name)?, g.about.to_owned())));
    let commands = COMMANDS.iter().filter(|c| !c.hidden).filter_map(|c| {
        let name = c.names.iter().find_map(|n| below(n))?;
        Some((name, help::capital(&help::about(c))))
    });
    let mut items: Vec<(String, String)> = groups.chain(commands).map(|(n, a)| (n.to_owned(), a)).collect();
    order::sort(&mut items);
    Found { items, files: false }
}

/// What the usage line calls the argument at `index` decides what is offered.
fn positional(names: Names<'_>, command: &Command, index: usize) -> Found {
    let form = command.usage.lines().next().unwrap_or_default();
    let words: Vec<&str> = form.split(' ').filter(|w| *w != "[OPTIONS]" && !w.is_empty()).collect();
    let word = match words.get(index) {
        Some(word) => *word,
        None => match words.last() {
            Some(last) if last.ends_with("...]") => *last,
            _ => return Found::default(),
        },
    };
    let name = command.names[0];
    let bare = word.trim_matches(['[', ']', '.']);
    let mut listed = |kind| Found::names(names(kind));
    match bare {
        "CONTAINER" => {
            let kind = match name.rsplit(' ').next().unwrap_or_default() {
                "start" => Kind::Stopped,
                "stop" | "exec" | "attach" | "kill" | "pause" | "unpause" | "top" | "stats" | "port" => Kind::Running,
                _ => Kind::Containers,
            };
            listed(kind)
        }
        "NAME|ID" => {
            let kinds = [Kind::Containers, Kind::Images, Kind::Networks, Kind::Volumes];
            Found { items: kinds.into_iter().flat_map(|kind| listed(kind).items).collect(), files: false }
        }
        "NETWORK" if name != "network create" => listed(Kind::Networks),
        "VOLUME" if name != "volume create" => listed(Kind::Volumes),
        "PLUGIN" => listed(Kind::Plugins),
        "CONTEXT" if name != "context create" && name != "context import" => listed(Kind::Contexts),
        _ if bare.starts_with("IMAGE") || bare.starts_with("SOURCE_IMAGE") || name == "image push" => {
            listed(Kind::Images)
        }
        _ if bare.starts_with("REPOSITORY") && name == "image ls" => listed(Kind::Images),
        _ if name == "container cp" => {
            let containers = listed(Kind::Containers).items.into_iter().map(|(n, about)| (n + ":", about));
            Found { items: containers.collect(), files: true }
        }
        _ => Found::files(),
    }
}

/// What a flag takes.
fn value(names: Names<'_>, flag: &FlagInfo<'_>, command: &str) -> Found {
    match flag.long {
        "--network" => Found::names(names(Kind::Networks)),
        "--volumes-from" | "--link" => Found::names(names(Kind::Containers)),
        "--context" | "--from" => Found::names(names(Kind::Contexts)),
        "--userns" => Found::words(&["host", "keep-id"]),
        "--cgroupns" => Found::words(&["host", "private"]),
        "--format" if command.ends_with("ls") => Found::words(&["json", "table"]),
        "--format" => Found::words(&["json"]),
        "--isolation" => Found::words(&["default"]),
        "--log-driver" => Found::words(&["json-file", "local", "none"]),
        "--log-level" => Found::words(&["debug", "error", "fatal", "info", "warn"]),
        "--progress" => Found::words(&["auto", "plain", "quiet", "rawjson", "tty"]),
        "--pull" if command != "image build" => Found::words(&["always", "missing", "never"]),
        "--restart" => Found::words(&["always", "no", "on-failure", "unless-stopped"]),
        "--signal" | "--stop-signal" => {
            Found::words(&["SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"])
        }
        "--type" => Found::words(&[
            "config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume",
        ]),
        "--platform" => {
            Found::words(&["linux/386", "linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/riscv64"])
        }
        "--filter" => Found::names(filter_keys(command).iter().map(|k| format!("{k}=")).collect()),
        "--cap-add" | "--cap-drop" => Found::words(&[
            "ALL", "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE",
            "NET_RAW", "SETGID", "SETUID", "SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE",
        ]),
        _ => Found::files(),
    }
}

fn filter_keys(command: &str) -> &'static [&'static str] {
    match command {
        "container ls" => &[
            "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name",
            "network", "publish", "since", "status", "volume",
        ],
        "image ls" => &["before", "dangling", "label", "reference", "since", "until"],
        "volume ls" => &["dangling", "driver", "label", "name"],
        "network ls" => &["dangling", "driver", "id", "label", "name", "scope", "type"],
        "system events" => &["container", "daemon", "event", "image", "label", "network", "scope", "type", "volume"],
        "search" => &["is-official", "stars"],
        _ => &["label", "until"],
    }
}

/// Names from the daemon; one that does not answer has none.
fn names(cx: &mut Context, kind: Kind) -> Vec<String> {
    if kind == Kind::Contexts {
        let found = crate::cli::contexts::store(cx).list().unwrap_or_default();
        let mut all: Vec<String> = found.into_iter().map(|m| m.name).collect();
        all.push(crate::cli::context_store::DEFAULT.to_owned());
        return all;
    }
    let path = match kind {
        Kind::Images => "/images/json",
        Kind::Networks => "/networks",
        Kind::Volumes => "/volumes",
        Kind::Plugins => "/plugins",
        _ => "/containers/json",
    };
    let all = matches!(kind, Kind::Containers | Kind::Stopped);
    let Ok(answer) = cx.client().and_then(|c| c.get(path).query_if("all", all).bytes()) else { return Vec::new() };
    let Ok(answer) = json::from_slice::<Value>(&answer) else { return Vec::new() };
    let list = if kind == Kind::Volumes { &answer["Volumes"] } else { &answer };
    let mut found = Vec::new();
    for item in list.as_array().into_iter().flatten() {
        match kind {
            Kind::Images => {
                found.extend(
                    item["RepoTags"].as_array().into_iter().flatten().filter_map(|t| t.as_str().map(str::to_owned)),
                );
            }
            Kind::Networks | Kind::Volumes | Kind::Plugins => found.extend(item["Name"].as_str().map(str::to_owned)),
            _ => {
                let running = item["State"].as_str() == Some("running");
                if kind != Kind::Stopped || !running {
                    let names = item["Names"].as_array().into_iter().flatten().filter_map(Value::as_str);
                    found.extend(names.map(|n| n.trim_start_matches('/').to_owned()));
                }
            }
        }
    }
    found.retain(|n| n != "<none>:<none>");
    order::sort(&mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(line: &str) -> Found {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (last, before) = words.split_last().unwrap();
        candidates(&mut |kind| vec![format!("{kind:?}")], before, last)
    }
    fn items(line: &str) -> Vec<String> {
        ask(line).items.into_iter().map(|(n, _)| n).collect()
    }

    #[test]
    fn commands_and_flags() {
        assert!(items("").contains(&"run".to_owned()) && items("").contains(&"volume".to_owned()));
        assert!(items("volume ").contains(&"prune".to_owned()));
        assert!(items("-D volume ls --").contains(&"--format".to_owned()));
        assert!(items("run --").contains(&"--network".to_owned()));
        assert!(!items("run busybox --").contains(&"--network".to_owned()));
    }

    #[test]
    fn names_of_things() {
        assert_eq!(items("run -it "), ["Images"]);
        assert_eq!(items("run --name x --network "), ["Networks"]);
        assert_eq!(items("run --network="), ["--network=Networks"]);
        assert_eq!(items("exec "), ["Running"]);
        assert_eq!(items("start a "), ["Stopped"]);
        assert_eq!(items("-c "), ["Contexts"]);
        assert_eq!(items("container rm -f "), ["Containers"]);
        assert_eq!(items("network connect n "), ["Containers"]);
        assert_eq!(items("ps -f "), filter_keys("container ls").iter().map(|k| format!("{k}=")).collect::<Vec<_>>());
        assert!(ask("load -i ").files && ask("run busybox ").files);
    }
}
