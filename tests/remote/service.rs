//! One daemon's life as the service manager and a careless operator see it.

use crate::harness::daemon::signal;
use crate::harness::{Daemon, eventually, probe, run};
use crate::need;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

#[test]
fn milestones_pid_file_and_socket_mode() {
    let mut daemon = Daemon::start();
    // It may answer before it has said so.
    eventually("the last milestone", || daemon.log().contains("API listen on "));
    let log = daemon.log();
    let mut at = 0;
    for line in [
        "level=info msg=\"Starting up\"",
        "Loading containers: start.",
        "Loading containers: done.",
        "msg=\"Docker daemon\" commit=",
        "Daemon has completed initialization",
        "API listen on ",
    ] {
        at += log[at..].find(line).unwrap_or_else(|| panic!("no {line:?} after byte {at} of\n{log}"));
    }
    let pid = std::fs::read_to_string(daemon.scratch.join("run/docker.pid")).unwrap();
    assert_eq!(pid, daemon.pid().to_string());
    let meta = std::fs::metadata(daemon.socket()).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
    daemon.stop();
    assert!(!daemon.socket().exists() && !daemon.scratch.join("run/docker.pid").exists());
    let log = daemon.log();
    assert!(
        log.contains("Processing signal 'terminated'") && log.ends_with("msg=\"Daemon shutdown complete\"\n"),
        "{log}"
    );
}

/// A group of the caller's can have the socket; another cannot, and no socket is left.
#[test]
fn the_socket_belongs_to_the_group_that_was_asked_for() {
    let mut daemon = Daemon::prepare(&[], &[]);
    for (group, want) in [
        ("nosuch", "group nosuch not found"),
        ("root", "change its group to root: operation not permitted\nthe socket can belong only to a group"),
    ] {
        let text = run(daemon.dockerd().args(["--group", group])).fails(1);
        assert!(text.contains("failed to load listeners: can't create unix socket") && text.contains(want), "{text}");
        assert!(!daemon.socket().exists());
    }
    let own = run(Command::new("id").arg("-gn")).ok();
    daemon.flag(&format!("--group={}", own.trim()));
    daemon.up();
    let meta = std::fs::metadata(daemon.socket()).unwrap();
    assert_eq!((meta.gid(), meta.permissions().mode() & 0o777), (nix::unistd::getgid().as_raw(), 0o660));
    assert!(!daemon.log().contains("no effect"), "{}", daemon.log());
}

#[test]
fn the_daemon_by_its_old_names() {
    for name in ["-d", "daemon"] {
        let mut daemon = Daemon::prepare(&["--label=a=b"], &[]);
        let mut command = daemon.command("bin/docker");
        command.arg(name).args(daemon.dockerd().get_args());
        daemon.up_as(command);
        daemon.docker(&["info", "-f", "{{.Labels}}"]).prints("[a=b]");
        daemon.stop();
    }
}

#[test]
fn a_second_daemon_is_refused_and_leftovers_are_taken_over() {
    let mut daemon = Daemon::start();
    let text = run(&mut daemon.dockerd()).fails(1);
    assert!(text.contains("in use by another daemon"), "{text}");
    let other = daemon.scratch.dir("other");
    let mut second = daemon.command("bin/dockerd");
    second.args(["--data-root".as_ref(), other.as_os_str()]).arg("--pidfile=").args(["-H".to_owned(), daemon.host()]);
    let text = run(&mut second).fails(1);
    assert!(text.contains("can't create unix socket") && text.contains("another daemon answers"), "{text}");
    assert_eq!(daemon.api("GET", "/_ping", None).0, 200);
    daemon.kill();
    assert!(daemon.socket().exists());
    daemon.up();
    assert_eq!(daemon.api("GET", "/_ping", None).1, "OK");
}

#[test]
fn sighup_reloads_and_a_broken_file_changes_nothing() {
    let daemon = Daemon::prepare(&[], &[]);
    let file = daemon.scratch.file("daemon.json", r#"{"labels":["a=1"]}"#);
    let flag = format!("--config-file={}", file.display());
    drop(daemon);
    let mut daemon = Daemon::prepare(&[&flag], &[]);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, r#"{"labels":["a=1"]}"#).unwrap();
    daemon.up();
    let labels = |daemon: &Daemon| daemon.json("GET", "/info", None)["Labels"].to_string();
    assert_eq!(labels(&daemon), r#"["a=1"]"#);
    std::fs::write(&file, r#"{"labels":["a=2"],"debug":true}"#).unwrap();
    signal(daemon.pid(), "HUP");
    eventually("the new labels", || labels(&daemon) == r#"["a=2"]"#);
    assert!(daemon.json("GET", "/info", None)["Debug"].as_bool().unwrap());
    std::fs::write(&file, "{").unwrap();
    signal(daemon.pid(), "HUP");
    eventually("the complaint", || daemon.log().contains("cannot reload the configuration"));
    assert_eq!(labels(&daemon), r#"["a=2"]"#);
    signal(daemon.pid(), "USR1");
    eventually("the dump", || daemon.log().contains("thread states written to"));
    let _ = std::fs::remove_dir_all(file.parent().unwrap());
}

#[test]
fn sockets_of_the_service_manager() {
    need!(probe::program("python3", "python3"));
    let daemon = Daemon::prepare(&[], &[]);
    let text = run(daemon.command("bin/dockerd").args(["-H", "fd://", "--data-root", "data", "--pidfile="])).fails(1);
    assert!(
        text.contains("no sockets found via socket activation: make sure the service was started by systemd"),
        "{text}"
    );
    let path = daemon.scratch.join("run/docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let notify = daemon.scratch.join("run/notify");
    let heard = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
    // What systemd does between fork and exec.
    let script = "import os,sys\nos.dup2(int(sys.argv[1]),3)\nos.environ['LISTEN_PID']=str(os.getpid())\nos.execv(sys.argv[2],sys.argv[2:])";
    let mut command: Command = daemon.command("/usr/bin/python3");
    let mut child = command
        .args(["-c", script, "0"])
        .arg(daemon.scratch.join("bin/dockerd"))
        .args(["-H", "fd://", "--data-root", "data", "--exec-root", "run/x", "--pidfile="])
        .env("LISTEN_FDS", "1")
        .env("NOTIFY_SOCKET", &notify)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stderr(std::fs::File::create(daemon.log_path()).unwrap())
        .spawn()
        .unwrap();
    let mut message = [0u8; 64];
    heard.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let n = heard.recv(&mut message).unwrap_or(0);
    assert_eq!(&message[..n], b"READY=1\n", "{}", daemon.log());
    assert_eq!(daemon.api("GET", "/_ping", None).1, "OK");
    signal(child.id(), "TERM");
    eventually("the end", || child.try_wait().unwrap().is_some());
    assert!(path.exists(), "a socket that systemd made is systemd's to remove");
}
