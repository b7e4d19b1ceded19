//! `docker stats`.

use crate::api::container::Stats as Sample;
use crate::api::filters::Filters;
use crate::cli::context::Context;
use crate::cli::format::value::Value;
use crate::cli::format::{Column, List, human};
use crate::cli::printable::plain;
use crate::cli::tree::Verb;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::util::id;
use crate::util::thread;
use argh::{ArgsInfo, FromArgs};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Show live what containers use
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Stats {
    /// show stopped ones too (default shows just running)
    #[argh(switch, short = 'a')]
    pub all: bool,
    /// output as "table", "table TEMPLATE", "json", or by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// show one result and end
    #[argh(switch)]
    pub no_stream: bool,
    /// do not shorten what is shown
    #[argh(switch)]
    pub no_trunc: bool,
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

/// One container's line.
#[derive(Debug, Clone, Default)]
struct Row {
    container: String,
    name: String,
    id: String,
    cpu: f64,
    memory: f64,
    limit: f64,
    net: (f64, f64),
    block: (f64, f64),
    pids: u64,
    valid: bool,
    trunc: bool,
}

fn or_dashes(row: &Row, text: String, dashes: &str) -> Value {
    if row.valid { text.into() } else { Value::str(dashes) }
}

static LIST: List<Row> = List {
    type_name: "*container.statsContext",
    columns: &[
        Column::new("BlockIO", "BLOCK I/O", |r: &Row| {
            or_dashes(r, format!("{} / {}", human::size3(r.block.0), human::size3(r.block.1)), "--")
        }),
        Column::new("CPUPerc", "CPU %", |r| or_dashes(r, format!("{:.2}%", r.cpu), "--")),
        Column::new("Container", "CONTAINER", |r| Value::str(&r.container)),
        Column::new("ID", "CONTAINER ID", |r| Value::str(if r.trunc { id::short(&r.id) } else { &r.id })),
        Column::new("MemPerc", "MEM %", |r| or_dashes(r, format!("{:.2}%", percent(r)), "--")),
        Column::new("MemUsage", "MEM USAGE / LIMIT", |r| {
            or_dashes(r, format!("{} / {}", human::binary_size(r.memory), human::binary_size(r.limit)), "-- / --")
        }),
        Column::new("Name", "NAME", |r| Value::str(if r.name.is_empty() { "--" } else { &r.name })),
        Column::new("NetIO", "NET I/O", |r| {
            or_dashes(r, format!("{} / {}", human::size3(r.net.0), human::size3(r.net.1)), "--")
        }),
        Column::new("PIDs", "PIDS", |r| or_dashes(r, r.pids.to_string(), "--")),
    ],
    label: None,
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "{{.ID}}",
    raw: "",
};

fn percent(r: &Row) -> f64 {
    if r.limit > 0.0 { r.memory / r.limit * 100.0 } else { 0.0 }
}

impl Verb for Stats {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let format = match self.format.as_deref() {
            Some(format) if !format.is_empty() => format.to_owned(),
            _ => cx.config().text("statsFormat").unwrap_or_default().to_owned(),
        };
        LIST.check(&format, false, Row::default())?;
        let names = match self.containers.is_empty() {
            true => all(&cx.client()?, self.all)?,
            false => self.containers.clone(),
        };
        match self.no_stream {
            true => self.once(cx, &format, &names),
            false => self.live(cx, &format, &names),
        }
    }
}

fn all(client: &Client, stopped: bool) -> Result<Vec<String>> {
    let list = client.container_list(stopped, -1, false, &Filters::default())?;
    Ok(list.into_iter().map(|c| id::short(&c.id).to_owned()).collect())
}

impl Stats {
    fn once(&self, cx: &mut Context, format: &str, names: &[String]) -> Result<ExitCode> {
        let results = cx.parallel(names, |client, name| {
            let bytes = client.container_stats(name, false)?.whole()?;
            crate::api::decode::from_slice::<Sample>(&bytes)
        })?;
        let (mut rows, mut failures) = (Vec::new(), Vec::new());
        for (name, result) in names.iter().zip(results) {
            match result {
                Ok(sample) => rows.push(self.row(name, &sample)),
                Err(e) => failures.push(e),
            }
        }
        if failures.is_empty() {
            let text = LIST.render(format, false, rows)?;
            cx.out.write_all(text.as_bytes())?;
        }
        Error::join(failures).map(|()| ExitCode::SUCCESS)
    }

    /// Draws twice a second what the readers have; without names, whatever runs.
    fn live(&self, cx: &mut Context, format: &str, names: &[String]) -> Result<ExitCode> {
        let client = cx.client()?;
        let board: Board = Arc::default();
        for name in names {
            // Told before the screen is taken, not in the middle of it.
            client.container_inspect(name)?;
            self.follow(&client, name, &board)?;
        }
        let terminal = cx.out.is_terminal();
        for tick in 0u64.. {
            std::thread::sleep(Duration::from_millis(500));
            if self.containers.is_empty() && tick % 4 == 3 {
                for name in all(&client, self.all)? {
                    if !lock(&board).contains_key(&name) {
                        self.follow(&client, &name, &board)?;
                    }
                }
            }
            let rows: Vec<Row> = lock(&board).values().cloned().collect();
            let over = !self.containers.is_empty() && rows.is_empty();
            let mut text = LIST.render(format, false, rows)?;
            if terminal {
                let lines: String = text.lines().map(|l| format!("{}\x1b[K\n", plain(l))).collect();
                text = format!("\x1b[H{lines}\x1b[J");
                if tick == 0 {
                    text.insert_str(0, "\x1b[2J");
                }
            }
            cx.out.raw().write_all(text.as_bytes())?;
            cx.out.flush()?;
            if over {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Keeps one container's row up to date until it is gone.
    fn follow(&self, client: &Client, name: &str, board: &Board) -> Result<()> {
        let mut row = Row { container: name.to_owned(), trunc: !self.no_trunc, ..Row::default() };
        lock(board).insert(name.to_owned(), row.clone());
        let (client, name, board) = (client.clone(), name.to_owned(), board.clone());
        let body = move || {
            if let Ok(reply) = client.container_stats(&name, true) {
                for line in BufReader::new(reply).lines() {
                    let Ok(line) = line else { break };
                    if let Ok(sample) = crate::api::decode::from_slice::<Sample>(line.as_bytes()) {
                        row = Row { trunc: row.trunc, ..row_of(&name, &sample) };
                        lock(&board).insert(name.clone(), row.clone());
                    }
                }
            }
            lock(&board).remove(&name);
        };
        thread::start("work", 256 * 1024, body)?;
        Ok(())
    }

    fn row(&self, name: &str, sample: &Sample) -> Row {
        Row { trunc: !self.no_trunc, ..row_of(name, sample) }
    }
}

type Board = Arc<Mutex<BTreeMap<String, Row>>>;

fn lock(board: &Board) -> std::sync::MutexGuard<'_, BTreeMap<String, Row>> {
    board.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The figures people know, out of the counters of one sample.
fn row_of(name: &str, s: &Sample) -> Row {
    let cpu = s.cpu_stats.cpu_usage.total_usage as f64 - s.precpu_stats.cpu_usage.total_usage as f64;
    let system = s.cpu_stats.system_cpu_usage as f64 - s.precpu_stats.system_cpu_usage as f64;
    let online = match s.cpu_stats.online_cpus {
        0 => s.cpu_stats.cpu_usage.percpu_usage.as_ref().map_or(0, Vec::len) as f64,
        n => f64::from(n),
    };
    // Pages of files that nobody uses just now are no need of the container's.
    let cache = s
        .memory_stats
        .stats
        .as_ref()
        .and_then(|m| m.get("total_inactive_file").or_else(|| m.get("inactive_file")).copied());
    let usage = s.memory_stats.usage;
    let memory = usage.checked_sub(cache.unwrap_or(0)).filter(|n| *n > 0 || usage == 0).unwrap_or(usage);
    let mut net = (0.0, 0.0);
    for counters in s.networks.iter().flat_map(|n| n.values()) {
        net.0 += counters.rx_bytes as f64;
        net.1 += counters.tx_bytes as f64;
    }
    let mut block = (0.0, 0.0);
    for entry in s.blkio_stats.io_service_bytes_recursive.iter().flatten() {
        match entry.op.bytes().next().map(|b| b.to_ascii_lowercase()) {
            Some(b'r') => block.0 += entry.value as f64,
            Some(b'w') => block.1 += entry.value as f64,
            _ => {}
        }
    }
    Row {
        container: name.to_owned(),
        name: s.name.strip_prefix('/').unwrap_or(&s.name).to_owned(),
        id: s.id.clone(),
        cpu: if cpu > 0.0 && system > 0.0 { cpu / system * online * 100.0 } else { 0.0 },
        memory: memory as f64,
        limit: s.memory_stats.limit as f64,
        net,
        block,
        pids: s.pids_stats.current,
        valid: true,
        trunc: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        let sample: Sample = crate::util::json::from_str(
            r#"{"name":"/x","id":"0123456789abcdef","cpu_stats":{"cpu_usage":{"total_usage":300},"system_cpu_usage":2000,"online_cpus":2},
            "precpu_stats":{"cpu_usage":{"total_usage":200},"system_cpu_usage":1000},
            "memory_stats":{"usage":3000,"limit":4096,"stats":{"inactive_file":952}},
            "networks":{"eth0":{"rx_bytes":10,"tx_bytes":20}},"pids_stats":{"current":3}}"#,
        )
        .unwrap();
        let text = LIST.render("", false, [Row { trunc: true, ..row_of("x", &sample) }]).unwrap();
        let line = text.lines().last().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(line, "0123456789ab x 20.00% 2KiB / 4KiB 50.00% 10B / 20B 0B / 0B 3");
    }
}
