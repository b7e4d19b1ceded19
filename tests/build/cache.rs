//! The cache: what hits, what misses, pruning, and ids that stay.

use super::{build, registry};
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
    d.docker(&["events", "--since", "1h", "--until", "0s", "--filter", "type=builder"])
        .contains(" builder prune ")
        .ok();
    assert_eq!(made(&d, &files, &[]).0, 0);
}

/// A cache mount is a stranger's tree: as deep as a path is long, and deeper than a thread's stack.
#[test]
fn a_deep_cache_mount_is_weighed() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let nest = "p=$(yes d | head -n 1900 | tr '\\n' /) && mkdir -p /c/$p && cd -P /c/$p && mkdir -p $p && head -c 70000 /dev/zero >/c/f";
    let file = format!("FROM busybox\nRUN --mount=type=cache,target=/c {nest}\n");
    build(&d, Client::Ours, "deep", &[("Dockerfile", &file)], &[]).ok();
    let rows = d.json("GET", "/system/df", None)["BuildCache"].clone();
    let mount = rows.as_array().unwrap().iter().find(|r| r["Type"] == "exec.cachemount").unwrap();
    assert_eq!(mount["Size"], 70000, "{rows}");
    d.docker(&["builder", "prune", "-af"]).ok();
}

/// A changed argument counts for the steps below its ARG, and for no others.
#[test]
fn arguments_miss_the_cache() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let uuid = "RUN cat /proc/sys/kernel/random/uuid";
    let file = format!(
        "FROM busybox\n{uuid} > /above\nARG V=1\n{uuid} > /below\nFROM busybox\n{uuid} > /other\nCOPY --from=0 /above /below /\n"
    );
    let made = |flags: &[&str]| -> Vec<String> {
        build(&d, Client::Ours, "arguments", &[("Dockerfile", &file)], flags).ok();
        super::sh(&d, "arguments", "cat /above /below /other").lines().map(str::to_owned).collect()
    };
    let first = made(&[]);
    // The default given by name, and one that nobody declared.
    assert_eq!(made(&["--build-arg", "V=1", "--build-arg", "http_proxy=p"]), first);
    let second = made(&["--build-arg", "V=2"]);
    assert!(second[0] == first[0] && second[1] != first[1] && second[2] == first[2], "{first:?} {second:?}");
    assert_eq!(made(&[]), first);
}

const STEPS: &str = "FROM busybox AS side\nRUN cat /proc/sys/kernel/random/uuid > /side\n\
    FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /a\nCOPY f /f\nCOPY --from=side /side /side\n";

/// What the image's two steps wrote when they were carried out.
fn spread(d: &Daemon, flags: &[&str]) -> Vec<String> {
    let files = [("Dockerfile", STEPS), ("f", "1")];
    build(d, Client::Ours, "spread", &files, flags).ok();
    super::sh(d, "spread", "cat /a /side").lines().map(str::to_owned).collect()
}

/// Another daemon takes the steps from where the first one left them.
#[test]
fn caches_of_other_daemons() {
    need!(probe::busybox(), probe::program("docker-registry", "docker-registry"));
    let d = Daemon::with_busybox();
    let (_registry, host) = registry(&d);
    let folder = d.scratch.join("exported").display().to_string();
    let (to_registry, to_folder) =
        (format!("type=registry,ref={host}/cache:1,mode=max"), format!("type=local,dest={folder}"));
    let name = format!("type=image,push=true,name={host}/image:1");
    let cache = ["--cache-to", &to_registry, "--cache-to", &to_folder, "--cache-to", "type=inline"];
    let made = spread(&d, &[&cache[..], &["-o", &name, "-t", &format!("{host}/image:2")]].concat());
    // The older word for type=inline.
    let argument = ["--build-arg", "BUILDKIT_INLINE_CACHE=1", "-o", &name.replace("image:1", "image:3")];
    assert_eq!(spread(&d, &argument), made);
    for (from, whole) in [
        (format!("type=registry,ref={host}/cache:1"), true),
        (format!("type=local,src={folder}"), false),
        (format!("{host}/image:1"), false),
        (format!("{host}/image:3"), false),
    ] {
        let other = Daemon::with_busybox();
        let got = spread(&other, &["--cache-from", &from]);
        // The other stage's own step is written only with mode=max.
        assert_eq!((&got[0], got[1] == made[1]), (&made[0], whole), "{from}");
    }
    let fresh = Daemon::with_busybox();
    let missing = ["--cache-from", &format!("{host}/none")];
    build(&fresh, Client::Ours, "missing", &[("Dockerfile", "FROM busybox\n")], &missing).contains("ERROR").ok();
    let refused = ["--cache-to", "type=gha"];
    build(&fresh, Client::Ours, "gha", &[("Dockerfile", "FROM busybox\n")], &refused)
        .contains("type=gha is not supported")
        .fails(1);
    // One stage afresh, the other from the cache.
    let before = spread(&d, &[]);
    let after = spread(&d, &["--no-cache-filter", "side"]);
    assert!(before[0] == after[0] && before[1] != after[1], "{before:?} {after:?}");
}
