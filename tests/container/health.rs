//! Health checks: timings, the log of five, events, what the daemon does at the end.

use crate::harness::{Daemon, eventually, probe};
use crate::need;

fn health(d: &Daemon, id: &str) -> serde_json::Value {
    d.json("GET", &format!("/v1.51/containers/{id}/json"), None)["State"]["Health"].take()
}

/// Statuses in the order of their events.
fn told(d: &Daemon, id: &str) -> Vec<String> {
    let filters = [&format!("container={id}")[..], "event=health_status"].map(|f| format!("--filter={f}"));
    let format = "--format={{.Action}}";
    let out = d.docker(&["events", "--since=0", "--until=0s", &filters[0], &filters[1], format]).ok();
    out.lines().map(|l| l.trim_start_matches("health_status: ").to_owned()).collect()
}

#[test]
fn failures_count_once_it_has_started() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let flags = [
            "--health-cmd=echo looked; test -e /fine",
            "--health-interval=20ms",
            "--health-start-period=1h",
            "--health-start-interval=10ms",
            "--health-retries=3",
            "--health-timeout=30s",
        ];
        let args = [&["run", "-d"][..], &flags, &["busybox", "sleep", "1000"]].concat();
        let id = d.with(c, &args).ok().trim().to_owned();
        assert_eq!(
            d.inspect(&id, "{{.Config.Healthcheck}}"),
            "{[CMD-SHELL echo looked; test -e /fine] 20ms 30s 1h0m0s 10ms 3}"
        );
        // Many failures within the start period are none, and five are kept.
        let mut first = None;
        eventually("five other probes", || {
            let now = health(&d, &id);
            assert_eq!((&now["Status"], &now["FailingStreak"]), (&"starting".into(), &0.into()), "{now}");
            let log = now["Log"].as_array().unwrap();
            assert!(log.len() <= 5, "{now}");
            let oldest = log.first().map(|l| l["Start"].to_string());
            first = first.take().or(oldest.clone());
            log.len() == 5 && oldest != first
        });
        let one = health(&d, &id)["Log"][0].take();
        assert_eq!((&one["ExitCode"], &one["Output"]), (&1.into(), &"looked\n".into()), "{one}");
        d.docker(&["exec", &id, "touch", "/fine"]).ok();
        eventually("health", || health(&d, &id)["Status"] == "healthy");
        assert!(d.docker(&["ps"]).ok().contains("(healthy)"));
        d.docker(&["ps", "-q", "--no-trunc", "--filter", "health=healthy"]).prints(&id);
        // From now on failures count, although the period is not over.
        d.docker(&["exec", &id, "rm", "/fine"]).ok();
        eventually("the third failure", || health(&d, &id)["Status"] == "unhealthy");
        assert!(health(&d, &id)["FailingStreak"].as_i64().unwrap() >= 3);
        d.docker(&["exec", &id, "touch", "/fine"]).ok();
        eventually("health again", || health(&d, &id)["Status"] == "healthy");
        assert_eq!(health(&d, &id)["FailingStreak"], 0);
        d.docker(&["stop", "-t", "0", &id]).ok();
        assert_eq!(told(&d, &id), ["healthy", "unhealthy", "healthy"]);
        // A new start begins anew.
        d.docker(&["start", &id]).ok();
        eventually("health after a restart", || health(&d, &id)["Status"] == "healthy");
        d.docker(&["rm", "-f", &id]).ok();
    }
}

#[test]
fn a_probe_that_takes_too_long_has_failed() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = d.run_detached(&[
        "--health-cmd=echo begun; sleep 1000",
        "--health-interval=10ms",
        "--health-timeout=50ms",
        "--health-retries=1",
        "busybox",
        "sleep",
        "1000",
    ]);
    eventually("the verdict", || health(&d, &id)["Status"] == "unhealthy");
    let one = health(&d, &id)["Log"][0].take();
    assert_eq!(one["ExitCode"], -1, "{one}");
    assert!(one["Output"].as_str().unwrap().contains("Health check exceeded timeout (50ms)"), "{one}");
    // Its process is gone with it.
    d.docker(&["kill", &id]).ok();
}

#[test]
fn a_check_that_is_none() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let file = "FROM busybox\nHEALTHCHECK --interval=10ms --retries=2 CMD test -e /fine\nCMD sleep 1000\n";
    for c in d.clients() {
        d.docker_input(c, &["build", "-qt", "checked", "-"], file).ok();
        let id = d.run_detached(&["checked"]);
        eventually("the image's check", || health(&d, &id)["Status"] == "unhealthy");
        // Paused, it is not asked.
        d.docker(&["pause", &id]).ok();
        d.docker(&["unpause", &id]).ok();
        d.docker(&["exec", &id, "touch", "/fine"]).ok();
        eventually("health", || health(&d, &id)["Status"] == "healthy");
        let none = d.docker(&["run", "-d", "--no-healthcheck", "checked"]).ok();
        assert!(health(&d, none.trim()).is_null());
        // One timing of the user's, the rest of the image's.
        let mixed = d.with(c, &["run", "-d", "--health-retries=7", "checked"]).ok();
        assert_eq!(
            d.inspect(mixed.trim(), "{{.Config.Healthcheck.Retries}} {{.Config.Healthcheck.Interval}}"),
            "7 10ms"
        );
        d.docker(&["rm", "-f", &id, none.trim(), mixed.trim()]).ok();
    }
    let words = d.docker(&["run", "--no-healthcheck", "--health-cmd=true", "busybox"]).fails(125);
    assert!(words.contains("--no-healthcheck conflicts with --health-* options"), "{words}");
}
