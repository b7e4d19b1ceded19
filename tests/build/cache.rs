//! The cache: what hits, what misses, pruning, and ids that stay.

use super::build;
use crate::harness::{Client, Daemon, probe};
use crate::need;

#[test]
fn content_decides() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let file = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /a\nCOPY f /f\nRUN cat /proc/sys/kernel/random/uuid > /b\n";
    let files = [("Dockerfile", file), ("f", "1")];
    let made = |d: &Daemon, files: &[(&str, &str)], flags: &[&str]| {
        let shown = build(d, Client::Real, "cached", files, flags).ok();
        (shown.matches("Using cache").count(), d.inspect("cached", "{{.Id}}"))
    };
    let (hits, first) = made(&d, &files, &[]);
    assert_eq!(hits, 0);
    assert_eq!(made(&d, &files, &[]), (3, first.clone()));
    // Times do not count, another daemon neither.
    d.stop();
    d.up();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(made(&d, &files, &[]), (3, first.clone()));
    let (hits, second) = made(&d, &[("Dockerfile", file), ("f", "2")], &[]);
    assert!(hits == 1 && second != first, "{hits}");
    let (hits, third) = made(&d, &files, &["--no-cache"]);
    assert!(hits == 0 && third != first, "{hits}");
    // Layers of the cache outlive their images, until it is pruned.
    d.docker(&["rmi", "-f", &third, &second, &first]).ok();
    let rows = d.json("GET", "/system/df", None)["BuildCache"].clone();
    assert!(rows.as_array().is_some_and(|r| r.len() >= 5 && r.iter().all(|r| r["InUse"] == false)), "{rows}");
    assert!(rows.to_string().contains("RUN /bin/sh -c cat /proc/sys/kernel"), "{rows}");
    // Filters: nothing is that old, nothing has that name.
    for filter in ["until=24h", "unused-for=1h", "id=nosuch", "type=exec.cachemount", "inuse=true"] {
        let shown = d.docker(&["builder", "prune", "-af", "--filter", filter]).ok();
        assert!(shown.contains("Total reclaimed space: 0B") && !shown.contains("Deleted"), "{filter}: {shown}");
    }
    d.docker(&["builder", "prune", "-af", "--filter", "nosuch=1"]).contains("invalid filter 'nosuch'").fails(1);
    assert_eq!(made(&d, &files, &[]).0, 3);
    d.docker(&["builder", "prune", "-af"]).contains("Total reclaimed space").ok();
    assert_eq!(made(&d, &files, &[]).0, 0);
}
