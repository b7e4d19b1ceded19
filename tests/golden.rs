//! What the client makes of the daemon's answers, compared line by line with
//! `golden/formats.txt`. The daemon is a listener with the fixed answers of
//! `golden/answers.json`, so the text is the same on every machine.
//!
//! To add a case, write its `$ docker …` line; `GOLDEN=write` then fills in what
//! the client prints, and the diff is what gets reviewed.

use crate::harness::Scratch;
use crate::harness::daemon::binary;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// By path, each as it stands in the file: the order of keys is part of it.
type Answers = BTreeMap<String, Box<RawValue>>;

/// `@ago:N@` in the answers is the Unix time N seconds ago.
fn answers() -> Answers {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut text = fs::read_to_string(folder().join("answers.json")).unwrap();
    while let Some(at) = text.find("@ago:") {
        let end = at + 5 + text[at + 5..].find('@').unwrap();
        let seconds: u64 = text[at + 5..end].parse().unwrap();
        text.replace_range(at..=end, &(now - seconds).to_string());
    }
    serde_json::from_str(&text).unwrap()
}

fn serve(listener: UnixListener, answers: Answers) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        answer(stream, &answers);
    }
}

/// One request per connection.
fn answer(stream: UnixStream, answers: &Answers) {
    let mut lines = BufReader::new(&stream).lines();
    let Some(Ok(request)) = lines.next() else { return };
    for line in lines.by_ref() {
        if line.is_ok_and(|l| l.is_empty()) {
            break;
        }
    }
    let target = request.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let path = match path.strip_prefix("/v1.") {
        Some(rest) => rest.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => path,
    };
    let (status, body) = match answers.get(path) {
        Some(found) => ("200 OK", found.get().to_owned()),
        None if path == "/_ping" => ("200 OK", "\"OK\"".to_owned()),
        None => ("404 Not Found", format!("{{\"message\":\"no answer for {path}\"}}")),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nApi-Version: 1.51\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = &stream;
    let _ = stream.write_all(head.as_bytes());
    if !request.starts_with("HEAD") {
        let _ = stream.write_all(body.as_bytes());
    }
}

fn run(line: &str, scratch: &Path, socket: &Path) -> String {
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(scratch)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", scratch.display()))
        .env("HOME", scratch)
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .output()
        .unwrap();
    let mut text = String::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        text.push_str(&format!("  {line}\n"));
    }
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        text.push_str(&format!("  2> {line}\n"));
    }
    if !output.status.success() {
        text.push_str(&format!("  exit {}\n", output.status.code().unwrap_or(-1)));
    }
    text.replace(&socket.display().to_string(), "SOCKET").replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn formats_are_as_reviewed() {
    let scratch = Scratch::new();
    let dir = scratch.path().to_owned();
    std::os::unix::fs::symlink(binary(), dir.join("docker")).unwrap();
    let socket = dir.join("d.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let answers = answers();
    std::thread::spawn(move || serve(listener, answers));

    let file = folder().join("formats.txt");
    let expected = fs::read_to_string(&file).unwrap();
    let mut got = String::new();
    for line in expected.lines().filter(|l| l.starts_with("$ ") || l.starts_with('#') || l.is_empty()) {
        got.push_str(line);
        got.push('\n');
        if let Some(command) = line.strip_prefix("$ ") {
            got.push_str(&run(command, &dir, &socket));
        }
    }
    if std::env::var_os("GOLDEN").is_some_and(|v| v == "write") {
        fs::write(&file, &got).unwrap();
        return;
    }
    let first = expected.lines().zip(got.lines()).position(|(a, b)| a != b);
    assert!(
        expected == got,
        "first difference at line {}:\n  expected {:?}\n  got      {:?}\n(GOLDEN=write fills in what is printed now)",
        first.map_or(0, |n| n + 1),
        first.and_then(|n| expected.lines().nth(n)),
        first.and_then(|n| got.lines().nth(n)),
    );
}
