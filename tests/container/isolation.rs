//! What a container must not be able to do, as assertions: the defaults of the
//! original and the published ways out of a container.

use super::crash::named;
use crate::harness::daemon::signal;
use crate::harness::{Daemon, image, probe};
use crate::need;

#[test]
fn defaults_are_docker_s() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let status = d
            .with(
                c,
                &[
                    "run",
                    "--rm",
                    "busybox",
                    "grep",
                    "-E",
                    "Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp:",
                    "/proc/self/status",
                ],
            )
            .ok();
        let expected = "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\n\
                        CapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n";
        assert_eq!(status, expected);
        let caps = |extra: &[&str]| {
            d.with(c, &[&["run", "--rm"], extra, &["busybox", "grep", "CapEff", "/proc/self/status"]].concat()).ok()
        };
        assert_eq!(caps(&["--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE"]), "CapEff:\t0000000000000400\n");
        assert_eq!(caps(&["--cap-drop", "all"]), "CapEff:\t0000000000000000\n");
        assert_eq!(caps(&["--cap-add", "cap_sys_admin"]), "CapEff:\t00000000a82425fb\n");
        let words = d.with(c, &["run", "--rm", "--cap-add", "NOSUCH", "busybox", "true"]).fails(125);
        assert!(words.contains("invalid CapAdd: unknown capability: \"CAP_NOSUCH\""), "{words}");
        let out = d
            .with(
                c,
                &[
                    "run", "--rm", "--security-opt", "no-new-privileges", "busybox", "grep", "NoNewPrivs",
                    "/proc/self/status",
                ],
            )
            .ok();
        assert_eq!(out, "NoNewPrivs:\t1\n");
        let out = d
            .with(
                c,
                &[
                    "run", "--rm", "--security-opt", "seccomp=unconfined", "busybox", "grep", "Seccomp:",
                    "/proc/self/status",
                ],
            )
            .ok();
        assert_eq!(out, "Seccomp:\t0\n");
    }
}

#[test]
fn paths_are_masked_and_read_only() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let script = "for f in /proc/kcore /proc/keys /proc/timer_list; do [ ! -e $f ] || [ \"$(head -c1 $f | wc -c)\" = 0 ] || echo leak $f; done
        for p in /proc/acpi /sys/firmware; do [ ! -d $p ] || [ -z \"$(ls $p)\" ] || echo leak $p; done
        for f in /proc/sys/kernel/hostname /proc/sysrq-trigger; do (echo 1 >$f) 2>/dev/null && echo written $f; done
        mount -o remount,rw /proc/sys 2>/dev/null && echo remounted; umount /proc/kcore 2>/dev/null && echo unmounted; true";
    d.docker(&["run", "--rm", "busybox", "sh", "-c", script]).prints("");
}

#[test]
fn nothing_of_ours_leaks_in() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    // CVE-2024-21626: no descriptor to a host directory, no working directory outside.
    d.docker(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "ls -l /proc/self/fd | grep -v ' 0 ->\\| 1 ->\\| 2 ->\\|/proc/' | grep -c -- '->' || true",
    ])
    .prints("0");
    for n in 3..12 {
        let out = d.docker(&["run", "--rm", "-w", &format!("/proc/self/fd/{n}"), "busybox", "true"]);
        assert_ne!(out.code, 0, "{out}");
    }
    // CVE-2019-5736: what executes inside is never our file.
    let out = d
        .docker(&[
            "run",
            "--rm",
            "--init",
            "busybox",
            "sh",
            "-c",
            "(echo x >/proc/1/exe) 2>&1; (echo x >/sbin/docker-init) 2>&1; true",
        ])
        .ok();
    assert!(
        out.matches("Read-only file system").count()
            + out.matches("Text file busy").count()
            + out.matches("Permission denied").count()
            >= 2,
        "{out}"
    );
    // The mount table names nothing that is not the container's.
    let mounts = d.docker(&["run", "--rm", "busybox", "cut", "-d", " ", "-f2", "/proc/mounts"]).ok();
    for line in mounts.lines() {
        assert!(
            ["/", "/proc", "/dev", "/sys", "/etc/"]
                .iter()
                .any(|p| line == *p || line.starts_with(&format!("{}/", p.trim_end_matches('/')))),
            "{mounts}"
        );
    }
}

/// Who holds secrets leaves no core. Containers leave theirs as the limit at the daemon's start
/// has it, also after the process that starts them was replaced.
#[test]
fn cores_are_the_containers_alone() {
    need!(probe::busybox());
    let mut d = Daemon::prepare(&[], &[]);
    let all = |d: &Daemon, rest: &str| {
        let mut shell = d.command("/bin/sh");
        shell.args(["-c", &format!("ulimit -S -c $(ulimit -H -c) && {rest}"), "-"]);
        shell
    };
    let (plain, mut dockerd) = (d.dockerd(), all(&d, "exec \"$@\""));
    dockerd.arg(plain.get_program()).args(plain.get_args());
    d.up_as(dockerd);
    d.load_busybox();
    let limit = |text: &str| text.lines().find(|l| l.contains("core")).map(str::to_owned).unwrap();
    let own = limit(&crate::harness::run(&mut all(&d, "cat /proc/self/limits")).ok());
    let dockerd = limit(&std::fs::read_to_string(format!("/proc/{}/limits", d.pid())).unwrap());
    assert!(["0", "1"].contains(&dockerd.split_ascii_whitespace().nth(4).unwrap()), "{dockerd}");
    let check = |name: &str| {
        d.run_detached(&["--name", name, "-u", "1000", "busybox", "sleep", "1000"]);
        // What may leave a core shows itself to its own user.
        let look = ["sh", "-c", "cat /proc/1/limits /proc/self/limits; stat -c %u /proc/1/environ /proc/self/environ"];
        let text = d.docker(&[&["exec", name], &look[..]].concat()).ok();
        assert_eq!(text.matches(&own).count(), 2, "{own}\n{text}");
        assert!(text.ends_with("1000\n1000\n"), "{text}");
    };
    check("one");
    for spawner in named(&d, "coracle-spawner") {
        signal(spawner, "KILL");
    }
    check("two");
}

/// Symlinks of the image must not lead a mount or a copy to the host.
#[test]
fn symlinks_do_not_lead_out() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let outside = d.scratch.dir("outside");
    let mut layer = image::Tar::default();
    layer.symlink("out", outside.to_str().unwrap());
    layer.symlink("up", "../../../../../../../..");
    layer.symlink("etc2", "/etc");
    let archive =
        image::archive("links:latest", &[image::busybox_layer(), &layer.finish()], serde_json::json!({"Cmd": ["sh"]}));
    let path = d.scratch.file("links.tar", archive);
    d.docker(&["load", "-qi", path.to_str().unwrap()]).ok();
    // A volume's target is made inside the root.
    d.docker(&["run", "--rm", "-v", "/out/made", "links", "true"]).ok();
    assert!(!outside.join("made").exists());
    // CVE-2018-15664: copies through a symlink stay inside.
    d.docker(&["create", "--name", "links", "links"]).ok();
    let file = d.scratch.file("payload", "x");
    let _ = d.docker(&["cp", file.to_str().unwrap(), "links:/out/payload"]);
    assert!(!outside.join("payload").exists());
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let out = d.docker(&["cp", "links:/out/secret", "-"]);
    assert_ne!(out.code, 0, "{out}");
    // A part of a volume is what it is inside the volume, also while nothing runs.
    let part = "type=volume,src=shared,dst=/part,volume-subpath=part";
    d.docker(&["run", "--rm", "-v", "shared:/all", "busybox", "mkdir", "/all/part"]).ok();
    d.docker(&["run", "--name", "part", "--mount", part, "busybox", "touch", "/part/mine"]).ok();
    let out = d.docker(&["cp", "part:/part/mine", "-"]).ok();
    assert!(out.contains("mine"), "{out}");
    let swap = format!("rm -r /all/part && ln -s {} /all/part", outside.display());
    d.docker(&["run", "--rm", "-v", "shared:/all", "busybox", "sh", "-c", &swap]).ok();
    let out = d.docker(&["cp", "part:/part/secret", "-"]);
    assert_ne!(out.code, 0, "{out}");
}

/// Layers that try to write beside their root.
#[test]
fn hostile_layers_stay_in_their_root() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let outside = d.scratch.dir("victim");
    std::fs::write(outside.join("keep"), "keep").unwrap();
    let target = outside.to_str().unwrap();
    type Make<'a> = Box<dyn Fn(&mut image::Tar) + 'a>;
    let hostile: Vec<(&str, Make<'_>)> = vec![
        ("dotdot", Box::new(|t| t.file("../../../../../../../../tmp/coracle-escape", 0o644, b"x"))),
        ("absolute", Box::new(|t| t.file("/tmp/../../coracle-escape", 0o644, b"x"))),
        (
            "symlink",
            Box::new(|t| {
                t.symlink("d", target);
                t.file("d/written", 0o644, b"x");
            }),
        ),
        (
            "hardlink",
            Box::new(|t| {
                t.hardlink("h", &format!("../../../../../../../../{target}/keep"));
            }),
        ),
        (
            "whiteout",
            Box::new(|t| {
                t.symlink("w", target);
                t.file("w/.wh.keep", 0o644, b"");
            }),
        ),
        ("whiteout-up", Box::new(|t| t.file(".wh...", 0o644, b""))),
        ("whiteout-dot", Box::new(|t| t.file(".wh.", 0o644, b""))),
    ];
    for (name, make) in hostile {
        let mut layer = image::Tar::default();
        make(&mut layer);
        let archive = image::archive(
            &format!("{name}:latest"),
            &[image::busybox_layer(), &layer.finish()],
            serde_json::json!({}),
        );
        let path = d.scratch.file("hostile.tar", archive);
        // Refused or made harmless: both are right; what counts is the world outside.
        let loaded = d.docker(&["load", "-qi", path.to_str().unwrap()]);
        if loaded.code == 0 {
            let _ = d.docker(&["run", "--rm", name, "true"]);
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "{name}: {loaded}");
        assert_eq!(std::fs::read_to_string(outside.join("keep")).unwrap(), "keep", "{name}");
        assert!(!std::path::Path::new("/tmp/coracle-escape").exists(), "{name}");
        // The daemon is as well as before.
        d.docker(&["run", "--rm", "busybox", "true"]).ok();
    }
}

/// What lies in /proc is the kernel's word (CVE-2019-16884, CVE-2025-52881): neither the
/// user's mounts nor an image's volumes cover it, whatever links lead there.
#[test]
fn nothing_is_mounted_inside_proc() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let file = d.scratch.file("uptime", "1.00 1.00\n");
    let shown = format!("{}:/proc/uptime", file.display());
    d.docker(&["run", "--rm", "-v", &shown, "busybox", "cat", "/proc/uptime"]).prints("1.00 1.00");
    for target in ["/proc/1", "/proc/self/attr", "/proc/sys", "/proc/sys/net"] {
        let words = d.docker(&["run", "--rm", "--network", "none", "-v", target, "busybox", "true"]).fails(125);
        assert!(words.contains("nothing can be mounted inside /proc"), "{target}: {words}");
    }
    let mut layer = image::Tar::default();
    layer.symlink("p", "/proc");
    let config = serde_json::json!({"Volumes": {"/p/1": {}}, "Cmd": ["true"]});
    let archive = image::archive("covers:latest", &[image::busybox_layer(), &layer.finish()], config);
    d.docker(&["load", "-qi", d.scratch.file("covers.tar", archive).to_str().unwrap()]).ok();
    d.docker(&["run", "--rm", "covers"]).fails(125);
    // And what is set is set in a real one.
    let fake = "mkdir -p /f/sys/net/ipv4 && echo mine >/f/sys/net/ipv4/ip_forward";
    d.docker(&["run", "--rm", "-v", "fake:/f", "busybox", "sh", "-c", fake]).ok();
    let sysctl = ["--sysctl", "net.ipv4.ip_forward=1", "-v", "fake:/proc", "busybox", "true"];
    d.docker(&[&["run", "--rm"], &sysctl[..]].concat()).fails(125);
    d.docker(&["run", "--rm", "-v", "fake:/f", "busybox", "cat", "/f/sys/net/ipv4/ip_forward"]).prints("mine");
}

/// Figures and words of an image that no honest one has.
#[test]
fn absurd_configurations_are_told() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let load = |d: &Daemon, name: &str, layers: &[&[u8]], config: serde_json::Value| {
        let archive = image::archive(&format!("{name}:latest"), layers, config);
        d.docker(&["load", "-qi", d.scratch.file("absurd.tar", archive).to_str().unwrap()])
    };
    let layers = [image::busybox_layer()];
    // Longer than a message between our processes.
    load(&d, "far", &layers, serde_json::json!({"WorkingDir": "/a".repeat(100_000), "Cmd": ["true"]})).ok();
    let words = d.docker(&["run", "--rm", "far"]).fails(125);
    assert!(words.contains("chdir to cwd") && words.len() < 8192, "{}", &words[..words.len().min(500)]);
    // So long to wait that no clock shows it: neither a stop nor the daemon's end may fail of it.
    let stubborn = serde_json::json!({"StopTimeout": i64::MAX, "Cmd": ["sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done"]});
    load(&d, "patient", &layers, stubborn).ok();
    for name in ["one", "two"] {
        d.run_detached(&["--name", name, "patient"]);
        crate::harness::eventually("the trap", || d.docker(&["logs", name]).stdout.contains("up"));
    }
    d.docker(&["stop", "one"]).ok();
    assert_eq!(d.inspect("one", "{{.State.ExitCode}}"), "3");
    d.stop();
    d.up();
    assert_eq!(d.inspect("two", "{{.State.ExitCode}}"), "3");
    d.docker(&["events", "--since", "0", "--until", "1"]).ok();
}

/// A container's own /etc/hosts can be as large as a file can be.
#[test]
fn a_blown_up_file_costs_no_memory() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    d.docker(&["network", "create", "other"]).ok();
    let script = "dd if=/dev/zero of=/etc/hosts bs=1 count=1 seek=1000000000000 2>/dev/null; sleep 1000";
    let id = d.run_detached(&["busybox", "sh", "-c", script]);
    crate::harness::eventually("the large file", || {
        d.docker(&["exec", &id, "stat", "-c", "%s", "/etc/hosts"]).stdout.trim() == "1000000000001"
    });
    d.docker(&["network", "connect", "other", &id]).ok();
    d.docker(&["network", "disconnect", "other", &id]).ok();
    let status = std::fs::read_to_string(format!("/proc/{}/status", d.pid())).unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 200_000, "{peak} kB");
}

/// A container that nests its directories deeper than a thread's stack would go,
/// and then deeper than a path is long.
#[test]
fn deep_trees_end_no_daemon() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let nest = "p=$(yes d | head -n 1900 | tr '\\n' /) && mkdir -p /root/$p && cd -P /root/$p";
    for (name, script, fits) in [("deep", nest.to_owned(), true), ("deeper", format!("{nest} && mkdir -p $p"), false)] {
        d.docker(&["run", "--name", name, "busybox", "sh", "-c", &script]).ok();
        let archive = d.scratch.path().join(name);
        let archive = archive.to_str().unwrap();
        let (place, tagged) = (format!("{name}:/root"), format!("{name}-image"));
        for verb in [&["diff", name][..], &["cp", &place, "-"], &["export", "-o", archive, name]] {
            let out = d.docker(verb);
            assert_eq!(
                out.code == 0,
                fits,
                "{verb:?}: {}",
                String::from_utf8_lossy(&out.raw[..out.raw.len().min(500)])
            );
        }
        // Layers have a limit of their own.
        let _ = d.docker(&["commit", name, &tagged]);
        d.docker(&["ps", "-as"]).ok();
        d.docker(&["rm", name]).ok();
    }
}
