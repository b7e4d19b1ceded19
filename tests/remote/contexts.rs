//! Contexts on disk, shared with the original client, and a daemon that is reached
//! through ssh: a stand-in for the ssh program runs the remote command here, so that
//! both clients and our `docker system dial-stdio` meet without a server.

use crate::harness::{Client, Daemon, Output, Scratch, probe, run};
use crate::need;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A client that sees nothing but `dir`.
fn client(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", dir.display()))
        .env("HOME", dir)
        .current_dir(dir)
        .stdin(Stdio::null());
    command
}

fn ours(dir: &Path, args: &[&str]) -> Output {
    let docker = dir.join("docker");
    if !docker.exists() {
        std::os::unix::fs::symlink(crate::harness::daemon::binary(), &docker).unwrap();
    }
    run(client(&docker, dir).args(args))
}

#[test]
fn contexts_come_and_go() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    ours(dir, &["context", "create", "lab", "--description", "d", "--docker", "host=tcp://lab:2376"]).prints("lab");
    ours(dir, &["context", "use", "lab"]).prints("lab");
    ours(dir, &["context", "show"]).prints("lab");
    assert!(ours(dir, &["context", "rm", "lab"]).fails(1).contains("is in use, set -f flag to force remove"));
    ours(dir, &["context", "export", "lab", "lab.tar"]).ok();
    ours(dir, &["context", "import", "copy", "lab.tar"]).prints("copy");
    ours(dir, &["context", "inspect", "copy", "-f", "{{.Endpoints.docker.Host}} {{.Metadata.Description}}"])
        .prints("tcp://lab:2376 d");
    ours(dir, &["context", "rm", "-f", "lab"]).ok();
    ours(dir, &["context", "show"]).prints("default");
    ours(dir, &["context", "ls", "-q"]).prints("copy\ndefault");
    let text = ours(dir, &["--context", "nosuch", "ps"]).fails(1);
    assert!(text.contains("unable to resolve docker endpoint: context \"nosuch\": context not found"), "{text}");
    let text = ours(dir, &["--context", "copy", "-H", "unix:///x", "ps"]).fails(1);
    assert!(text.contains("conflicting options: cannot specify both --host and --context"), "{text}");
}

#[test]
fn the_original_reads_our_contexts() {
    need!(probe::real_docker());
    let scratch = Scratch::new();
    let dir = scratch.path();
    let original = probe::real_docker_path();
    ours(dir, &["context", "create", "lab", "--docker", "host=tcp://lab:2376"]).ok();
    run(client(&original, dir).args(["context", "inspect", "lab", "-f", "{{.Endpoints.docker.Host}}"]))
        .prints("tcp://lab:2376");
    run(client(&original, dir).args(["context", "create", "theirs", "--docker", "host=ssh://u@h"])).ok();
    ours(dir, &["context", "inspect", "theirs", "-f", "{{.Endpoints.docker.Host}}"]).prints("ssh://u@h");
}

#[test]
fn through_ssh_with_both_clients() {
    let daemon = Daemon::start();
    let scratch = Scratch::new();
    let dir = scratch.path();
    ours(dir, &["context", "create", "far", "--docker", "host=ssh://u@board"]).ok();
    let ssh = scratch.file(
        "ssh",
        format!(
            "#!/bin/sh\necho \"$*\" >>{0}/ssh.log\nwhile [ $# -gt 0 ] && [ \"$1\" != -- ]; do shift; done\nshift 2\nexec env DOCKER_HOST={1} PATH={0}:$PATH \"$@\"\n",
            dir.display(),
            daemon.host(),
        ),
    );
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    ours(dir, &["--context", "far", "version", "-f", "{{.Server.Os}}"]).prints("linux");
    for program in [dir.join("docker"), probe::real_docker_path()] {
        if program.exists() {
            run(client(&program, dir).args(["-H", "ssh://u@board", "volume", "create", "vol"])).prints("vol");
            run(client(&program, dir).args(["-H", "ssh://u@board", "volume", "rm", "vol"])).prints("vol");
        }
    }
    let log = fs::read_to_string(dir.join("ssh.log")).unwrap();
    assert!(log.lines().all(|l| l.ends_with("-l u -- board docker system dial-stdio")), "{log}");
    daemon.with(Client::Ours, &["volume", "ls", "-q"]).prints("");
}
