//! Running a program to its end, with a time limit that only a hang reaches.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A hang, not a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(180);

#[must_use = "look at how it ended"]
pub struct Output {
    argv: String,
    /// As a shell shows it: 128+n for a signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub raw: Vec<u8>,
}

impl Output {
    /// What ended elsewhere: in a guest, say.
    pub fn of(argv: &str, code: i32, raw: Vec<u8>, stderr: &[u8]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { argv: argv.to_owned(), code, stdout: text(&raw), stderr: text(stderr), raw }
    }

    /// Standard output of a command that must succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "{self}");
        self.stdout
    }

    /// Standard error of a command that must end with `code`.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert!(self.code == code, "expected exit status {code}\n{self}");
        self.stderr
    }

    /// Must succeed and print exactly this (white space at the end aside).
    #[track_caller]
    pub fn prints(self, text: &str) {
        assert!(self.code == 0 && self.stdout.trim_end() == text, "expected {text:?}\n{self}");
    }

    /// Either stream holds `part`.
    #[track_caller]
    pub fn contains(self, part: &str) -> Self {
        assert!(self.stdout.contains(part) || self.stderr.contains(part), "expected to find {part:?}\n{self}");
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "$ {}\nexit status {}\n--- stdout\n{}\n--- stderr\n{}",
            self.argv, self.code, self.stdout, self.stderr
        )
    }
}

/// Runs to the end with `input` on stdin.
pub fn run_with_input(command: &mut Command, input: Vec<u8>) -> Output {
    let argv = describe(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{argv}: {e}"));
    let mut stdin = child.stdin.take().unwrap();
    let feed = std::thread::spawn(move || {
        // The program may leave without reading: that is its business.
        let _ = stdin.write_all(&input);
    });
    let output = finish(child, argv);
    let _ = feed.join();
    output
}

/// Runs to the end with no input.
pub fn run(command: &mut Command) -> Output {
    let argv = describe(command);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{argv}: {e}"));
    finish(child, argv)
}

fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|a| a.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Collects what a child prints until it ends.
pub fn finish(mut child: Child, argv: String) -> Output {
    let drain = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                let _ = stream.read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let stdout = drain(child.stdout.take().map(|s| Box::new(s) as _));
    let stderr = drain(child.stderr.take().map(|s| Box::new(s) as _));
    let limit = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > limit {
            let _ = child.kill();
            panic!("$ {argv}\nstill running after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let raw = stdout.join().unwrap();
    Output {
        argv,
        code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        stdout: String::from_utf8_lossy(&raw).into_owned(),
        stderr: String::from_utf8_lossy(&stderr.join().unwrap()).into_owned(),
        raw,
    }
}

/// Waits for a condition that another process brings about.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < limit, "never came: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
