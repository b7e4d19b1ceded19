//! What strangers say, on the user's terminal: words, and nothing that drives it.

use super::scripted::{Reply, Scripted};
use crate::harness::{Daemon, probe, run};
use crate::need;

const TITLE: &str = "\x1b]0;taken\x07";

#[test]
fn strangers_words_do_not_drive_a_terminal() {
    need!(probe::busybox(), probe::program("script", "bsdutils"));
    let d = Daemon::with_busybox();
    let said = r#"{"errors":[{"code":"DENIED","message":"\u001b]0;taken\u0007\u009b2J\rhidden"}]}"#;
    let server = Scripted::start(move |_| Reply::new(500, said));
    let label = format!("say={TITLE}");
    d.docker(&["create", "--name", "loud", "--label", &label, "busybox", TITLE]).ok();
    let program = d.scratch.join("bin/docker");
    let shown = |line: &str| {
        let mut command = d.command("/usr/bin/script");
        command.args(["-qec", &format!("{} {line}", program.display()), "/dev/null"]).env("TERM", "xterm");
        run(&mut command).stdout
    };
    for line in [
        &format!("pull {}/repo:v1", server.address),
        &format!("run --rm {}/repo:v1", server.address),
        "ps -a --no-trunc --format '{{.Labels}} {{.Command}}'",
        "inspect -f '{{index .Config.Labels \"say\"}}' loud",
        "start loud",
        "events --since 0 --until 0s",
    ] {
        let text = shown(line);
        assert!(text.contains("taken"), "{line}: {text:?}");
        let bad = ["\x1b]", "\x07", "\u{9b}", "\rhidden"].iter().any(|b| text.contains(b));
        assert!(!bad, "{line}: {text:?}");
    }
    // People's own formats keep their colours, and pipes get what there is.
    assert!(shown("ps -a --format '\x1b[31m{{.Names}}\x1b[0m'").contains("\x1b[31mloud\x1b[0m"));
    assert_eq!(d.inspect("loud", "{{index .Config.Labels \"say\"}}"), TITLE);
}
