//! What the prunes take, what they leave, and how much they say it was.

use crate::harness::{Daemon, probe};
use crate::need;

#[test]
fn containers_by_label_and_age() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        for (name, label) in [("one", "keep=1"), ("two", "keep=2"), ("three", "other")] {
            let write = "head -c 100000 /dev/zero >/f";
            d.docker(&["run", "--name", name, "--label", label, "busybox", "sh", "-c", write]).ok();
        }
        d.run_detached(&["--name", "up", "--stop-signal", "KILL", "busybox", "sleep", "1000"]);
        let left = || {
            let out = d.docker(&["ps", "-a", "--format", "{{.Names}}"]).ok();
            let mut names: Vec<&str> = out.lines().collect();
            names.sort_unstable();
            names.join(" ")
        };
        let prune = |filters: &[&str]| {
            let flags: Vec<&str> = filters.iter().flat_map(|f| ["--filter", f]).collect();
            d.with(c, &[&["container", "prune", "-f"], &flags[..]].concat())
        };
        prune(&["label=nosuch"]).prints("Total reclaimed space: 0B");
        prune(&["until=1h"]).prints("Total reclaimed space: 0B");
        assert_eq!(left(), "one three two up");
        let out = prune(&["label=keep=2"]).ok();
        assert!(out.starts_with("Deleted Containers:\n") && out.ends_with("\nTotal reclaimed space: 100kB\n"), "{out}");
        assert_eq!(left(), "one three up");
        prune(&["label!=keep"]).contains("Total reclaimed space: 100kB").ok();
        assert_eq!(left(), "one up");
        prune(&["until=2100-01-01T00:00:00Z", "label=keep"]).contains("100kB").ok();
        assert_eq!(left(), "up");
        let words = prune(&["bogus=1"]).fails(1);
        assert!(words.contains("invalid filter 'bogus'"), "{words}");
        d.docker(&["rm", "-f", "up"]).ok();
    }
}

#[test]
fn volumes_by_name_and_label() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        d.docker(&["volume", "create", "--label", "tier=db", "named"]).ok();
        d.docker(&["volume", "create", "plain"]).ok();
        let fill = "head -c 50000 /dev/zero >/a/f; cp /a/f /n/f";
        let id = d.run_detached(&["-v", "/a", "-v", "named:/n", "busybox", "sh", "-c", fill]);
        d.docker(&["wait", &id]).ok();
        // In use, however little it runs.
        d.with(c, &["volume", "prune", "-af", "--filter", "label=tier=db"]).prints("Total reclaimed space: 0B");
        d.docker(&["rm", &id]).ok();
        // Nobody named it: gone without -a.
        let out = d.with(c, &["volume", "prune", "-f"]).ok();
        assert!(out.ends_with("\nTotal reclaimed space: 50kB\n"), "{out}");
        let df = d.with(c, &["system", "df", "-v", "--format", "{{range .Volumes}}{{.Name}}={{.Size}} {{end}}"]).ok();
        assert!(df.contains("named=50kB") && df.contains("plain=0B"), "{df}");
        let out = d.with(c, &["volume", "prune", "-af", "--filter", "label=tier"]).ok();
        assert_eq!(out, "Deleted Volumes:\nnamed\n\nTotal reclaimed space: 50kB\n");
        d.with(c, &["volume", "prune", "-af", "--filter", "label!=tier"]).contains("plain").ok();
        d.docker(&["volume", "ls", "-q"]).prints("");
    }
}
