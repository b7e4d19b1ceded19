//! The API on a network address without TLS.

use super::free_port;
use crate::harness::{Daemon, run};
use std::io::{Read, Write};
use std::net::TcpStream;

fn ask(port: u16, text: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(port: u16, headers: &str) -> String {
    ask(port, &format!("GET /_ping HTTP/1.1\r\nConnection: close\r\n{headers}\r\n\r\n"))
}

#[test]
fn it_works_with_the_warnings_and_not_for_browsers() {
    let port = free_port();
    let daemon = Daemon::start_with(&["-H", &format!("tcp://127.0.0.1:{port}")], &[]);
    let log = daemon.log();
    for text in [
        "Binding to IP address without --tlsverify is insecure and gives root access on this machine to everyone who has access to your network.",
        "Binding to an IP address, even on localhost, can also give access to scripts run in a browser. Be safe out there!",
    ] {
        assert!(log.contains(text), "{log}");
    }
    assert!(!log.contains("Startup is intentionally being slowed down"), "{log}");
    let local = format!("Host: 127.0.0.1:{port}");
    assert!(get(port, &local).ends_with("OK"));
    for headers in [
        format!("{local}\r\nOrigin: http://evil.example"),
        format!("{local}\r\nOrigin: null"),
        format!("{local}\r\nSec-Fetch-Site: cross-site"),
        "Host: rebound.evil.example".to_owned(),
    ] {
        let answer = get(port, &headers);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{headers}: {answer}");
    }
    let warnings = daemon.json("GET", "/info", None)["Warnings"].to_string();
    assert!(
        warnings.contains(&format!("API is accessible on http://127.0.0.1:{port} without encryption")),
        "{warnings}"
    );
}

/// What is said outright stands above its variable, and who talks past TLS hears so.
#[test]
fn flags_and_variables_about_tls_mean_what_they_mean_to_the_original() {
    let ports = [free_port(), free_port()];
    let hosts = ports.map(|port| format!("tcp://127.0.0.1:{port}"));
    let mut secured = Daemon::prepare(&["--tlsverify", "-H", &hosts[0]], &[]);
    run(secured.command("bin/dockerd").arg("--tls-init")).ok();
    secured.up();
    let _plain = Daemon::start_with(&["-H", &hosts[1]], &[]);
    let certificates = secured.scratch.join("home/.config/docker/tls/clients/client");
    let (past, instead) =
        ("Client sent an HTTP request to an HTTPS server.", "http: server gave HTTP response to HTTPS client");
    for client in secured.clients() {
        // Of the daemon with TLS, then of the one without.
        for (flag, variable, want) in [
            ("--debug", "A=1", [past, "linux"]),
            ("--debug", "DOCKER_TLS=", [past, "linux"]),
            ("--debug", "DOCKER_TLS_VERIFY=", [past, "linux"]),
            ("--debug", "DOCKER_TLS=1", ["linux", instead]),
            ("--debug", "DOCKER_TLS_VERIFY=0", ["linux", instead]),
            ("--tls=false", "DOCKER_TLS=1", [past, "linux"]),
            ("--tls=false", "DOCKER_TLS_VERIFY=1", ["linux", instead]),
            ("--tlsverify=false", "A=1", ["linux", instead]),
            ("--tlsverify=false", "DOCKER_TLS_VERIFY=1", ["linux", instead]),
            ("--tlsverify", "DOCKER_TLS=", ["linux", instead]),
        ] {
            for (host, want) in hosts.iter().zip(want) {
                let (name, value) = variable.split_once('=').unwrap();
                let mut command = secured.cli(client);
                command.env("DOCKER_HOST", host).env("DOCKER_CERT_PATH", &certificates).env(name, value);
                let out = run(command.args([flag, "version", "-f", "{{.Server.Os}}"]));
                let said = format!("{}{}", out.stdout.trim(), out.stderr.trim());
                let same = if want == "linux" { said == want } else { out.code == 1 && said.ends_with(want) };
                assert!(same, "{client:?} {host} {flag} {variable}: {want:?}: {out}");
            }
        }
    }
}
