//! kill -9 of any process of ours, and what is true afterwards.

use crate::harness::daemon::{comes_clean, processes_of, signal};
use crate::harness::{Daemon, eventually, probe};
use crate::need;

/// The processes of a daemon that go by a name.
pub fn named(d: &Daemon, name: &str) -> Vec<u32> {
    let comm = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    processes_of(d.scratch.path()).into_iter().filter(|pid| comm(pid).trim_end() == name).collect()
}

#[test]
fn a_killed_daemon_kills_no_container() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let ticker = d.run_detached(&["busybox", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; usleep 20000; done"]);
    let ends = d.run_detached(&["busybox", "sh", "-c", "sleep 1; exit 42"]);
    let always = d.run_detached(&["--restart", "always", "busybox", "sleep", "1"]);
    let pid = d.inspect(&ticker, "{{.State.Pid}}");
    d.kill();
    // Both sleeps end while there is no daemon.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    d.up();
    assert_eq!(d.inspect(&ticker, "{{.State.Status}} {{.State.Pid}}"), format!("running {pid}"));
    eventually("the end", || d.inspect(&ends, "{{.State.Status}} {{.State.ExitCode}}") == "exited 42");
    eventually("the policy to go on", || d.inspect(&always, "{{.State.Running}}") == "true");
    d.docker(&["exec", &ticker, "echo", "alive"]).prints("alive");
    let lines =
        |d: &Daemon| -> Vec<u64> { d.docker(&["logs", &ticker]).ok().lines().map(|l| l.parse().unwrap()).collect() };
    let before = lines(&d).len();
    eventually("new lines", || lines(&d).len() > before + 5);
    assert!(lines(&d).windows(2).all(|w| w[0] + 1 == w[1]), "the log has a hole");
    d.docker(&["stop", "-t", "0", &ticker]).ok();
    assert_eq!(d.inspect(&ticker, "{{.State.ExitCode}}"), "137");
}

#[test]
fn a_killed_spawner_is_replaced() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let id = d.run_detached(&["busybox", "sleep", "1000"]);
    let spawners = named(&d, "coracle-spawner");
    assert_eq!(spawners.len(), 1);
    signal(spawners[0], "KILL");
    d.docker(&["exec", &id, "echo", "still here"]).prints("still here");
    d.docker(&["run", "--rm", "busybox", "echo", "and new ones"]).prints("and new ones");
    d.docker(&["kill", &id]).ok();
    assert_eq!(d.inspect(&id, "{{.State.ExitCode}}"), "137");
    // Both at once: the next daemon finds its namespaces through a shim.
    let id = d.run_detached(&["busybox", "sleep", "1000"]);
    for spawner in named(&d, "coracle-spawner") {
        signal(spawner, "KILL");
    }
    d.kill();
    d.up();
    assert_eq!(d.inspect(&id, "{{.State.Status}}"), "running");
    d.docker(&["exec", &id, "echo", "found"]).prints("found");
}

#[test]
fn a_killed_shim_leaves_a_true_state() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = d.run_detached(&["busybox", "sh", "-c", "sleep 2; exit 3"]);
    let shims = named(&d, "coracle-shim");
    assert_eq!(shims.len(), 1);
    signal(shims[0], "KILL");
    // Alive or dead, what is shown is what is.
    let pid = d.inspect(&id, "{{.State.Pid}}");
    let alive = pid != "0" && std::path::Path::new(&format!("/proc/{pid}")).exists();
    eventually("a true state", || {
        (d.inspect(&id, "{{.State.Running}}") == "true") == alive || d.inspect(&id, "{{.State.Running}}") == "false"
    });
    eventually("its end", || d.inspect(&id, "{{.State.Running}}") == "false");
    d.docker(&["rm", &id]).ok();
    d.docker(&["run", "--rm", "busybox", "true"]).ok();
}

#[test]
fn everything_killed_at_once() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let plain = d.run_detached(&["busybox", "sleep", "1000"]);
    let always = d.run_detached(&["--restart", "always", "busybox", "sleep", "1000"]);
    d.kill();
    for pid in processes_of(d.scratch.path()) {
        signal(pid, "KILL");
    }
    d.up();
    // The kernel ends the containers behind their shims: they may be dying still.
    eventually("the end of a container", || d.inspect(&plain, "{{.State.Running}}") == "false");
    eventually("the restart policy", || d.inspect(&always, "{{.State.Running}}") == "true");
    d.docker(&["start", &plain]).ok();
}

#[test]
fn after_a_power_cut_the_policies_decide() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let run = |d: &Daemon, args: &[&str]| d.run_detached(&[&["--network", "none"], args].concat());
    let sleep = |d: &Daemon, args: &[&str]| run(d, &[args, &["busybox", "sleep", "1000"]].concat());
    let plain = sleep(&d, &[]);
    let always = sleep(&d, &["--restart", "always"]);
    let unless = sleep(&d, &["--restart", "unless-stopped"]);
    let on_failure = sleep(&d, &["--restart", "on-failure"]);
    let stopped = sleep(&d, &["--restart", "unless-stopped", "--stop-timeout", "0"]);
    let stopped_always = sleep(&d, &["--restart", "always", "--stop-timeout", "0"]);
    let paused = sleep(&d, &[]);
    let temporary = sleep(&d, &["--rm", "-v", "/anonymous"]);
    let ended = run(&d, &["busybox", "sh", "-c", "exit 7"]);
    let created = d.docker(&["create", "--network", "none", "busybox", "true"]).ok();
    d.docker(&["stop", &stopped, &stopped_always]).ok();
    d.docker(&["pause", &paused]).ok();
    eventually("an exit", || d.inspect(&ended, "{{.State.Status}}") == "exited");
    eventually("all records on the disk", || d.inspect(&paused, "{{.State.Status}}") == "paused");
    // All at once; and what lay in memory, the run directory, is gone with it.
    d.kill();
    while let pids @ [_, ..] = &processes_of(d.scratch.path())[..] {
        pids.iter().for_each(|pid| signal(*pid, "KILL"));
    }
    std::fs::remove_dir_all(d.scratch.join("run")).unwrap();
    d.scratch.dir("run");
    d.up();
    for up in [&always, &unless, &on_failure, &stopped_always] {
        eventually("a policy to bring it back", || d.inspect(up, "{{.State.Running}}") == "true");
    }
    for down in [&plain, &paused] {
        assert_eq!(d.inspect(down, "{{.State.Status}} {{.State.ExitCode}} {{.State.Paused}}"), "exited 255 false");
    }
    assert_eq!(d.inspect(&stopped, "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    assert_eq!(d.inspect(&ended, "{{.State.Status}} {{.State.ExitCode}}"), "exited 7");
    assert_eq!(d.inspect(created.trim(), "{{.State.Status}}"), "created");
    eventually("what was to be removed to go", || d.docker(&["inspect", &temporary]).code == 1);
    eventually("its volume to go", || d.docker(&["volume", "ls", "-q"]).ok().is_empty());
    d.docker(&["start", &plain, &paused, created.trim()]).ok();
    d.docker(&["exec", &paused, "true"]).ok();
    comes_clean(&d);
}

#[test]
fn a_new_daemon_follows_a_killed_one_at_once() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let id = d.run_detached(&["--network", "none", "busybox", "sleep", "1000"]);
    for _ in 0..10 {
        // Not waited for: the old one may still be dying, or be a zombie, when
        // the new one looks at lock, pid file and socket.
        signal(d.pid(), "KILL");
        let old = d.forget();
        d.up();
        assert_eq!(d.inspect(&id, "{{.State.Running}}"), "true");
        drop(old);
    }
}

#[test]
fn a_stopped_daemon_leaves_no_process() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let id = d.run_detached(&["--stop-timeout", "0", "busybox", "sleep", "1000"]);
    d.stop();
    eventually("the last process to go", || processes_of(d.scratch.path()).is_empty());
    assert!(!d.socket().exists());
    d.up();
    assert_eq!(d.inspect(&id, "{{.State.Status}}"), "exited");
}
