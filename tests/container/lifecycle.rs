//! From create to rm, in every order that makes sense and some that do not.

use crate::harness::daemon::processes_of;
use crate::harness::{Daemon, eventually, probe};
use crate::need;

#[test]
fn create_start_stop_rm() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let id = d
            .with(
                c,
                &[
                    "create",
                    "--name",
                    "xx",
                    "busybox",
                    "sh",
                    "-c",
                    "trap 'exit 5' TERM; echo set; while :; do sleep 0.05; done",
                ],
            )
            .ok();
        assert_eq!(id.trim().len(), 64);
        assert_eq!(d.inspect("xx", "{{.State.Status}} {{.State.StartedAt}}"), "created 0001-01-01T00:00:00Z");
        d.with(c, &["start", "xx"]).prints("xx");
        assert_eq!(d.inspect("xx", "{{.State.Status}} {{.State.Running}}"), "running true");
        let words = d.with(c, &["rm", "xx"]).fails(1);
        assert!(words.contains("cannot remove container \"xx\": container is running: stop the container before removing or force remove"), "{words}");
        eventually("the trap", || d.docker(&["logs", "xx"]).stdout.contains("set"));
        d.with(c, &["stop", "xx"]).prints("xx");
        assert_eq!(d.inspect("xx", "{{.State.Status}} {{.State.ExitCode}}"), "exited 5");
        d.with(c, &["start", "xx"]).prints("xx");
        d.with(c, &["kill", "xx"]).prints("xx");
        assert_eq!(d.inspect("xx", "{{.State.ExitCode}}"), "137");
        let words = d.with(c, &["kill", "xx"]).fails(1);
        assert!(words.contains("is not running"), "{words}");
        d.with(c, &["rm", "xx"]).prints("xx");
        let words = d.with(c, &["start", "xx"]).fails(1);
        assert!(words.contains("No such container: xx"), "{words}");
    }
}

#[test]
fn stop_waits_then_kills() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    // Pid 1 without a handler ignores SIGTERM.
    let id = d.run_detached(&["--stop-timeout", "1", "busybox", "sleep", "1000"]);
    d.docker(&["stop", &id]).ok();
    assert_eq!(d.inspect(&id, "{{.State.ExitCode}}"), "137");
    let id = d.run_detached(&[
        "--stop-signal",
        "USR1",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 9' USR1; echo set; while :; do sleep 0.05; done",
    ]);
    eventually("the trap", || d.docker(&["logs", &id]).stdout.contains("set"));
    d.docker(&["stop", &id]).ok();
    assert_eq!(d.inspect(&id, "{{.State.ExitCode}}"), "9");
}

#[test]
fn pause_and_unpause() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let id = d.run_detached(&["busybox", "sh", "-c", "while :; do date +%s%N >/tick; usleep 20000; done"]);
        let tick = || d.docker(&["cp", &format!("{id}:/tick"), "-"]).raw;
        eventually("a tick", || d.docker(&["exec", &id, "cat", "/tick"]).code == 0);
        d.with(c, &["pause", &id]).prints(&id);
        assert_eq!(d.inspect(&id, "{{.State.Status}} {{.State.Paused}} {{.State.Running}}"), "paused true true");
        let words = d.with(c, &["exec", &id, "true"]).fails(1);
        assert!(words.contains("is paused, unpause the container before exec"), "{words}");
        let first = tick();
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(first == tick(), "it went on while paused");
        let words = d.with(c, &["pause", &id]).fails(1);
        assert!(words.contains("is already paused"), "{words}");
        d.with(c, &["unpause", &id]).prints(&id);
        eventually("the next tick", || first != tick());
        d.docker(&["rm", "-f", &id]).ok();
    }
}

#[test]
fn wait_gives_the_code() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let id = d.run_detached(&["busybox", "sh", "-c", "sleep 0.3; exit 6"]);
        d.with(c, &["wait", &id]).prints("6");
        d.with(c, &["wait", &id]).prints("6");
    }
}

#[test]
fn rename_restart_and_top() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let id = d.run_detached(&["--name", "before", "--stop-timeout", "0", "busybox", "sleep", "1000"]);
        d.with(c, &["rename", "before", "after"]).ok();
        assert_eq!(d.inspect("after", "{{.Id}}"), id);
        let started = d.inspect(&id, "{{.State.StartedAt}}");
        d.with(c, &["restart", "after"]).prints("after");
        assert_ne!(d.inspect(&id, "{{.State.StartedAt}}"), started);
        assert_eq!(d.inspect(&id, "{{.State.Running}} {{.RestartCount}}"), "true 0");
        let top = d.with(c, &["top", "after"]).ok();
        assert!(top.starts_with("UID") && top.contains("sleep 1000"), "{top}");
        d.docker(&["rm", "-f", &id]).ok();
    }
}

#[test]
fn auto_removal_is_the_daemon_s() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let id = d.with(c, &["run", "-d", "--rm", "-v", "/anonymous", "busybox", "sleep", "0.2"]).ok();
        let id = id.trim();
        eventually("the container's removal", || d.docker(&["inspect", id]).code != 0);
        d.docker(&["volume", "ls", "-q"]).prints("");
    }
}

#[test]
fn restart_policies() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = d.run_detached(&["--restart", "on-failure:2", "busybox", "false"]);
    eventually("the last attempt", || d.inspect(&id, "{{.RestartCount}} {{.State.Status}}") == "2 exited");
    let id = d.run_detached(&["--restart", "always", "busybox", "sleep", "0.1"]);
    eventually("a restart", || d.inspect(&id, "{{.RestartCount}}").parse::<u32>().unwrap() >= 2);
    d.docker(&["stop", "-t", "0", &id]).ok();
    let status = d.inspect(&id, "{{.State.Status}}");
    assert_eq!(status, "exited");
}

#[test]
fn ps_shows_and_filters() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let running = d.run_detached(&["--name", "run1", "-l", "tier=a", "busybox", "sleep", "1000"]);
    let ended = d.run_detached(&["--name", "end1", "busybox", "sh", "-c", "exit 4"]);
    d.docker(&["wait", &ended]).ok();
    for c in d.clients() {
        let ps = |args: &[&str]| d.with(c, &[&["ps", "--format", "{{.Names}}"], args].concat()).ok();
        assert_eq!(ps(&[]), "run1\n");
        assert_eq!(ps(&["-a"]), "end1\nrun1\n");
        assert_eq!(ps(&["-a", "-f", "status=exited"]), "end1\n");
        assert_eq!(ps(&["-a", "-f", "exited=4"]), "end1\n");
        assert_eq!(ps(&["-f", "label=tier=a"]), "run1\n");
        assert_eq!(ps(&["-a", "-f", "ancestor=busybox", "-f", "name=end"]), "end1\n");
        assert_eq!(ps(&["-a", "-f", "since=run1"]), "end1\n");
        assert_eq!(ps(&["-n", "1"]), "end1\n");
        assert!(d.with(c, &["ps", "-aq", "--no-trunc"]).ok().contains(&running));
        let table = d.with(c, &["ps", "-a"]).ok();
        assert!(table.starts_with("CONTAINER ID   IMAGE     COMMAND"), "{table}");
        assert!(table.contains("Exited (4)") && table.contains("\"sh -c 'exit 4'\""), "{table}");
        let words = d.with(c, &["ps", "--filter", "nosuch=1"]).fails(1);
        assert!(words.contains("invalid filter 'nosuch'"), "{words}");
    }
}

#[test]
fn prune_takes_what_does_not_run() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    d.run_detached(&["--name", "stays", "busybox", "sleep", "1000"]);
    for c in d.clients() {
        let id = d.docker(&["create", "busybox"]).ok();
        let out = d.with(c, &["container", "prune", "-f"]).ok();
        assert!(
            out.contains("Deleted Containers:") && out.contains(id.trim()) && out.contains("Total reclaimed space:"),
            "{out}"
        );
        d.with(c, &["ps", "-a", "--format", "{{.Names}}"]).prints("stays");
    }
}

#[test]
fn wait_conditions() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let wait =
        |id: &str, condition: &str| d.api("POST", &format!("/v1.51/containers/{id}/wait?condition={condition}"), None);
    let id = d.docker(&["create", "busybox", "sh", "-c", "exit 3"]).ok();
    let id = id.trim();
    // Not running: at once. The next exit: not this one.
    assert_eq!(wait(id, "not-running"), (200, "{\"StatusCode\":0}\n".into()));
    std::thread::scope(|scope| {
        let waiters = ["next-exit", "next-exit"].map(|condition| scope.spawn(move || wait(id, condition)));
        eventually("both to wait", || {
            // A start that comes before them would be missed.
            d.docker(&["start", id]).ok();
            waiters.iter().all(std::thread::ScopedJoinHandle::is_finished)
        });
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), (200, "{\"StatusCode\":3}\n".into()));
        }
        // The last of those starts may have been one too many.
        d.docker(&["wait", id]).prints("3");
        let removed = scope.spawn(|| wait(id, "removed"));
        d.docker(&["start", "-a", id]).fails(3);
        assert!(!removed.is_finished());
        // It may ask only now, when there is nothing left to wait for.
        d.docker(&["rm", id]).ok();
        let (status, body) = removed.join().unwrap();
        assert!(status == 404 || body == "{\"StatusCode\":3}\n", "{status} {body}");
    });
    let (status, body) = wait("nosuch", "removed");
    assert!(status == 404 && body.contains("No such container: nosuch"), "{status} {body}");
    let other = d.run_detached(&["busybox", "sleep", "1000"]);
    let (status, body) = wait(&other, "sometimes");
    assert!(status == 400 && body.contains("invalid condition: \\\"sometimes\\\""), "{status} {body}");
    let two = d.docker(&["create", "busybox", "sh", "-c", "exit 5"]).ok();
    d.docker(&["start", "-a", two.trim()]).fails(5);
    d.docker(&["kill", &other]).ok();
    d.docker(&["wait", two.trim(), &other]).prints("5\n137");
}

#[test]
fn each_restart_waits_twice_as_long() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = d.run_detached(&["--restart", "on-failure:4", "busybox", "false"]);
    eventually("the last attempt", || d.inspect(&id, "{{.RestartCount}} {{.State.Status}}") == "4 exited");
    let format = "--format={{.Action}} {{.TimeNano}}";
    let events = d.docker(&["events", "--since=0", "--until=0s", &format!("--filter=container={id}"), format]).ok();
    let times = |action: &str| -> Vec<u128> {
        let of = events.lines().filter_map(|l| l.strip_prefix(action)?.trim().parse().ok());
        of.collect()
    };
    let (starts, ends) = (times("start "), times("die "));
    assert_eq!((starts.len(), ends.len()), (5, 5), "{events}");
    for (n, (end, start)) in ends.iter().zip(&starts[1..]).enumerate() {
        assert!(start - end >= 100_000_000 << n, "restart {n} after {} ns", start - end);
    }
    assert_eq!(d.inspect(&id, "{{.State.ExitCode}}"), "1");
}

#[test]
fn policies_change_while_it_runs() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let id = d.run_detached(&["--restart", "always", "busybox", "sleep", "0.05"]);
        eventually("a restart", || d.inspect(&id, "{{.RestartCount}}") != "0");
        d.with(c, &["update", "--restart", "no", &id]).prints(&id);
        eventually("the last end", || d.inspect(&id, "{{.State.Status}} {{.State.Restarting}}") == "exited false");
        let count = d.inspect(&id, "{{.RestartCount}}");
        d.with(c, &["update", "--restart", "on-failure:1", &id]).ok();
        d.docker(&["start", &id]).ok();
        d.docker(&["wait", &id]).prints("0");
        assert!(d.inspect(&id, "{{.RestartCount}}").len() <= count.len());
        // A container that goes by itself takes no policy.
        let temporary = d.run_detached(&["--rm", "busybox", "sleep", "1000"]);
        let words = d.with(c, &["update", "--restart", "always", &temporary]).fails(1);
        assert!(words.contains("Restart policy cannot be updated because AutoRemove is enabled"), "{words}");
        d.docker(&["rm", "-f", &id, &temporary]).ok();
    }
}

#[test]
fn removals_may_meet() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for _ in 0..5 {
        let ids: Vec<String> = (0..4)
            .map(|_| d.run_detached(&["--rm", "--network=none", "-v", "/a", "busybox", "sleep", "0.05"]))
            .collect();
        std::thread::scope(|scope| {
            for id in &ids {
                // They end by themselves, are stopped and removed, all at once.
                scope.spawn(|| d.docker(&["rm", "-fv", id]));
                scope.spawn(|| d.docker(&["stop", "-t", "0", id]));
                scope.spawn(|| d.docker(&["wait", id]));
            }
        });
    }
    eventually("all to be gone", || d.docker(&["ps", "-aq"]).ok().is_empty());
    d.docker(&["volume", "ls", "-q"]).prints("");
    crate::harness::daemon::comes_clean(&d);
}

/// A removal that meets a start finds either nothing that runs or ends what runs: never
/// is a container gone whose process goes on.
#[test]
fn a_removal_meets_a_start() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for round in 0..40 {
        let id = d.docker(&["create", "--network", "none", "busybox", "sleep", "1000"]).ok();
        let id = id.trim();
        let force = if round % 2 == 0 { "?force=1" } else { "" };
        let (started, removed) = std::thread::scope(|s| {
            let start = s.spawn(|| d.api("POST", &format!("/containers/{id}/start"), None).0);
            let removed = d.api("DELETE", &format!("/containers/{id}{force}"), None).0;
            (start.join().unwrap(), removed)
        });
        let runs = started == 204 && removed != 204;
        assert!(matches!(started, 204 | 404 | 409) && matches!(removed, 204 | 409), "{started} {removed}");
        assert!(removed == 204 || force.is_empty());
        if runs {
            assert_eq!(d.inspect(id, "{{.State.Status}}"), "running");
            d.docker(&["rm", "-f", id]).ok();
        }
        assert_eq!(d.docker(&["ps", "-aq"]).ok(), "");
    }
    // Its shims end with what they look after.
    let shims = || {
        let name = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        processes_of(d.scratch.path())
            .iter()
            .filter(|pid| name(pid).contains("shim") || name(pid).contains("sleep"))
            .count()
    };
    eventually("the end of all shims", || shims() == 0);
}

/// A stop that comes between the end of a process and the news of it.
#[test]
fn what_ends_by_itself_can_be_stopped() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for _ in 0..15 {
        let id = d.run_detached(&["--network", "none", "--restart", "always", "busybox", "false"]);
        d.docker(&["stop", &id]).ok();
        assert_eq!(d.inspect(&id, "{{.State.Status}}"), "exited");
    }
}

#[test]
fn namespaces_are_joined_by_id() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let donor =
            d.run_detached(&["--name", "donor", "--network", "none", "--ipc", "shareable", "busybox", "sleep", "1000"]);
        let make = ["create", "--name", "guest", "--network", "container:donor", "--pid", "container:donor", "--ipc"];
        d.with(c, &[&make[..], &["container:donor", "busybox", "true"]].concat()).ok();
        let modes = "{{.HostConfig.NetworkMode}} {{.HostConfig.PidMode}} {{.HostConfig.IpcMode}}";
        assert_eq!(d.inspect("guest", modes), format!("container:{donor} container:{donor} container:{donor}"));
        // Another name changes nothing.
        d.docker(&["rename", "donor", "other"]).ok();
        d.with(c, &["start", "-a", "guest"]).ok();
        d.docker(&["rm", "-f", "other"]).ok();
        let words = d.with(c, &["start", "guest"]).fails(1);
        assert!(words.contains("No such container"), "{words}");
        d.docker(&["rm", "guest"]).ok();

        let words = d.with(c, &["create", "--pid", "container:nobody", "busybox"]).fails(1);
        assert!(words.contains("No such container: nobody"), "{words}");
        let donor = d.docker(&["create", "--name", "donor", "busybox", "sleep", "1000"]).ok();
        let words = d.with(c, &["run", "--rm", "--pid", "container:donor", "busybox", "true"]).fails(125);
        let expected = format!("failed to join PID namespace: container {} is not running", donor.trim());
        assert!(words.contains(&expected), "{words}");
        d.docker(&["start", "donor"]).ok();
        let words = d.with(c, &["run", "--rm", "--ipc", "container:donor", "busybox", "true"]).fails(125);
        assert!(words.contains("non-shareable IPC (hint: use IpcMode:shareable for the donor container)"), "{words}");
        let words =
            d.with(c, &["run", "--rm", "--name", "me", "--network", "container:me", "busybox", "true"]).fails(125);
        assert!(words.contains("cannot join own network namespace"), "{words}");
        d.docker(&["rm", "-f", "donor"]).ok();
    }
}
