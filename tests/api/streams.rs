//! Hijacked connections, as the original's clients and raw programs use them.

use crate::harness::{Daemon, eventually, probe};
use crate::need;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn connect(d: &Daemon) -> UnixStream {
    let stream = UnixStream::connect(d.socket()).unwrap();
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    stream
}

/// The head of an answer, up to and without its blank line.
fn head(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

/// Frames of the multiplexed stream as (stream, payload).
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut out = Vec::new();
    while bytes.len() >= 8 {
        let length = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        assert_eq!(&bytes[1..4], &[0, 0, 0]);
        out.push((bytes[0], bytes[8..8 + length].to_vec()));
        bytes = &bytes[8 + length..];
    }
    assert!(bytes.is_empty(), "a torn frame");
    out
}

fn create(d: &Daemon, body: &str) -> String {
    d.json("POST", "/containers/create", Some(body))["Id"].as_str().unwrap().to_owned()
}

#[test]
fn attach_before_start_loses_nothing() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for upgrade in [true, false] {
        let id = create(
            &d,
            r#"{"Image":"busybox","Cmd":["sh","-c","cat; echo err >&2"],"OpenStdin":true,"StdinOnce":true,"AttachStdin":true}"#,
        );
        let mut stream = connect(&d);
        let extra = if upgrade { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "" };
        write!(
            stream,
            "POST /v1.51/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: x\r\n{extra}\r\n"
        )
        .unwrap();
        let head = head(&mut stream);
        if upgrade {
            assert_eq!(
                head,
                "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
            );
        } else {
            assert_eq!(head, "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n");
        }
        assert_eq!(d.api("POST", &format!("/containers/{id}/start"), None).0, 204);
        stream.write_all(b"to and fro\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let of = |n| frames(&bytes).into_iter().filter(|f| f.0 == n).flat_map(|f| f.1).collect::<Vec<u8>>();
        assert_eq!((of(1), of(2)), (b"to and fro\n".to_vec(), b"err\n".to_vec()));
        assert_eq!(d.json("POST", &format!("/containers/{id}/wait"), None)["StatusCode"], 0);
    }
}

#[test]
fn wait_answers_its_head_at_once() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = create(&d, r#"{"Image":"busybox","Cmd":["sh","-c","exit 5"]}"#);
    let mut stream = connect(&d);
    write!(
        stream,
        "POST /v1.51/containers/{id}/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 200 OK"));
    assert_eq!(d.api("POST", &format!("/containers/{id}/start"), None).0, 204);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains(r#""StatusCode":5"#), "{text}");
}

#[test]
fn exec_with_a_terminal_is_raw() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = d.run_detached(&["busybox", "sleep", "1000"]);
    let made = d.json(
        "POST",
        &format!("/containers/{id}/exec"),
        Some(r#"{"Cmd":["sh","-c","stty size; read x; echo got $x"],"Tty":true,"AttachStdin":true,"AttachStdout":true,"AttachStderr":true}"#),
    );
    let exec = made["Id"].as_str().unwrap();
    let body = r#"{"Detach":false,"Tty":true,"ConsoleSize":[33,77]}"#;
    let mut stream = connect(&d);
    write!(
        stream,
        "POST /v1.51/exec/{exec}/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let head = head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"), "{head}");
    let mut size = [0; 7];
    stream.read_exact(&mut size).unwrap();
    assert_eq!(&size, b"33 77\r\n");
    stream.write_all(b"word\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "word\r\ngot word\r\n");
}

#[test]
fn events_arrive_line_by_line_in_order() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let mut stream = connect(&d);
    write!(stream, "GET /v1.51/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 200"));
    d.docker(&["run", "--rm", "--network", "none", "--name", "seen", "busybox", "true"]).ok();
    let mut text = String::new();
    while !text.contains(r#""Action":"destroy""#) {
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    let mut actions = Vec::new();
    for line in text.lines().filter(|l| l.starts_with('{')) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        if event["Type"] == "container" {
            assert_eq!(event["Actor"]["Attributes"]["name"], "seen");
            actions.push(event["Action"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(actions, ["create", "attach", "start", "die", "destroy"]);
}

#[test]
fn a_thousand_streams_are_served_and_gone() {
    need!(probe::busybox());
    let limit = nix::sys::resource::Resource::RLIMIT_NOFILE;
    let (_, hard) = nix::sys::resource::getrlimit(limit).unwrap();
    nix::sys::resource::setrlimit(limit, hard.min(8192), hard).unwrap();
    let d = Daemon::with_busybox();
    let script = "mknod /go p; read go </go; echo marker; exec sleep 1000";
    let id = d.run_detached(&["--stop-signal", "KILL", "busybox", "sh", "-c", script]);
    eventually("the fifo", || d.docker(&["exec", &id, "test", "-p", "/go"]).code == 0);
    let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", d.pid())).unwrap().count();
    let (tasks, descriptors) = (count("task"), count("fd"));
    let mut clients = Vec::new();
    for n in 0..1000 {
        let mut stream = connect(&d);
        let path = match n % 2 {
            0 => "/events".to_owned(),
            _ => format!("/containers/{id}/logs?follow=1&stdout=1"),
        };
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        clients.push(stream);
    }
    for stream in &mut clients {
        assert!(head(stream).starts_with("HTTP/1.1 200 OK\r\n"));
    }
    d.docker(&["exec", &id, "sh", "-c", "echo go >/go"]).ok();
    for (n, stream) in clients.iter_mut().enumerate() {
        let wanted = if n % 2 == 0 { "exec_start" } else { "marker" };
        let mut seen = String::new();
        while !seen.contains(wanted) {
            let mut chunk = [0; 4096];
            let got = stream.read(&mut chunk).unwrap();
            assert!(got > 0, "client {n} was left alone after {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&chunk[..got]));
        }
    }
    drop(clients);
    // A few may serve this test's own questions.
    eventually("the end of their threads and descriptors", || {
        count("task") <= tasks + 4 && count("fd") <= descriptors + 8
    });
}
