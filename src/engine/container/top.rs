//! `docker top`: the container's processes as ps(1) shows them. There is no ps
//! to call, so the columns come from /proc; user names stay numbers, as they are
//! the host's and mean nothing here.

use super::publish;
use super::state::Phase;
use crate::api::container::TopResponse;
use crate::engine::Engine;
use crate::error::{Error, Result};
use std::fs;

/// One process, read once.
struct Process {
    pid: i32,
    stat: Vec<String>,
    status: String,
    command: String,
    name: String,
}

pub fn top(engine: &Engine, reference: &str, args: &str) -> Result<TopResponse> {
    let container = engine.containers.get(reference)?;
    match container.live().record.state.phase {
        Phase::Running | Phase::Paused => {}
        Phase::Restarting => {
            return Err(Error::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                container.id
            )));
        }
        _ => return Err(Error::conflict(format!("container {} is not running", container.id))),
    }
    let columns = columns(args)?;
    let mut processes = Vec::new();
    for pid in engine.runtime.pids(&container.id)? {
        if let Some(process) = read(pid) {
            processes.push(columns.iter().map(|c| value(&process, c)).collect());
        }
    }
    publish(engine, &container, "top", &[]);
    Ok(TopResponse { titles: columns.iter().map(|c| title(c)).collect(), processes })
}

const FULL: &[&str] = &["uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd"];
const SHORT: &[&str] = &["pid", "tty", "time", "comm"];
const USER: &[&str] = &["user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "stat", "start", "time", "command"];
const LONG: &[&str] = &["f", "s", "uid", "pid", "ppid", "c", "pri", "ni", "sz", "wchan", "stime", "tty", "time", "cmd"];

/// The columns that the arguments of ps ask for; `-ef` is Docker's default.
fn columns(args: &str) -> Result<Vec<String>> {
    let owned = |list: &[&str]| list.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
    let mut words = args.split_whitespace().peekable();
    let mut chosen: Option<Vec<String>> = None;
    if words.peek().is_none() {
        return Ok(owned(FULL));
    }
    while let Some(word) = words.next() {
        // `-o LIST`, `-oLIST`, `-eo LIST`, `--format=LIST`.
        let list = match word.strip_prefix("--") {
            Some(long) => long.strip_prefix("format=").map(str::to_owned),
            None => word.strip_prefix('-').unwrap_or("").split_once('o').map(|(_, rest)| rest.to_owned()),
        };
        let list = if list.as_deref() == Some("") { words.next().map(str::to_owned) } else { list };
        if let Some(list) = list {
            let list = list.split(',').map(|c| c.split('=').next().unwrap_or(c).trim().to_ascii_lowercase());
            chosen.get_or_insert_default().extend(list.filter(|c| !c.is_empty()));
            continue;
        }
        let bare = word.trim_start_matches('-');
        if chosen.is_none() && bare.contains('f') {
            chosen = Some(owned(FULL));
        } else if chosen.is_none() && bare.contains('l') {
            chosen = Some(owned(LONG));
        } else if chosen.is_none() && bare.contains('u') {
            chosen = Some(owned(USER));
        }
    }
    let columns = chosen.unwrap_or_else(|| owned(SHORT));
    match columns.iter().find(|c| title(c).is_empty()) {
        Some(unknown) => Err(Error::system(format!("ps: error: unknown user-defined format specifier \"{unknown}\""))),
        None if !columns.iter().any(|c| c == "pid") => Err(Error::system("Couldn't find PID field in ps output")),
        None => Ok(columns),
    }
}

fn title(column: &str) -> String {
    match column {
        "uid" | "pid" | "ppid" | "c" | "stime" | "tty" | "time" | "cmd" | "user" | "vsz" | "rss" | "stat" | "start"
        | "command" | "ni" | "pri" | "sz" | "wchan" | "s" | "f" | "gid" | "pgid" | "sid" | "nlwp" | "group" => {
            column.to_ascii_uppercase()
        }
        "comm" => "COMMAND".into(),
        "args" => "COMMAND".into(),
        "pcpu" | "%cpu" => "%CPU".into(),
        "pmem" | "%mem" => "%MEM".into(),
        "etime" => "ELAPSED".into(),
        "state" => "S".into(),
        _ => String::new(),
    }
}

fn read(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(').map(|(_, n)| n.to_owned())?;
    let stat: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> =
        raw.split(|b| *b == 0).filter(|w| !w.is_empty()).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    let command = if words.is_empty() { format!("[{name}]") } else { words.join(" ") };
    Some(Process { pid, stat, status, command, name })
}

impl Process {
    /// Field `n` of stat(5), counted as the manual does (state is 3).
    fn field(&self, n: usize) -> &str {
        self.stat.get(n - 3).map_or("0", String::as_str)
    }
    fn number(&self, n: usize) -> u64 {
        self.field(n).parse().unwrap_or_default()
    }
    fn status_word(&self, key: &str, word: usize) -> String {
        let line = self.status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().nth(word).unwrap_or("0").to_owned()
    }
    /// Seconds since it began.
    fn age(&self) -> u64 {
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let up: f64 = uptime.split(' ').next().and_then(|s| s.parse().ok()).unwrap_or_default();
        (up as u64).saturating_sub(self.number(22) / ticks())
    }
    fn cpu_seconds(&self) -> u64 {
        (self.number(14) + self.number(15)) / ticks()
    }
}

fn ticks() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).max(1) as u64
}

fn value(p: &Process, column: &str) -> String {
    let page = 4096;
    match column {
        "pid" => p.pid.to_string(),
        "ppid" => p.field(4).to_owned(),
        "pgid" => p.field(5).to_owned(),
        "sid" => p.field(6).to_owned(),
        "uid" | "user" => p.status_word("Uid:", 1),
        "gid" | "group" => p.status_word("Gid:", 1),
        "c" => (p.cpu_seconds() * 100 / p.age().max(1)).min(99).to_string(),
        "pcpu" | "%cpu" => format!("{:.1}", p.cpu_seconds() as f64 * 100.0 / p.age().max(1) as f64),
        "pmem" | "%mem" => {
            let total = meminfo_total().max(1) as f64;
            format!("{:.1}", (p.number(24) * page) as f64 * 100.0 / total)
        }
        "vsz" => (p.number(23) / 1024).to_string(),
        "rss" => (p.number(24) * page / 1024).to_string(),
        "sz" => (p.number(23) / page).to_string(),
        "stat" | "s" | "state" => p.field(3).to_owned(),
        "ni" => p.field(19).to_owned(),
        "pri" => (39 - p.field(18).parse::<i64>().unwrap_or(20)).to_string(),
        "nlwp" => p.field(20).to_owned(),
        "f" => p.field(9).to_owned(),
        "wchan" => "-".into(),
        "tty" => tty_name(p.field(7).parse().unwrap_or_default()),
        "time" => clock(p.cpu_seconds()),
        "stime" | "start" => start_clock(p.age()),
        "etime" => elapsed(p.age()),
        "comm" => p.name.clone(),
        _ => p.command.clone(),
    }
}

fn meminfo_total() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("MemTotal:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or_default() * 1024
}

fn tty_name(device: u64) -> String {
    match (device >> 8 & 0xfff, device & 0xff) {
        (0, _) => "?".into(),
        (major @ 136..=143, minor) => format!("pts/{}", (major - 136) * 256 + minor),
        (4, minor) => format!("tty{minor}"),
        _ => "?".into(),
    }
}

fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn start_clock(age: u64) -> String {
    let secs = crate::util::time::now().secs() - age as i64;
    let day = secs.rem_euclid(86_400);
    format!("{:02}:{:02}", day / 3600, day / 60 % 60)
}

fn elapsed(seconds: u64) -> String {
    match seconds / 3600 {
        0 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        _ => clock(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_follow_the_arguments() {
        assert_eq!(columns("").unwrap(), FULL);
        assert_eq!(columns("-ef").unwrap(), FULL);
        assert_eq!(columns("aux").unwrap(), USER);
        assert_eq!(columns("-o pid,comm").unwrap(), ["pid", "comm"]);
        assert_eq!(columns("-eo pid,args").unwrap(), ["pid", "args"]);
        assert!(columns("-o pid,bogus").is_err() && columns("-o comm").is_err());
    }

    #[test]
    fn own_process_is_readable() {
        let me = read(std::process::id() as i32).unwrap();
        assert_eq!(value(&me, "ppid").parse::<i32>().unwrap(), nix::unistd::getppid().as_raw());
        assert!(!value(&me, "cmd").is_empty());
    }
}
