//! Errors with their places; what a failed build leaves.

use super::build;
use crate::harness::{Client, Daemon, eventually, probe};
use crate::need;

#[test]
fn errors_say_where() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for (n, (file, part)) in [
        ("FROM busybox\n\nFOO x\n", "Dockerfile:3:1: unknown instruction: FOO"),
        ("FROM busybox\nCOPY nope /\n", "Dockerfile:2:1: COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist"),
        ("FROM busybox\nRUN exit 7\n", "did not complete successfully: exit code: 7"),
        ("FROM busybox AS a\nCOPY --from=a /x /x\n", "circular dependency"),
        ("FROM busybox\nRUN --security=insecure true\n", "security.insecure is not allowed"),
        ("FROM busybox\nRUN --mount=type=secret,id=q,required=true true\n", "secret q: not found"),
        ("FROM busybox\nRUN --network=host true\n", "network.host is not allowed"),
        ("FROM busybox\nRUN --device=a.b/c=d true\n", "device a.b/c=d is not allowed"),
        ("RUN x\n", "no build stage in current context"),
        ("FROM busybox\nRUN touch /.wh.bin\n", "names that begin with .wh. stand for deleted files"),
        ("FROM busybox\nCOPY <<.wh.a /\n.wh.a\n", "cannot copy /.wh.a"),
    ]
    .into_iter()
    .enumerate()
    {
        let shown = build(&d, Client::Ours, &format!("e{n}"), &[("Dockerfile", file)], &[]).fails(1);
        assert!(shown.contains(part), "{file}: {shown}");
    }
    let shown = build(&d, Client::Real, "classic", &[("Dockerfile", "FROM busybox\nRUN exit 7\n")], &[]).fails(7);
    assert!(shown.contains("The command '/bin/sh -c exit 7' returned a non-zero code: 7"), "{shown}");
    for client in d.clients() {
        let files = [("Dockerfile", "FROM busybox\n")];
        let shown = build(&d, client, "secure", &files, &["--security-opt", "label=disable"]).fails(1);
        assert!(shown.contains("does not support setting security options on build"), "{shown}");
    }
}

#[test]
fn a_client_that_leaves_ends_its_build() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let folder = super::context(&d, "slow", &[("Dockerfile", "FROM busybox\nRUN sleep 1000\n")]);
    let mut command = d.cli(Client::Ours);
    command.args(["build", "--network", "none", "-q"]).arg(&folder);
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    eventually("the step's container", || !d.docker(&["ps", "-q"]).ok().is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("no container", || d.docker(&["ps", "-aq"]).ok().is_empty());
    let left = || std::fs::read_dir(d.scratch.join("data/tmp")).unwrap().count();
    eventually("no context", || left() == 0);
}

#[test]
fn likely_mistakes_are_told() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let file = "FROM busybox AS Base\nARG NAME\nENV set=1\nWORKDIR $sett\nCOPY f /$NAME$PATH\nCMD text\n";
    let files = [("Dockerfile", file), ("f", "x")];
    let shown = build(&d, Client::Ours, "mistakes", &files, &[]);
    assert_eq!(shown.code, 0, "{shown}");
    for part in [
        " 3 warnings found:",
        " - StageNameCasing: Stage name 'Base' should be lowercase (line 1)",
        " - UndefinedVar: Usage of undefined variable '$sett' (did you mean $set?) (line 4)",
        " - JSONArgsRecommended: JSON arguments recommended for CMD",
    ] {
        assert!(shown.stderr.contains(part), "{part}\n{shown}");
    }
    let skipped = [("Dockerfile", format!("# check=skip=all\n{file}"))];
    let skipped: Vec<(&str, &str)> = skipped.iter().map(|(n, t)| (*n, t.as_str())).collect();
    assert!(!build(&d, Client::Ours, "mistakes", &skipped, &[]).ok().contains("found"));
    let strict = ["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true;skip=UndefinedVar"];
    build(&d, Client::Ours, "mistakes", &files, &strict)
        .contains("lint violation found for rules: JSONArgsRecommended, StageNameCasing")
        .fails(1);
}
