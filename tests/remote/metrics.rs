//! `--metrics-addr`: the daemon's numbers under dockerd's names.

use crate::harness::{Daemon, eventually, probe};
use crate::need;
use std::io::{Read, Write};
use std::net::TcpStream;

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn numbers_move_with_what_happens() {
    need!(probe::busybox());
    let port = super::free_port();
    let daemon = Daemon::start_with(&["--metrics-addr", &format!("127.0.0.1:{port}")], &[]);
    eventually("the log line", || daemon.log().contains(&format!("metrics API listening on 127.0.0.1:{port}")));
    daemon.load_busybox();
    let before = get(port, "/metrics");
    assert!(before.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{before}");
    // Dockerd 28.5's own names, and those of every process.
    for name in [
        "engine_daemon_container_actions_seconds_bucket{action=\"changes\",le=\"0.005\"} 0",
        "engine_daemon_container_actions_seconds_count{action=\"create\"} 0",
        "engine_daemon_container_states_containers{state=\"running\"} 0",
        "engine_daemon_engine_cpus_cpus ",
        "engine_daemon_engine_info{architecture=\"",
        "engine_daemon_engine_memory_bytes ",
        "engine_daemon_events_subscribers_total 0",
        "engine_daemon_events_total ",
        "engine_daemon_health_checks_failed_total 0",
        "engine_daemon_health_checks_total 0",
        "process_open_fds ",
        "process_resident_memory_bytes ",
    ] {
        assert!(before.contains(&format!("\n{name}")), "{name}\n{before}");
    }
    daemon.run_detached(&["--network=none", "--health-cmd=false", "--health-interval=1s", "busybox", "sleep", "1000"]);
    eventually("the failed health check", || {
        let text = get(port, "/metrics");
        let failed = text.lines().find_map(|l| l.strip_prefix("engine_daemon_health_checks_failed_total "));
        failed.is_some_and(|n| n != "0")
    });
    let after = get(port, "/metrics");
    for line in [
        "engine_daemon_container_actions_seconds_count{action=\"create\"} 1",
        "engine_daemon_container_actions_seconds_bucket{action=\"start\",le=\"+Inf\"} 1",
        "engine_daemon_container_states_containers{state=\"running\"} 1",
    ] {
        assert!(after.contains(&format!("\n{line}\n")), "{line}\n{after}");
    }
    assert!(get(port, "/other").starts_with("HTTP/1.1 404 "));
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let daemon = Daemon::prepare(&["--metrics-addr", &address], &[]);
    let text = crate::harness::run(&mut daemon.dockerd()).fails(1);
    assert!(
        text.contains(&format!("failed to start metrics server: listen tcp {address}: bind: address already in use")),
        "{text}"
    );
}
