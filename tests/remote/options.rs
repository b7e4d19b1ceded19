//! `dockerd --validate` beside what dockerd 28.5 prints.

use crate::harness::{Daemon, Output, run};

fn validate(daemon: &Daemon, args: &[&str]) -> Output {
    run(daemon.command("bin/dockerd").arg("--validate").args(args))
}

#[test]
fn flags_are_judged_in_the_originals_words() {
    let daemon = Daemon::prepare(&[], &[]);
    for (args, want) in [
        (&["--log-level=foo"][..], "invalid logging level: foo"),
        (&["--label", "a=b", "--label", "a=c"], "conflict labels for a=c and a=b"),
        (&["--mtu=-1"], "invalid default MTU: -1"),
        (&["--max-concurrent-downloads=-1"], "invalid max concurrent downloads: -1"),
        (&["--default-ipc-mode", "foo"], "default IPC mode setting (foo) is invalid; use \"shareable\" or \"private\""),
        (&["--default-cgroupns-mode", "foo"], "invalid default cgroup namespace (foo): use \"host\" or \"private\""),
        (&["--log-format", "foo"], "invalid log format: foo"),
        (&["--exec-opt", "foo=bar"], "invalid exec-opt (foo=bar): unknown option: 'foo'"),
        (&["--foo"], "unknown flag: --foo\nSee 'dockerd --help'."),
        (
            &["-H", "ftp://x"],
            "invalid argument \"ftp://x\" for \"-H, --host\" flag: invalid bind address (ftp://x): unsupported proto 'ftp'",
        ),
        (
            &["-H=tcp://h:0"],
            "invalid argument \"tcp://h:0\" for \"-H, --host\" flag: invalid bind address (tcp://h:0): invalid port: 0",
        ),
        (&["--default-ulimit=x"], "invalid argument \"x\" for \"--default-ulimit\" flag: invalid ulimit argument: x"),
        (&["--default-shm-size=x"], "invalid argument \"x\" for \"--default-shm-size\" flag: invalid size: 'x'"),
        (
            &["--config-file=/nope"],
            "unable to configure the Docker daemon with file /nope: open /nope: no such file or directory",
        ),
    ] {
        let text = validate(&daemon, args).fails(1);
        assert!(text.starts_with(want), "{args:?}: {text}");
    }
    let said =
        validate(&daemon, &["-D", "-Hunix:///x", "--icc=false", "--dns=1.1.1.1", "--default-ulimit", "nofile=1:2"]);
    assert_eq!((said.code, said.stderr.trim()), (0, "configuration OK"));
}

#[test]
fn the_file_and_the_flags_may_not_meet() {
    let daemon = Daemon::prepare(&[], &[]);
    let file = daemon.scratch.file("daemon.json", r#"{"debug":true,"hosts":["unix:///a"]}"#);
    let option = format!("--config-file={}", file.display());
    let text = validate(&daemon, &[&option, "--debug=false", "-H", "unix:///b"]).fails(1);
    assert!(
        text.contains(
            "the following directives are specified both as a flag and in the configuration file: \
             debug: (from flag: false, from file: true), hosts: (from flag: [unix:///b], from file: [unix:///a])"
        ),
        "{text}"
    );
    std::fs::write(&file, r#"{"nosuch":1,"log-driver":"local"}"#).unwrap();
    let text = validate(&daemon, &[&option]).fails(1);
    assert!(text.contains("the following directives don't match any configuration option: nosuch"), "{text}");
    std::fs::write(&file, r#"{"debug":"x"}"#).unwrap();
    let text = validate(&daemon, &[&option]).fails(1);
    assert!(text.contains("json: cannot unmarshal string into Go struct field Config.debug of type bool"), "{text}");
}

#[test]
fn what_would_drop_a_safeguard_is_refused() {
    let daemon = Daemon::prepare(&[], &[]);
    for args in [&["--authorization-plugin=x"][..], &["--userns-remap=default"], &["--cpu-rt-period=5"]] {
        validate(&daemon, args).fails(1);
    }
}
