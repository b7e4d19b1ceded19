//! The service files: written for every kind of service manager, checked by systemd's
//! own judge, and the SysV script run for a whole life of the daemon.

use crate::harness::daemon::signal;
use crate::harness::{Daemon, Output, eventually, probe, run};
use crate::need;
use std::path::PathBuf;
use std::process::Command;

fn install(daemon: &Daemon, kind: &str) -> Output {
    let root = daemon.scratch.join("root");
    run(daemon.command("bin/dockerd").args(["--install-service", "--service-kind", kind, "--service-root"]).arg(root))
}

fn files(kind: &str) -> &'static [&'static str] {
    match kind {
        "systemd" => &["etc/systemd/system/docker@.service"],
        "openrc" => &["etc/init.d/docker", "etc/conf.d/docker"],
        "sysv" => &["etc/init.d/docker", "etc/default/docker"],
        "runit" => &["etc/sv/docker/run", "etc/sv/docker/log/run", "etc/default/docker"],
        _ => &[],
    }
}

#[test]
fn files_for_every_service_manager() {
    for kind in ["systemd", "openrc", "sysv", "runit"] {
        let daemon = Daemon::prepare(&[], &[]);
        let said = install(&daemon, kind).ok();
        assert!(said.contains("Next:\n"), "{said}");
        for file in files(kind) {
            let path = daemon.scratch.join("root").join(file);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{kind} {file}: {e}"));
            assert!(
                text.contains("Coracle") && !text.contains("@DOCKERD@") && !text.contains("@USER@"),
                "{file}: {text}"
            );
            if text.starts_with("#!/bin/sh") {
                run(Command::new("sh").arg("-n").arg(&path)).ok();
            }
        }
        // Again: ours are replaced, settings are kept, those of others are left alone.
        let said = install(&daemon, kind).ok();
        assert_eq!(said.contains("kept "), kind != "systemd", "{said}");
        daemon.scratch.file(&format!("root/{}", files(kind)[0]), "somebody else's");
        let text = install(&daemon, kind).fails(1);
        assert!(text.contains("belongs to another Docker"), "{text}");
    }
    let daemon = Daemon::prepare(&[], &[]);
    let text = install(&daemon, "upstart").fails(1);
    assert!(
        text.contains("unknown service kind \"upstart\": one of systemd-user, systemd, openrc, sysv, runit"),
        "{text}"
    );
}

#[test]
fn systemd_accepts_the_units() {
    need!(probe::program("systemd-analyze", "systemd"));
    let daemon = Daemon::prepare(&[], &[]);
    install(&daemon, "systemd-user").ok();
    install(&daemon, "systemd").ok();
    let root = daemon.scratch.join("root");
    let own = root.join(daemon.scratch.join("home/.config/systemd/user").strip_prefix("/").unwrap());
    for (mode, unit) in [
        ("--user", own.join("docker.service")),
        ("--user", own.join("docker.socket")),
        ("--system", root.join("etc/systemd/system/docker@.service")),
    ] {
        let unit = if unit.ends_with("docker@.service") { unit.with_file_name("docker@tester.service") } else { unit };
        if !unit.exists() {
            std::fs::copy(unit.with_file_name("docker@.service"), &unit).unwrap();
        }
        let out = run(daemon.command("systemd-analyze").args(["verify", "--man=no", mode]).arg(&unit));
        // Newer than this systemd may be, which then does without it.
        let known = |l: &str| l.contains("Failed to connect") || l.contains("Unknown key 'DelegateSubgroup'");
        let about_ours = out.stderr.lines().any(|l| l.contains("docker") && !known(l));
        assert!(out.code == 0 || !about_ours, "{out}");
        assert!(!about_ours, "{out}");
    }
}

struct Service<'a> {
    daemon: &'a Daemon,
    root: PathBuf,
}

impl Service<'_> {
    fn call(&self, word: &str) -> Output {
        let mut command = self.daemon.command("/bin/sh");
        command
            .arg(self.root.join("etc/init.d/docker"))
            .arg(word)
            .env("SERVICE_ROOT", &self.root)
            .env("SERVICE_HOME", self.daemon.scratch.join("home"));
        run(&mut command)
    }
    fn log(&self, name: &str) -> PathBuf {
        self.root.join("var/log/docker").join(name)
    }
}

#[test]
fn start_stop_restart_status_by_the_sysv_script() {
    let daemon = Daemon::prepare(&[], &[]);
    install(&daemon, "sysv").ok();
    let root = daemon.scratch.join("root");
    let service = Service { daemon: &daemon, root: root.clone() };
    let settings = std::fs::read_to_string(root.join("etc/default/docker")).unwrap();
    let user = run(Command::new("id").arg("-un")).ok();
    std::fs::write(
        root.join("etc/default/docker"),
        format!("{settings}\nDOCKER_USER={}\nDOCKER_OPTS='--label from=sysv'\n", user.trim()),
    )
    .unwrap();
    let socket = root.join(format!("run/docker-{}/docker.sock", user.trim()));
    let host = format!("unix://{}", socket.display());
    assert_eq!(service.call("status").code, 3);
    assert_eq!(service.call("reload").code, 7);
    assert_eq!(service.call("bogus").code, 2);
    service.call("start").contains("docker started, pid ").ok();
    service.call("start").contains("is running already").ok();
    run(daemon.command("bin/docker").args(["-H", &host, "info", "-f", "{{.Labels}}"])).prints("[from=sysv]");
    let pid = || -> u32 { std::fs::read_to_string(socket.with_file_name("docker.pid")).unwrap().parse().unwrap() };
    let first = pid();
    service.call("status").contains(&format!("docker is running, pid {first}")).ok();
    // The log is a file; one that was moved away is begun anew on reload.
    std::fs::rename(service.log("dockerd.log"), service.log("dockerd.log.1")).unwrap();
    service.call("reload").ok();
    let log = || std::fs::read_to_string(service.log("dockerd.log")).unwrap_or_default();
    eventually("the reload", || log().contains("Reloaded configuration"));
    service.call("restart").ok();
    assert_ne!(pid(), first);
    signal(pid(), "KILL");
    eventually("the end", || service.call("status").code == 1);
    service.call("start").ok();
    service.call("stop").contains("docker stopped").ok();
    assert_eq!(service.call("status").code, 3);
    std::fs::write(daemon.scratch.file("home/.config/docker/daemon.json", ""), "{").unwrap();
    let text = service.call("start").fails(1);
    assert!(text.contains("docker did not start") && text.contains("invalid JSON"), "{text}");
}

#[test]
fn the_example_configuration_is_valid() {
    let daemon = Daemon::prepare(&[], &[]);
    let example = crate::tidy::root().join("services/daemon.json");
    let mut command = daemon.command("bin/dockerd");
    let out = run(command.args(["--validate", "--config-file"]).arg(example));
    assert!(out.code == 0 && out.stderr.trim() == "configuration OK", "{out}");
}

#[test]
fn a_log_file_is_begun_anew_before_it_grows_without_end() {
    let log = std::env::temp_dir().join(format!("coracle-log-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&log);
    std::fs::create_dir_all(&log).unwrap();
    let path = log.join("d.log");
    std::fs::write(&path, vec![b'x'; 10_000_000 - 100]).unwrap();
    let flag = format!("--log-file={}", path.display());
    let daemon = Daemon::start_with(&[&flag], &[]);
    eventually("the second file", || {
        daemon.api("GET", "/_ping", None);
        log.join("d.log.1").exists()
    });
    let young = std::fs::read_to_string(&path).unwrap();
    assert!(young.contains("msg=") && daemon.log().is_empty(), "{young}");
    drop(daemon);
    let _ = std::fs::remove_dir_all(log);
}
