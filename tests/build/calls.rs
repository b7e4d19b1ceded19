//! `--check` and `--call`: what buildx 0.29 with the BuildKit of 28.5.2 printed for the same
//! files (`calls/record.py` asks it), stdout and exit code.
//!
//!     --- call CODE FLAGS…   in a folder that has the case's context under its name

use super::corpus::parse;
use crate::harness::{Client, Daemon, probe, run};
use crate::need;

#[test]
fn what_buildx_says() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let folder = d.scratch.dir("calls");
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in parse(include_str!("calls/calls.txt")) {
        case.lay_out(&folder.join(&case.name));
        for (head, wanted) in case.sections.iter().filter(|(head, _)| head.starts_with("call ")) {
            let words: Vec<&str> = head.split(' ').collect();
            let mut command = d.cli(Client::Ours);
            let shown = run(command.current_dir(&folder).arg("build").args(&words[2..]));
            count += 1;
            if shown.code.to_string() != words[1] || shown.stdout != *wanted {
                wrong.push(format!("=== {}: {head}\n--- recorded\n{wanted}--- ours\n{shown}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} calls\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(d.docker(&["images", "-q"]).ok().lines().count(), 1, "something was built");
}

#[test]
fn calls_that_are_none() {
    let d = Daemon::start();
    let folder = super::context(&d, "one", &[("Dockerfile", "FROM busybox\nCMD x\n")]).display().to_string();
    for (flag, part) in [
        ("--call=nope", "--call=nope is not supported"),
        ("--call=check,format=json", "--call=check,format=json is not supported"),
    ] {
        d.docker(&["build", flag, &folder]).contains(part).fails(1);
    }
    // A finding that is an error says so on stderr as well.
    d.scratch.file("one/Dockerfile", "# check=error=true\nFROM busybox\nCMD x\n");
    d.docker(&["build", "--check", &folder])
        .contains("ERROR: lint violation found for rules: JSONArgsRecommended")
        .fails(1);
}
