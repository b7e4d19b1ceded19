//! Programs that add commands to the client: the rules by which they are found and
//! started, beside the original's client, and two that everybody has.

use crate::harness::{Client, Daemon, Output, eventually, probe, run};
use crate::need;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

const METADATA: &str =
    r#"{"SchemaVersion":"0.1.0","Vendor":"me","Version":"1.2","ShortDescription":"Say it","URL":"http://u"}"#;

fn install(daemon: &Daemon, name: &str, script: &str) {
    let path =
        daemon.scratch.file(&format!("home/.docker/cli-plugins/docker-{name}"), format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A plugin that answers the metadata call and does `script` otherwise.
fn good(daemon: &Daemon, name: &str, script: &str) {
    install(
        daemon,
        name,
        &format!("[ \"$1\" = docker-cli-plugin-metadata ] && {{ echo '{METADATA}'; exit; }}\n{script}"),
    );
}

/// The lines that speak of plugins, with the paths of this test taken out.
fn of_plugins(daemon: &Daemon, out: &Output) -> Vec<String> {
    let dir = daemon.scratch.join("home/.docker/cli-plugins/").display().to_string();
    let all = format!("{}{}", out.stdout, out.stderr).replace(&dir, "");
    all.lines()
        .filter(|l| {
            ["say", "Say it", "not valid", "1.2", "Invalid Plugins", "did not match", "metadata", "duplicates"]
                .iter()
                .any(|w| l.contains(w))
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn listed_judged_and_run_as_by_the_original() {
    let daemon = Daemon::start();
    good(&daemon, "say", "echo \"$*\"; env | grep -c ^DOCKER_CLI_PLUGIN_; exit 7");
    install(&daemon, "bad", "exit 3");
    install(&daemon, "nojson", "echo hello");
    install(&daemon, "novendor", "echo '{\"SchemaVersion\":\"0.1.0\"}'");
    install(&daemon, "newer", "echo '{\"SchemaVersion\":\"9.1.0\",\"Vendor\":\"x\"}'");
    install(&daemon, "Upper", "true");
    install(&daemon, "ps", "true");
    daemon.scratch.file("home/.docker/cli-plugins/docker-closed", "");
    let mut seen = Vec::new();
    for client in daemon.clients() {
        let info = of_plugins(&daemon, &daemon.with(client, &["info"]));
        let help = of_plugins(&daemon, &daemon.with(client, &["--help"]));
        assert!(
            info.iter().any(|l| l.contains("say: Say it (me)")) && help.iter().any(|l| l.contains("say*")),
            "{help:?}"
        );
        assert_eq!(info.iter().filter(|l| l.contains("is not valid")).count(), 7, "{info:?}");
        let out = daemon.with(client, &["-D", "say", "-x", "--", "y"]);
        assert_eq!((out.code, out.stdout.as_str()), (7, "-D say -x -- y\n2\n"), "{client:?}: {out}");
        for name in ["bad", "nojson", "newer", "closed", "Upper"] {
            let text = daemon.with(client, &[name]).fails(1);
            assert!(text.starts_with(&format!("docker: unknown command: docker {name}\n")), "{client:?}: {text}");
        }
        seen.push((info, help));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:#?}");
}

/// Told to end, the client closes the plugin's socket and waits for it.
#[test]
fn a_plugin_hears_of_the_end_through_its_socket() {
    need!(probe::program("python3", "python3"));
    let daemon = Daemon::prepare(&[], &[]);
    let script = "import os,socket\ns=socket.socket(socket.AF_UNIX)\ns.connect('\\0'+os.environ['DOCKER_CLI_PLUGIN_SOCKET'][1:])\nprint('connected',flush=True)\ns.recv(1)\nprint('told',flush=True)\nos._exit(5)";
    let program = daemon.scratch.file("wait.py", script);
    good(&daemon, "linger", &format!("exec python3 {}", program.display()));
    let out = daemon.scratch.join("out");
    let mut child = daemon
        .command("bin/docker")
        .arg("linger")
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(&out).unwrap_or_default();
    eventually("the plugin's connection", || said().contains("connected"));
    crate::harness::daemon::signal(child.id(), "TERM");
    eventually("the plugin's end", || child.try_wait().unwrap().is_some());
    assert_eq!((child.wait().unwrap().code(), said().as_str()), (Some(5), "connected\ntold\n"));
}

fn with_plugins(daemon: &Daemon) {
    daemon.scratch.dir("home/.docker/cli-plugins");
    for name in ["compose", "buildx"] {
        if let Ok(path) = probe::plugin(name) {
            symlink(path, daemon.scratch.join(format!("home/.docker/cli-plugins/docker-{name}"))).unwrap();
        }
    }
}

#[test]
fn compose_builds_starts_and_removes_a_project() {
    need!(probe::plugin("compose"), probe::busybox());
    let daemon = Daemon::with_busybox();
    with_plugins(&daemon);
    let project = daemon.scratch.dir("project");
    std::fs::write(
        project.join("compose.yaml"),
        "name: trial\nservices:\n  web:\n    image: busybox\n    command: [httpd, -f, -p, '8080', -h, /www]\n    volumes: ['data:/data']\n    healthcheck: {test: [CMD, 'true'], interval: 1s}\n  job:\n    build: .\n    depends_on: {web: {condition: service_healthy}}\n    command: [sh, -c, 'wget -qO- http://web:8080/ && cat /x']\nvolumes: {data: {}}\n",
    )
    .unwrap();
    std::fs::write(project.join("Dockerfile"), "FROM busybox\nRUN echo built >/x\n").unwrap();
    let compose = |args: &[&str]| {
        let mut command: Command = daemon.cli(Client::Ours);
        run(command.current_dir(&project).arg("compose").args(args))
    };
    assert!(compose(&["version"]).ok().contains("Docker Compose version"));
    // The daemon builds classically; nobody had to say so.
    compose(&["up", "-d"]).ok();
    eventually("the job's words", || {
        compose(&["logs", "--no-log-prefix", "job"]).stdout.contains("hello from coracle\nbuilt")
    });
    compose(&["exec", "-T", "web", "id", "-u"]).prints("0");
    compose(&["ps", "--services"]).prints("web");
    compose(&["stop", "-t", "1"]).ok();
    compose(&["start", "web"]).ok();
    compose(&["down", "-v", "-t", "0", "--rmi", "local"]).ok();
    daemon.docker(&["ps", "-aq"]).prints("");
    daemon.docker(&["volume", "ls", "-q"]).prints("");
}

#[test]
fn buildx_runs_as_a_command_of_ours() {
    need!(probe::plugin("buildx"));
    let daemon = Daemon::start();
    with_plugins(&daemon);
    daemon.docker(&["buildx", "version"]).contains("buildx").ok();
    daemon.docker(&["buildx", "ls"]).contains("default").ok();
    daemon.docker(&["help", "buildx"]).contains("Usage:  docker buildx").ok();
    daemon.docker(&["info", "-f", "{{range .ClientInfo.Plugins}}{{.Name}} {{end}}"]).contains("buildx").ok();
    daemon.scratch.file("docker-bake.hcl", "target \"default\" { tags = [\"trial\"] }\n");
    daemon.docker(&["bake", "--print"]).contains("\"trial\"").ok();
}
