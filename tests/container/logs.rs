//! What a container wrote, read back in every way.

use crate::harness::daemon::{processes_of, signal};
use crate::harness::{Daemon, eventually, probe};
use crate::need;

#[test]
fn streams_tail_and_times() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id =
        d.run_detached(&["busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo line$i; done; sleep 0.2; echo oops >&2"]);
    d.docker(&["wait", &id]).ok();
    for c in d.clients() {
        let out = d.with(c, &["logs", &id]);
        assert_eq!(
            (out.stdout.as_str(), out.stderr.as_str()),
            ("line1\nline2\nline3\nline4\nline5\n", "oops\n"),
            "{out}"
        );
        let out = d.with(c, &["logs", "--tail", "2", &id]);
        assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("line5\n", "oops\n"), "{out}");
        let stamped = d.with(c, &["logs", "-t", "--tail", "2", &id]).ok();
        let (stamp, rest) = stamped.split_once(' ').unwrap();
        assert!(stamp.len() == 30 && stamp.ends_with('Z') && rest == "line5\n", "{stamped}");
        d.with(c, &["logs", "--since", "2100-01-01T00:00:00Z", &id]).prints("");
        d.with(c, &["logs", "--until", "2001-01-01T00:00:00Z", &id]).prints("");
        let words = d.with(c, &["logs", "nosuch"]).fails(1);
        assert!(words.contains("No such container: nosuch"), "{words}");
    }
}

#[test]
fn follow_ends_with_the_container() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let id = d.run_detached(&["busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done"]);
        d.with(c, &["logs", "-f", &id]).prints("1\n2\n3");
    }
}

#[test]
fn long_and_binary_lines_survive() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let script = "head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'no newline'";
    for driver in ["json-file", "local"] {
        let id = d.run_detached(&["--log-driver", driver, "busybox", "sh", "-c", script]);
        d.docker(&["wait", &id]).ok();
        for c in d.clients() {
            let out = d.with(c, &["logs", &id]).ok();
            assert_eq!(out, format!("{}\nno newline", "x".repeat(100_000)), "{driver}");
        }
    }
}

#[test]
fn rotation_keeps_the_newest_and_follows_on() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for driver in ["json-file", "local"] {
        let id = d.run_detached(&[
            "--log-driver",
            driver,
            "--log-opt",
            "max-size=20k",
            "--log-opt",
            "max-file=3",
            "busybox",
            "sh",
            "-c",
            "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done",
        ]);
        d.docker(&["wait", &id]).ok();
        let out = d.docker(&["logs", &id]).ok();
        let numbers: Vec<u32> = out.lines().map(|l| l["line ".len()..].parse().unwrap()).collect();
        assert_eq!(numbers.last(), Some(&2999), "{driver}");
        assert!(numbers.len() < 3000, "{driver}: nothing was rotated away");
        assert!(numbers.windows(2).all(|w| w[0] + 1 == w[1]), "{driver}: a hole or a repetition");
    }
}

#[test]
fn none_keeps_nothing() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let out = d.with(c, &["run", "--log-driver", "none", "--name", "quiet", "busybox", "echo", "hi"]);
        out.prints("hi");
        let words = d.with(c, &["logs", "quiet"]).fails(1);
        assert!(words.contains("configured logging driver does not support reading"), "{words}");
        // Compose goes on with the other containers when it is this status.
        assert_eq!(d.api("GET", "/containers/quiet/logs?stdout=1", None).0, 501);
        d.docker(&["rm", "quiet"]).ok();
    }
}

#[test]
fn a_flood_arrives_whole() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = d.run_detached(&["busybox", "sh", "-c", "yes 0123456789abcdef | head -n 200000"]);
    eventually("the end of the flood", || d.inspect(&id, "{{.State.Running}}") == "false");
    let out = d.docker(&["logs", &id]).ok();
    assert_eq!(out.lines().filter(|l| *l == "0123456789abcdef").count(), 200_000);
}

#[test]
fn a_stuck_log_does_not_stop_a_container_in_non_blocking_mode() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = d.run_detached(&[
        "--log-opt",
        "mode=non-blocking",
        "--log-opt",
        "max-buffer-size=100k",
        "busybox",
        "sh",
        "-c",
        "mknod /go p; read go </go; yes 0123456789abcdef0123456789abcdef | head -n 60000; echo out >/done; sleep 1000",
    ]);
    let writer = || {
        processes_of(d.scratch.path())
            .into_iter()
            .find(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == "coracle-log"))
    };
    eventually("the writing process", || writer().is_some());
    let writer = writer().unwrap();
    signal(writer, "STOP");
    eventually("the container past its output", || {
        let _ = d.docker(&["exec", &id, "timeout", "1", "sh", "-c", "[ -p /go ] && echo go >/go"]);
        d.docker(&["exec", &id, "cat", "/done"]).code == 0
    });
    signal(writer, "CONT");
    d.docker(&["kill", &id]).ok();
    let out = d.docker(&["logs", &id]).ok();
    assert!(out.lines().all(|l| l == "0123456789abcdef0123456789abcdef"), "a torn line");
    let count = out.lines().count();
    assert!((500..60_000).contains(&count), "{count}");
}

#[test]
fn labels_variables_and_tags_stand_beside_the_lines() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = d.run_detached(&[
        "--name",
        "tagged",
        "--label",
        "tier=web",
        "--label",
        "other=x",
        "-e",
        "MODE=fast",
        "--log-opt",
        "labels=tier",
        "--log-opt",
        "env-regex=^MO",
        "--log-opt",
        "tag={{.Name}}/{{upper .ImageName}}",
        "busybox",
        "echo",
        "hi",
    ]);
    d.docker(&["wait", &id]).ok();
    for c in d.clients() {
        d.with(c, &["logs", "--details", &id]).prints("MODE=fast,tag=tagged%2FBUSYBOX,tier=web hi");
    }
}

/// The container writes the next two hundred lines when the last were read, so
/// that however slow a machine is, no file is rotated away unread.
#[test]
fn following_over_compressed_rotations_loses_and_repeats_nothing() {
    use std::io::{BufRead, BufReader};
    const ROUNDS: usize = 10;
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let script = "mknod /go p; i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); \
                  [ $((i % 200)) != 0 ] || until read go </go; do :; done; done";
    for driver in ["json-file", "local"] {
        let options = ["max-size=6k", "max-file=4", "compress=true"].map(|o| ["--log-opt", o]).concat();
        let start = [&["--log-driver", driver][..], &options, &["busybox", "sh", "-c", script]].concat();
        let id = d.run_detached(&start);
        let mut follow =
            d.command("bin/docker").args(["logs", "-f", &id]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
        for round in 0..ROUNDS {
            for n in 0..200 {
                let line = lines.next().expect("the stream ended").unwrap();
                assert_eq!(line, format!("line {}", round * 200 + n), "{driver}");
            }
            // The last one may end with the container.
            let _ = d.docker(&["exec", &id, "sh", "-c", "echo go >/go"]);
        }
        assert!(lines.next().is_none(), "{driver}: more than was written");
        assert!(follow.wait().unwrap().success());
        let kept = d.docker(&["logs", &id]).ok();
        let kept: Vec<&str> = kept.lines().collect();
        assert_eq!(kept.last(), Some(&"line 1999"), "{driver}");
        assert!(kept.len() < 2000 && kept.len() > 20, "{driver}: {}", kept.len());
    }
}
