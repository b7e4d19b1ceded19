//! Containers that change things while they are looked at. What attacks inside is this
//! program itself: the container runs the test `inside` of it.

use crate::harness::{Daemon, eventually, image, probe};
use crate::need;
use std::io::Write;
use std::path::Path;

/// Runs this program in a container: `what` is the attack, with words of its own.
fn attack(d: &Daemon, name: &str, flags: &[&str], what: &str) {
    let own = format!("{}:/attack:ro", std::env::current_exe().unwrap().display());
    let attack = format!("ATTACK={what}");
    let fixed = ["--name", name, "-v", &own, "-e", &attack, "-e", "RUST_TEST_THREADS=1"];
    let command = ["busybox", "/attack", "--exact", "container::races::inside", "--nocapture"];
    d.run_detached(&[&fixed[..], flags, &command].concat());
    eventually("the attack", || d.docker(&["logs", name]).stdout.contains("attacking"));
}

/// No test of anything by itself.
#[test]
fn inside() {
    let Ok(what) = std::env::var("ATTACK") else { return };
    say("attacking");
    let mut words = what.split(' ');
    match words.next() {
        Some("look") => look(words.next().unwrap()),
        Some("swap") => swap(&words.map(str::to_owned).collect::<Vec<_>>()),
        _ => panic!("{what}"),
    }
}

fn say(text: &str) {
    std::io::stdout().write_all(format!("{text}\n").as_bytes()).unwrap();
}

/// Looks at every new process of the namespace, and through it for the host's `marker`.
fn look(marker: &str) {
    let (own, mut seen) = (std::process::id(), 0);
    let mut last = own;
    loop {
        for pid in last + 1..last + 6 {
            let fds = (3..16).map(|n| format!("/proc/{pid}/fd/{n}"));
            for link in fds.chain(["root", "cwd"].map(|name| format!("/proc/{pid}/{name}"))) {
                let Ok(target) = std::fs::read_link(&link) else { continue };
                last = last.max(pid - 1);
                let up = format!("{link}/{}{marker}", "../".repeat(12));
                if [format!("{link}{marker}"), up].iter().any(|path| Path::new(path).exists()) {
                    say(&format!("host: {link} -> {}", target.display()));
                }
                if link.contains("/fd/") && seen < 20 {
                    seen += 1;
                    say(&format!("open: {}", target.display()));
                }
            }
        }
        // The numbers go on although nobody was caught.
        let newest = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let newest = newest.trim().rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(last);
        last = last.max(u32::saturating_sub(newest, 2));
    }
}

/// Makes pairs of a directory and a link to `outside` and exchanges them for ever.
fn swap(words: &[String]) {
    let [outside, dirs @ ..] = words else { panic!("swap OUTSIDE DIR...") };
    for dir in dirs {
        std::fs::create_dir_all(format!("{dir}/d/sub")).unwrap();
        std::fs::write(format!("{dir}/d/secret"), "of the container").unwrap();
        std::os::unix::fs::symlink(outside, format!("{dir}/l")).unwrap();
    }
    say("swapping");
    loop {
        for dir in dirs {
            let (a, b) = (format!("{dir}/d"), format!("{dir}/l"));
            let here = nix::fcntl::AT_FDCWD;
            nix::fcntl::renameat2(here, &*a, here, &*b, nix::fcntl::RenameFlags::RENAME_EXCHANGE).unwrap();
        }
    }
}

/// What comes into a container's pid namespace is seen there before it has become the program: who
/// may ptrace finds nothing of the host's through it (CVE-2016-9962).
#[test]
fn who_comes_in_brings_nothing_along() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let marker = d.scratch.file("marker", "of the host");
    attack(&d, "looks", &["--cap-add", "SYS_PTRACE"], &format!("look {}", marker.display()));
    let mut rounds = 0;
    eventually("a process that was caught on its way", || {
        d.docker(&["exec", "looks", "true"]).ok();
        rounds += 1;
        rounds > 25 && d.docker(&["logs", "looks"]).stdout.contains("open: ")
    });
    let log = d.docker(&["logs", "looks"]).ok();
    assert!(!log.contains("host: "), "{log}");
    let data = d.scratch.path().to_str().unwrap();
    assert!(!log.lines().any(|l| l.starts_with("open: ") && l.contains(data)), "{log}");
    // And it is as good a process as any: its number, its group, its terminal.
    let script = "echo $$; read x </proc/$$/stat; set -- $x; [ $1 = $5 ] && [ $1 = $6 ] && echo leads; exit 7";
    let out = d.docker(&["exec", "looks", "sh", "-c", script]);
    assert_eq!((out.code, out.stdout.contains("leads")), (7, true), "{out}");
    // Who shares the namespace by --pid sees its processes, not the host's, and shows them nothing either.
    let mut shared = String::new();
    for _ in 0..8 {
        let look = ["--pid", "container:looks", "busybox", "cat", "/proc/1/cmdline"];
        shared = d.docker(&[&["run", "--rm"], &look[..]].concat()).ok();
    }
    let log = d.docker(&["logs", "looks"]).ok();
    assert!(!log.contains("host: "), "{log}");
    assert!(shared.starts_with("/attack"), "{shared}");
}

/// A container's directories become links to the host while the daemon reads and writes them.
#[test]
fn swapped_directories_lead_nowhere() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let outside = d.scratch.dir("outside");
    d.scratch.file("outside/secret", "of the host");
    attack(&d, "swaps", &["-v", "shared:/v"], &format!("swap {} /w /v", outside.display()));
    eventually("the swaps", || d.docker(&["logs", "swaps"]).stdout.contains("swapping"));
    let payload = d.scratch.file("payload", "x");
    let mut tar = image::Tar::default();
    tar.dir("sub", 0o777);
    tar.file("sub/written", 0o6777, b"x");
    tar.file("secret", 0o6777, b"x");
    let tar = tar.finish();
    let (mut told, mut copied) = (Vec::new(), 0);
    for round in 0..4 {
        for dir in ["/w", "/v"] {
            for path in ["d", "l", "d/secret", "l/secret", "d/sub/.."] {
                let out = d.docker(&["cp", "-L", &format!("swaps:{dir}/{path}"), "-"]);
                copied += usize::from(out.code == 0);
                told.push(out.stdout);
            }
            for path in ["d", "l", "d/sub", "l/sub"] {
                let _ = d.docker(&["cp", payload.to_str().unwrap(), &format!("swaps:{dir}/{path}/{round}")]);
                let to = format!("swaps:{dir}/{path}");
                let _ = d.docker_input(crate::harness::Client::Ours, &["cp", "-a", "-", &to], tar.clone());
            }
            told.push(d.docker(&["exec", "-w", &format!("{dir}/d"), "swaps", "cat", "secret"]).stdout);
        }
        told.push(d.docker(&["export", "swaps"]).stdout);
        told.push(d.docker(&["diff", "swaps"]).stdout);
        if d.docker(&["commit", "-p=false", "swaps", "taken"]).code == 0 {
            told.push(d.docker(&["save", "taken"]).stdout);
        }
        let part = "type=volume,src=shared,dst=/m,volume-subpath=d";
        told.push(d.docker(&["run", "--rm", "--mount", part, "busybox", "cat", "/m/secret"]).stdout);
        let below = ["-v", "shared:/m", "-v", "/m/d/new", "-w", "/m/d/made"];
        let _ = d.docker(&[&["run", "--rm"], &below[..], &["busybox", "true"]].concat());
        d.docker(&["system", "df", "-v"]).ok();
    }
    assert!(copied > 8, "{copied}");
    assert!(told.iter().all(|text| !text.contains("of the host")));
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "of the host");
}
