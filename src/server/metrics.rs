//! `--metrics-addr`: the daemon's numbers as Prometheus reads them, under dockerd's
//! names where it has them. One thread, one request at a time: whoever asks for
//! metrics asks every few seconds, and nobody can cost more than that thread.

use super::http::inbound::Inbound;
use super::http::socket::Socket;
use crate::api::version;
use crate::engine::Engine;
use crate::engine::metrics::BUCKETS;
use crate::engine::system::{containers_by_state, engine_id, host};
use crate::error::{Error, Result, errno_text};
use crate::util::thread;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// For a request and for taking the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The listener and its thread; dropping it ends both.
pub struct Metrics {
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Metrics {
    pub fn start(engine: Arc<Engine>, address: &str) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .map_err(|e| Error::system(format!("listen tcp {address}: bind: {}", errno_text(&e))))?;
        crate::info!(format!("metrics API listening on {}", listener.local_addr()?));
        let (wake, woken) = UnixStream::pair()?;
        let thread = thread::start("metrics", 256 << 10, move || run(&engine, &listener, &woken))?;
        Ok(Self { wake: Some(wake), thread: Some(thread) })
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(engine: &Arc<Engine>, listener: &TcpListener, woken: &UnixStream) {
    loop {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(woken.as_fd(), PollFlags::POLLIN)];
        if nix::poll::poll(&mut fds, PollTimeout::NONE).is_ok() && fds[1].any().unwrap_or(false) {
            return;
        }
        match listener.accept() {
            Ok((stream, _)) => {
                let _ = stream.set_write_timeout(Some(PATIENCE));
                answer(engine, Socket::new(stream.into()));
            }
            // Descriptors ran out, or the peer was quicker: no reason to spin.
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn answer(engine: &Engine, socket: Arc<Socket>) {
    let Ok(head) = Inbound::new(socket.clone(), Some(PATIENCE)).head(PATIENCE, PATIENCE) else { return };
    let path = head.target.split('?').next().unwrap_or("");
    let (status, body) = match (head.method.as_str(), path) {
        ("GET", "/metrics") => ("200 OK", text(engine)),
        (_, "/metrics") => ("405 Method Not Allowed", "Method Not Allowed\n".to_owned()),
        _ => ("404 Not Found", "404 page not found\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut out = &*socket;
    let _ = out.write_all(head.as_bytes()).and_then(|()| out.write_all(body.as_bytes()));
}

/// One metric: its help, its type and its lines.
struct Page(String);

impl Page {
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.begin(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn text(engine: &Engine) -> String {
    let mut page = Page(String::with_capacity(8192));
    actions(&mut page, engine);
    page.begin("engine_daemon_container_states_containers", "gauge", "The count of containers in various states");
    let (running, paused, stopped) = containers_by_state(engine);
    for (state, n) in [("paused", paused), ("running", running), ("stopped", stopped)] {
        let _ = writeln!(page.0, "engine_daemon_container_states_containers{{state=\"{state}\"}} {n}");
    }
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    page.one(
        "engine_daemon_engine_cpus_cpus",
        "gauge",
        "The number of cpus that the host system of the engine has",
        cpus,
    );
    about(&mut page, engine);
    page.one(
        "engine_daemon_engine_memory_bytes",
        "gauge",
        "The number of bytes of memory that the host system of the engine has",
        host::mem_total(),
    );
    page.one(
        "engine_daemon_events_subscribers_total",
        "gauge",
        "The number of current subscribers to events",
        engine.events.listeners(),
    );
    page.one("engine_daemon_events_total", "counter", "The number of events logged", engine.events.count());
    let (probes, failed) = engine.metrics.probes();
    page.one("engine_daemon_health_checks_failed_total", "counter", "The total number of failed health checks", failed);
    page.one("engine_daemon_health_checks_total", "counter", "The total number of health checks", probes);
    process(&mut page);
    page.0
}

fn actions(page: &mut Page, engine: &Engine) {
    let name = "engine_daemon_container_actions_seconds";
    page.begin(name, "histogram", "The number of seconds it takes to process each container action");
    for (action, histogram) in engine.metrics.actions() {
        let (buckets, count, seconds) = histogram.read();
        for (end, n) in BUCKETS.iter().zip(buckets) {
            let _ = writeln!(page.0, "{name}_bucket{{action=\"{action}\",le=\"{}\"}} {n}", *end as f64 / 1e6);
        }
        let _ = writeln!(page.0, "{name}_bucket{{action=\"{action}\",le=\"+Inf\"}} {count}");
        let _ = writeln!(page.0, "{name}_sum{{action=\"{action}\"}} {seconds}");
        let _ = writeln!(page.0, "{name}_count{{action=\"{action}\"}} {count}");
    }
}

fn about(page: &mut Page, engine: &Engine) {
    page.begin(
        "engine_daemon_engine_info",
        "gauge",
        "The information related to the engine and the OS it is running on",
    );
    let labels = [
        ("architecture", host::machine().to_owned()),
        ("commit", version::COMMIT.to_owned()),
        ("daemon_id", engine_id(&engine.config.data_root)),
        ("graphdriver", engine.driver.name().to_owned()),
        ("kernel", host::kernel_version()),
        ("os", host::operating_system("PRETTY_NAME").unwrap_or_else(|| "Linux".into())),
        ("os_type", "linux".to_owned()),
        ("os_version", host::operating_system("VERSION_ID").unwrap_or_default()),
        ("version", version::PRODUCT.to_owned()),
    ];
    let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", label(v))).collect();
    let _ = writeln!(page.0, "engine_daemon_engine_info{{{}}} 1", labels.join(","));
}

/// What every exporter says of its own process.
fn process(page: &mut Page) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in parentheses: the state is field 3 of proc(5).
    let fields: Vec<u64> =
        stat.rsplit(')').next().unwrap_or("").split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    let field = |n: usize| fields.get(n - 3).copied().unwrap_or(0) as f64;
    const TICKS: f64 = 100.0;
    let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot: f64 = boot.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0.0);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    let seconds = (field(14) + field(15)) / TICKS;
    page.one("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", seconds);
    page.one("process_max_fds", "gauge", "Maximum number of open file descriptors.", limit);
    page.one("process_open_fds", "gauge", "Number of open file descriptors.", open);
    page.one("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", field(24) * 4096.0);
    let start = boot + field(22) / TICKS;
    page.one("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", start);
    page.one("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", field(23));
}
