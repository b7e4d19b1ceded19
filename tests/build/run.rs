//! RUN: its mounts, users, environment and secrets.

use super::{build, sh};
use crate::harness::{Client, Daemon, eventually, probe};
use crate::need;
use std::process::Stdio;

#[test]
fn forms_and_mounts() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let file = r#"FROM busybox AS other
RUN mkdir /data && echo other > /data/f
FROM busybox
ARG P=arg
RUN ["sh", "-c", "echo $0 exec > /exec"]
RUN echo "$P $(hostname) $HOME" > /shell
RUN <<EOF
set -e
echo one > /script
echo two >> /script
EOF
RUN <<EOF
#!/bin/awk -f
BEGIN { print "awk" > "/awk" }
EOF
RUN cat <<A > /ha && cat <<B > /hb
in a
A
in b
B
RUN --mount=type=tmpfs,target=/t touch /t/x && grep ' /t tmpfs' /proc/mounts
RUN --mount=target=/ctx test -f /ctx/f && ! touch /ctx/f2
RUN --mount=target=/ctx,rw touch /ctx/f2
RUN --mount=from=other,source=/data,target=/o cp /o/f /from
RUN --mount=type=cache,target=/cache,id=c date +%N >> /cache/log; wc -l < /cache/log > /runs
USER 12:34
RUN id > /tmp/id
"#;
    build(&d, Client::Ours, "forms", &[("Dockerfile", file), ("f", "x")], &[]).ok();
    let shown = sh(
        &d,
        "forms",
        "cat /exec /shell /script /awk /ha /hb /from /runs /tmp/id; ls -d /t /ctx /o /cache 2>&1 | grep -vc No || true",
    );
    assert_eq!(
        shown,
        "sh exec\narg buildkitsandbox /root\none\ntwo\nawk\nin a\nin b\nother\n1\nuid=12 gid=34 groups=34\n0"
    );
    assert_eq!(d.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn secrets_leave_no_trace() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let secret = "tr0ub4dor-and-3";
    d.scratch.file("token", secret);
    let file = "FROM busybox\n\
        RUN --mount=type=secret,id=s test $(cat /run/secrets/s) = tr0ub4dor\"-and-\"3 && stat -c '%a %u' /run/secrets/s > /stat\n\
        RUN --mount=type=secret,id=s,env=TOKEN,target=/tok test $TOKEN = $(cat /tok)\n\
        RUN --mount=type=secret,id=none test ! -e /run/secrets/none\n";
    let source = format!("id=s,src={}", d.scratch.join("token").display());
    build(&d, Client::Ours, "secret", &[("Dockerfile", file)], &["--secret", &source]).ok();
    assert_eq!(sh(&d, "secret", "cat /stat; ls -d /run /tok 2>/dev/null || true"), "400 0");
    let found = std::process::Command::new("grep")
        .args(["-rl", secret])
        .args([d.scratch.join("data"), d.scratch.join("run")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

/// A secret as a variable is the process's alone: not in the record of the step's
/// container, not on disk, not in the cache's description of it.
#[test]
fn a_secret_variable_is_in_no_record() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let secret = "correct-horse-battery";
    d.scratch.file("token", secret);
    let file = "FROM busybox\nRUN --mount=type=secret,id=s,env=TOKEN test -n \"$TOKEN\" && echo ready && sleep 1000\n";
    let folder = super::context(&d, "env", &[("Dockerfile", file)]);
    let mut command = d.cli(Client::Ours);
    command
        .args(["build", "--network", "none", "--secret"])
        .arg(format!("id=s,src={}", d.scratch.join("token").display()));
    command.arg(&folder).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    eventually("the step's container", || !d.docker(&["ps", "-q"]).ok().is_empty());
    let id = d.docker(&["ps", "-q", "--no-trunc"]).ok().trim().to_owned();
    eventually("its command", || d.docker(&["top", &id]).ok().contains("sleep 1000"));
    assert!(!d.docker(&["inspect", &id]).ok().contains(secret));
    let holds = |dir: &str| {
        let output =
            std::process::Command::new("grep").args(["-rlF", secret]).arg(d.scratch.join(dir)).output().unwrap();
        !output.stdout.is_empty()
    };
    assert!(!holds("data") && !holds("run"), "the secret is on disk");
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("no container", || d.docker(&["ps", "-aq"]).ok().is_empty());
}
