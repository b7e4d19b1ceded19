//! How dockerd behaves beside its flags, rule by rule. Those that have a test elsewhere:
//!
//! | rule | test |
//! |---|---|
//! | host grammar, tcp defaults | `daemon::host::forms`, `daemon::config`, `cli::host::short_addresses` |
//! | tcp without --tlsverify | `tcp::it_works_with_the_warnings_and_not_for_browsers` |
//! | flag and file in conflict | `options::the_file_and_the_flags_may_not_meet` |
//! | SIGTERM, start-up lines, unix socket's mode | `service::milestones_pid_file_and_socket_mode` |
//! | SIGUSR1, a broken file on SIGHUP | `service::sighup_reloads_and_a_broken_file_changes_nothing` |
//! | an old socket is taken over | `service::a_second_daemon_is_refused_and_leftovers_are_taken_over` |
//! | socket activation | `service::sockets_of_the_service_manager`, `guest::services` |
//! | live-restore | `container::crash` |
//! | contexts | `contexts` |
//!
//! No root check: this engine is rootless by design.

use super::free_port;
use crate::harness::daemon::signal;
use crate::harness::{Daemon, eventually, probe, run};
use crate::need;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};

/// When a line of the log was written, in seconds.
fn moment(log: &str, part: &str) -> f64 {
    let line = log.lines().find(|l| l.contains(part)).unwrap_or_else(|| panic!("no {part:?} in {log}"));
    let time = line.split('T').nth(1).unwrap().split(['Z', '+']).next().unwrap();
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}

/// Nobody has 192.0.2.1, so nothing is opened.
#[test]
fn the_whole_network_without_a_word_about_tls_is_warned_of_for_fifteen_seconds() {
    let daemon = Daemon::prepare(&[], &[]);
    let port = free_port();
    let start = |more: &[&str]| {
        let mut command = daemon.dockerd();
        let text = run(command.arg("-H").arg(format!("tcp://192.0.2.1:{port}")).args(more)).fails(1);
        let failure =
            format!("failed to load listeners: listen tcp 192.0.2.1:{port}: bind: cannot assign requested address");
        assert!(text.trim_end().ends_with(&failure), "{text}");
        text
    };
    let first =
        "Binding to IP address without --tlsverify is insecure and gives root access on this machine to everyone";
    let last = "Support for listening on TCP without authentication or explicit intent to run without authentication will be removed";
    let warned = start(&[]);
    let mut at = 0;
    for line in [
        first,
        "Binding to an IP address, even on localhost, can also give access to scripts run in a browser",
        "[DEPRECATION NOTICE] In future versions this will be a hard failure preventing the daemon from starting",
        "[DEPRECATION NOTICE] Binding to an IP address without --tlsverify is deprecated. Startup is intentionally being slowed down",
        "[DEPRECATION NOTICE] Please consider generating tls certificates with client validation",
        "[DEPRECATION NOTICE] You can override this by explicitly specifying '--tls=false' or '--tlsverify=false'",
        last,
    ] {
        at += warned[at..].find(line).unwrap_or_else(|| panic!("no {line:?} after byte {at} of\n{warned}"));
        let own = warned[at..].lines().next().unwrap();
        assert!(own.contains(&format!("host=\"tcp://192.0.2.1:{port}\"")), "{own}");
    }
    // One second for everybody, fifteen for those who said nothing.
    let day = 86_400.0;
    let (begin, slow) = (moment(&warned, first), moment(&warned, last));
    assert!((slow - begin + day) % day >= 1.0, "{warned}");
    let text = start(&["--tls=false"]);
    assert!(text.contains(first) && !text.contains(last), "{text}");
    // Whatever is said of verification asks for TLS.
    let text = run(daemon.dockerd().args(["--tlsverify=false", "-H"]).arg(format!("tcp://192.0.2.1:{port}"))).fails(1);
    assert!(text.contains("invalid TLS configuration: Could not load X509 key pair"), "{text}");
    let began = std::time::Instant::now();
    start(&[]);
    assert!(began.elapsed().as_secs() >= 16, "a start that nobody slows down");
}

#[test]
fn each_address_is_listened_on_once() {
    let port = free_port();
    let tcp = format!("tcp://127.0.0.1:{port}");
    let daemon = Daemon::start_with(&["-D", "-H", &tcp, "-H", &tcp, "-H", &format!("tcp://[::1]:{port}")], &[]);
    eventually("the last milestone", || daemon.log().contains("API listen on "));
    let log = daemon.log();
    let lines: Vec<&str> = log.lines().filter(|l| l.contains("Listener created for HTTP on ")).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].contains(&format!("tcp (127.0.0.1:{port})")) && lines[1].contains(&format!("tcp ([::1]:{port})")),
        "{lines:?}"
    );
    run(std::process::Command::new("curl").args(["-s", &format!("http://[::1]:{port}/_ping")])).prints("OK");
}

#[test]
fn no_container_gets_the_daemons_port() {
    need!(probe::busybox());
    let port = free_port();
    let daemon = Daemon::start_with(&["-H", &format!("tcp://127.0.0.1:{port}")], &[]);
    daemon.load_busybox();
    for address in [format!("127.0.0.1:{port}:80"), format!("{port}:80")] {
        let text = daemon.docker(&["run", "--rm", "-p", &address, "busybox", "true"]).fails(125);
        assert!(text.contains(&port.to_string()) && text.contains("already"), "{text}");
    }
}

#[test]
fn a_reload_is_an_event_and_the_service_manager_hears_of_it() {
    let scratch = crate::harness::Scratch::new();
    let notify = scratch.join("notify");
    let heard = UnixDatagram::bind(&notify).unwrap();
    heard.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let daemon = Daemon::start_with(&["--label", "a=b"], &[("NOTIFY_SOCKET", notify.to_str().unwrap())]);
    let hear = || {
        let mut message = [0; 256];
        let n = heard.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..n]).into_owned()
    };
    assert_eq!(hear(), "READY=1\n");
    let mut events = UnixStream::connect(daemon.socket()).unwrap();
    events.write_all(b"GET /events?filters=%7B%22type%22%3A%5B%22daemon%22%5D%7D HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(events).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|l| l.is_empty()), "the head's end");
    signal(daemon.pid(), "HUP");
    assert_eq!((hear(), hear()), ("RELOADING=1\n".to_owned(), "READY=1\n".to_owned()));
    let event = lines.map_while(Result::ok).find(|l| l.starts_with('{')).unwrap_or_default();
    assert!(event.contains("\"Type\":\"daemon\"") && event.contains("\"Action\":\"reload\""), "{event}");
    let log = daemon.log();
    let got = log.find("Got signal to reload configuration").unwrap_or_else(|| panic!("{log}"));
    assert!(log[got..].contains("Reloaded configuration: {"), "{log}");
}

#[test]
fn the_fourth_signal_does_not_wait_for_containers() {
    need!(probe::busybox());
    let mut daemon = Daemon::start_with(&["--shutdown-timeout=600"], &[]);
    daemon.load_busybox();
    daemon.run_detached(&[
        "--network=none",
        "--stop-timeout=600",
        "--name=deaf",
        "busybox",
        "sh",
        "-c",
        "trap '' TERM; echo up; while :; do sleep 1; done",
    ]);
    eventually("the trap", || daemon.docker(&["logs", "deaf"]).stdout.contains("up"));
    let pid = daemon.pid();
    signal(pid, "TERM");
    eventually("the first word", || daemon.log().contains("Processing signal 'terminated'"));
    // Signals of a kind that nobody has taken yet are one: each must be taken first.
    let pending = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|l| (l.starts_with("ShdPnd:") || l.starts_with("SigPnd:")) && l.ends_with("4000"))
    };
    for _ in 0..3 {
        signal(pid, "TERM");
        eventually("the signal to be taken", || !pending());
    }
    let code = daemon.ended();
    assert_eq!(code, Some(143), "{}", daemon.log());
    assert!(
        daemon.log().contains("Forcing docker daemon shutdown without cleanup: 3 interrupts received"),
        "{}",
        daemon.log()
    );
    daemon.up();
    daemon.docker(&["rm", "-f", "deaf"]).ok();
}

#[test]
fn a_log_of_json_documents() {
    let daemon = Daemon::start_with(&["--log-format=json"], &[]);
    eventually("the last milestone", || daemon.log().contains("API listen on "));
    for line in daemon.log().lines() {
        let document: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for key in ["level", "msg", "time"] {
            assert!(document[key].is_string(), "{key}: {line}");
        }
    }
}
