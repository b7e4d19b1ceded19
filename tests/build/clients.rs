//! Clients that are not ours: the original's, compose, the Python SDK.

use super::sh;
use crate::harness::command::run_with_input;
use crate::harness::{Client, Daemon, probe, run};
use crate::need;

const SDK: &str = r#"
import docker, io, json, os, sys, tarfile
c = docker.from_env()
folder = sys.argv[1]
image, log = c.images.build(path=folder, tag="sdk:1", buildargs={"V": "given"}, labels={"l": "1"}, target="made",
                            network_mode="none", rm=True, nocache=True)
lines = [entry.get("stream", "") for entry in log]
assert any(line.startswith("Step 1/") for line in lines), lines
assert any(line.startswith("Successfully built ") for line in lines), lines
assert image.labels == {"l": "1"} and "sdk:1" in image.tags, image.attrs
image, _ = c.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN echo alone > /alone\n"), tag="sdk:2", network_mode="none")
tar = io.BytesIO()
with tarfile.open(fileobj=tar, mode="w:gz") as t:
    text = b"FROM busybox\nCOPY . /all\n"
    info = tarfile.TarInfo("sub/Other"); info.size = len(text)
    t.addfile(info, io.BytesIO(text))
tar.seek(0)
c.images.build(fileobj=tar, custom_context=True, encoding="gzip", dockerfile="sub/Other", tag="sdk:3")
try:
    c.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 5\n"), network_mode="none")
    sys.exit("no error")
except docker.errors.BuildError as e:
    assert "returned a non-zero code: 5" in e.msg, e.msg
try:
    c.images.build(fileobj=io.BytesIO(b"NONSENSE\n"))
    sys.exit("no error")
except docker.errors.APIError as e:
    assert "dockerfile parse error" in str(e) or "unknown instruction" in str(e), e
print(c.api.prune_builds()["SpaceReclaimed"] >= 0)
"#;

#[test]
fn the_python_sdk() {
    need!(probe::busybox(), probe::python("docker", "python3-docker"));
    let d = Daemon::with_busybox();
    let file = "FROM busybox AS made\nARG V\nRUN echo $V > /v\nCOPY f /f\nFROM busybox\nRUN exit 1\n";
    let files = [("Dockerfile", file), ("f", "file"), ("x", "ignored"), (".dockerignore", "x\n")];
    let folder = super::context(&d, "sdk", &files);
    let script = d.scratch.file("sdk.py", SDK);
    run(d.command("/usr/bin/python3").arg(script).arg(&folder)).prints("True");
    assert_eq!(sh(&d, "sdk:1", "cat /v /f"), "given\nfile");
    assert_eq!(sh(&d, "sdk:2", "cat /alone"), "alone");
    assert_eq!(sh(&d, "sdk:3", "ls /all"), "sub");
}

const PROJECT: &str = "
services:
  web:
    build:
      context: web
      dockerfile: Other
      target: run
      network: none
      args: {V: composed}
      labels: {made: by-compose}
    network_mode: none
    command: cat /v
";

/// Compose builds by the classic API where there is no BuildKit.
#[test]
fn builds_of_compose() {
    need!(probe::busybox(), probe::plugin("compose"));
    let d = Daemon::with_busybox();
    super::context(&d, "project/web", &[("Other", "FROM busybox AS run\nARG V\nRUN echo $V > /v\nFROM nosuch\n")]);
    d.scratch.file("project/compose.yaml", PROJECT);
    d.scratch.dir("home/.docker/cli-plugins");
    let plugin = d.scratch.join("home/.docker/cli-plugins/docker-compose");
    std::os::unix::fs::symlink(probe::plugin("compose").unwrap(), plugin).unwrap();
    let compose = |client: Client, line: &str| {
        let mut command = d.cli(client);
        command.env("DOCKER_BUILDKIT", "0").arg("compose").arg("-f").arg(d.scratch.join("project/compose.yaml"));
        run(command.args(line.split(' ')))
    };
    for client in d.clients() {
        compose(client, "build web").ok();
        compose(client, "run --rm web").contains("composed").ok();
        assert_eq!(d.inspect("project-web", "{{.Config.Labels.made}}"), "by-compose");
        compose(client, "down --rmi all").ok();
    }
}

/// What the original's client asks of the builder beyond plain builds.
#[test]
fn the_classic_client() {
    need!(probe::busybox(), probe::real_docker());
    let d = Daemon::with_busybox();
    let files = [(
        "Dockerfile",
        "FROM busybox\nARG V\nRUN --mount=type=tmpfs,target=/t echo $V > /v\nCOPY <<E /h\nheredoc\nE\n",
    )];
    let folder = super::context(&d, "classic", &files).display().to_string();
    let id_file = d.scratch.join("id").display().to_string();
    let with = |flags: &[&str]| {
        let mut command = d.cli(Client::Real);
        command.env("DOCKER_BUILDKIT", "0").args(["build", "--network", "none"]);
        run(command.args(flags).arg(&folder))
    };
    let shown =
        with(&["-t", "a:1", "-t", "b", "--build-arg", "V=1", "--iidfile", &id_file, "--label", "x=y", "--no-cache"])
            .ok();
    for part in [
        "Step 1/4 : FROM busybox\n", "Step 3/4 : RUN", " ---> Running in ", "Successfully built ",
        "Successfully tagged a:1\n", "Successfully tagged b:latest",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(sh(&d, "a:1", "cat /v /h"), "1\nheredoc");
    assert_eq!(std::fs::read_to_string(&id_file).unwrap(), d.inspect("b", "{{.Id}}"));
    assert!(with(&["-t", "a:1", "--build-arg", "V=1"]).ok().contains(" ---> Using cache\n"));
    // The archive of this form ends in the middle of the last file's padding.
    let mut command = d.cli(Client::Real);
    command.env("DOCKER_BUILDKIT", "0").args(["build", "-q", "--network", "none", "-f", "-", &folder]);
    run_with_input(&mut command, b"FROM busybox\nRUN true\n".to_vec()).ok();
    let quiet = with(&["-q", "--build-arg", "V=1"]).ok();
    assert!(quiet.starts_with("sha256:") && quiet.trim().len() == 71, "{quiet:?}");
    let unused = with(&["--build-arg", "V=1", "--build-arg", "NONE=1"]).ok();
    assert!(unused.contains("[Warning] One or more build-args [NONE] were not consumed"), "{unused}");
    with(&[
        "--memory", "64m", "--cpu-shares", "512", "--ulimit", "nofile=99:99", "--add-host", "h:10.0.0.1", "--no-cache",
    ])
    .ok();
}

/// The stream of the API, message by message: as recorded of 28.5.2, but for the
/// containers that its builder makes for instructions that run nothing.
#[test]
fn messages_of_the_classic_stream() {
    need!(probe::busybox(), probe::program("curl", "curl"));
    let d = Daemon::with_busybox();
    let mut tar = crate::harness::image::Tar::default();
    tar.file("Dockerfile", 0o644, b"FROM busybox\nRUN echo hi > /x\nLABEL a=b\n");
    let context = d.scratch.file("context.tar", tar.finish());
    let post = |query: &str, file: &std::path::Path| -> Vec<String> {
        let url = format!("http://d/v1.51/build?{query}");
        let mut command = std::process::Command::new("curl");
        command.args(["-s", "--unix-socket"]).arg(d.socket()).args([
            "-H",
            "Content-Type: application/x-tar",
            "-X",
            "POST",
        ]);
        let shown = run(command.arg("--data-binary").arg(format!("@{}", file.display())).arg(url)).ok();
        let id = |text: &str| -> String {
            let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            for word in &mut words {
                let bare: String = word.replace("\\n\"}", "");
                if bare.len() == 12 && bare.chars().all(hex) {
                    *word = word.replace(&bare, "ID12");
                }
            }
            words.join(" ")
        };
        shown.lines().map(id).collect()
    };
    let lines = post("t=samplebuild&q=0&networkmode=none", &context);
    let id = d.inspect("samplebuild", "{{.Id}}");
    let wanted = [
        r#"{"stream":"Step 1/3 : FROM busybox"}"#,
        r#"{"stream":"\n"}"#,
        r#"{"stream":" ---> ID12\n"}"#,
        r#"{"stream":"Step 2/3 : RUN echo hi > /x"}"#,
        r#"{"stream":"\n"}"#,
        r#"{"stream":" ---> Running in ID12\n"}"#,
        r#"{"stream":" ---> Removed intermediate container ID12\n"}"#,
        r#"{"stream":" ---> ID12\n"}"#,
        r#"{"stream":"Step 3/3 : LABEL a=b"}"#,
        r#"{"stream":"\n"}"#,
        r#"{"stream":" ---> ID12\n"}"#,
        &format!(r#"{{"aux":{{"ID":"{id}"}}}}"#),
        r#"{"stream":"Successfully built ID12\n"}"#,
        r#"{"stream":"Successfully tagged samplebuild:latest\n"}"#,
    ];
    assert_eq!(lines, wanted);
    let mut tar = crate::harness::image::Tar::default();
    tar.file("Dockerfile", 0o644, b"FROM busybox\nRUN exit 3\n");
    let fails = d.scratch.file("fails.tar", tar.finish());
    let last = post("networkmode=none", &fails).pop();
    let told = "The command '/bin/sh -c exit 3' returned a non-zero code: 3";
    let wanted = format!(r#"{{"errorDetail":{{"code":3,"message":"{told}"}},"error":"{told}"}}"#);
    assert_eq!(last.as_deref(), Some(wanted.as_str()));
}

/// buildx hears what this engine is and what to do, and looks for no other builder.
#[test]
fn buildx_is_told() {
    need!(probe::busybox(), probe::plugin("buildx"));
    let d = Daemon::with_busybox();
    d.scratch.dir("home/.docker/cli-plugins");
    let plugin = d.scratch.join("home/.docker/cli-plugins/docker-buildx");
    std::os::unix::fs::symlink(probe::plugin("buildx").unwrap(), plugin).unwrap();
    let folder = super::context(&d, "x", &[("Dockerfile", "FROM busybox\n")]).display().to_string();
    let mut command = d.cli(Client::Real);
    let shown = crate::harness::run(command.args(["build", &folder]).env("DOCKER_BUILDKIT", "1"));
    assert!(shown.code != 0 && shown.stderr.contains("set DOCKER_BUILDKIT=0"), "{shown}");
    assert!(!shown.stderr.contains("booting buildkit"), "{shown}");
}
