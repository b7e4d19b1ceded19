//! dockerd on a host that refuses something: one clear sentence, and the line
//! that mends it. Each remedy is then carried out, and it works.

use super::AsUser;
use crate::harness::{Guest, guest};
use crate::need;

/// dockerd must end with status 1 and say both.
#[track_caller]
fn refused(g: &mut Guest, command: &str, sentence: &str, remedy: &str) {
    let output = g.user(command);
    let said = output.stderr.clone();
    output.fails(1);
    let last: Vec<&str> = said.lines().filter(|line| !line.starts_with("time=")).collect();
    assert!(last.len() <= 2 && last.first().is_some_and(|l| l.contains(sentence)), "no {sentence:?} in {last:?}");
    assert!(said.contains(remedy), "no {remedy:?} in {said}");
}

/// dockerd must come up and go down.
#[track_caller]
fn accepted(g: &mut Guest, command: &str) {
    let script = format!(
        "(as_user 'exec {command}' >>/run/dockerd.log 2>&1) >/dev/null 2>&1 & wait_for 60 as_user 'docker version'; \
         code=$?; kill $(pidof dockerd); wait_for 60 sh -c '! pidof dockerd'; [ $code = 0 ] || tail -5 /run/dockerd.log >&2; exit $code"
    );
    g.sh(&script).ok();
}

#[test]
fn each_has_its_sentence_and_its_remedy() {
    need!(guest::available());
    let mut g = Guest::boot("");
    // User namespaces switched off, in each way that this kernel has.
    g.sh("sysctl -w user.max_user_namespaces=0").ok();
    let namespace = "cannot make a user namespace: ";
    refused(
        &mut g,
        "exec dockerd",
        &format!("{namespace}user.max_user_namespaces is 0"),
        "sysctl -w user.max_user_namespaces=15000",
    );
    g.user("docker system check")
        .contains("user.max_user_namespaces")
        .contains("sudo sysctl -w user.max_user_namespaces")
        .fails(1);
    g.sh("sysctl -w user.max_user_namespaces=15000").ok();
    g.sh("sysctl -w kernel.unprivileged_userns_clone=0").ok();
    refused(
        &mut g,
        "exec dockerd",
        &format!("{namespace}kernel.unprivileged_userns_clone is 0"),
        "sysctl -w kernel.unprivileged_userns_clone=1",
    );
    g.user("docker system check").contains("kernel.unprivileged_userns_clone").fails(1);
    g.sh("sysctl -w kernel.unprivileged_userns_clone=1").ok();
    g.sh("sysctl -w user.max_mnt_namespaces=0").ok();
    refused(&mut g, "exec dockerd", "user.max_mnt_namespaces is 0", "sysctl -w user.max_mnt_namespaces=15000");
    g.sh("sysctl -w user.max_mnt_namespaces=15000").ok();
    accepted(&mut g, "dockerd");

    // Places.
    refused(
        &mut g,
        "unset XDG_RUNTIME_DIR; exec dockerd",
        "XDG_RUNTIME_DIR is not set",
        "export XDG_RUNTIME_DIR=/run/user/1000",
    );
    refused(
        &mut g,
        "export XDG_RUNTIME_DIR=/run/user/7; exec dockerd",
        "XDG_RUNTIME_DIR /run/user/7 does not exist",
        "mkdir -m 700 -p /run/user/7 && chown 1000 /run/user/7",
    );
    g.sh("mkdir -m 700 -p /run/user/7 && chown 1000 /run/user/7").ok();
    accepted(&mut g, "env XDG_RUNTIME_DIR=/run/user/7 dockerd -H unix:///run/user/1000/docker.sock");
    g.sh("chown 0:0 /home/tester && chmod 755 /home/tester && rm -rf /home/tester/.local").ok();
    refused(&mut g, "exec dockerd", "/home/tester/.local/share/coracle: permission denied", "--data-root");
    g.sh("mkdir /mnt/data && chown 1000 /mnt/data").ok();
    accepted(&mut g, "dockerd --data-root /mnt/data/coracle");
    g.sh("chown 1000:1000 /home/tester").ok();
    g.sh("mount -t tmpfs -o ro none /mnt").ok();
    refused(&mut g, "exec dockerd --data-root /mnt/x", "/mnt/x: read-only file system", "--data-root");
    g.sh("umount /mnt").ok();
    g.sh("chmod 755 /run/user/1000 && chown 0 /run/user/1000").ok();
    refused(&mut g, "exec dockerd", "permission denied", "XDG_RUNTIME_DIR");
    g.sh("chmod 700 /run/user/1000 && chown 1000 /run/user/1000").ok();

    // Ranges that nobody may read do not stop it: the one own id, and why.
    g.sh("echo tester:100000:65536 >/etc/subuid; echo tester:100000:65536 >/etc/subgid; chmod 0 /etc/subuid").ok();
    g.sh(">/run/dockerd.log").ok();
    accepted(&mut g, "dockerd");
    g.sh("cat /run/dockerd.log")
        .contains(
            "only one user id is available to containers: read /etc/subuid: permission denied (chmod 644 /etc/subuid)",
        )
        .ok();
    g.sh("chmod 644 /etc/subuid; >/run/dockerd.log").ok();
    accepted(&mut g, "dockerd");
    g.sh("cat /run/dockerd.log").contains("newuidmap is not installed (as root: apt-get install uidmap)").ok();

    // A second daemon on one root; and what a dead one left is no obstacle.
    g.sh("(as_user 'exec dockerd' >>/run/dockerd.log 2>&1) >/dev/null 2>&1 & wait_for 60 as_user 'docker version'")
        .ok();
    refused(
        &mut g,
        "exec dockerd -H unix:///run/user/1000/other.sock --exec-root /run/user/1000/other --pidfile /run/user/1000/other.pid",
        "is in use by another daemon (process ",
        "give this one its own --data-root",
    );
    refused(
        &mut g,
        "exec dockerd --data-root /tmp/other --exec-root /run/user/1000/other",
        "process with PID ",
        "is still running",
    );
    refused(
        &mut g,
        "exec dockerd --data-root /tmp/other --exec-root /run/user/1000/other --pidfile /run/user/1000/other.pid",
        "/run/user/1000/docker.sock",
        "-H",
    );
    g.sh("kill -9 $(pidof dockerd)").ok();
    g.sh("ls /run/user/1000/docker.sock /run/user/1000/docker.pid").ok();
    accepted(&mut g, "dockerd");
    g.sh("ls /run/user/1000/docker.sock /run/user/1000/docker.pid").fails(1);
    g.sh("echo 1 >/run/user/1000/docker.pid; touch /run/user/1000/docker.sock; chown 1000 /run/user/1000/docker.*")
        .ok();
    refused(&mut g, "exec dockerd", "a file that is no socket is in the way", "move /run/user/1000/docker.sock away");
    g.sh("rm /run/user/1000/docker.sock").ok();
    accepted(&mut g, "dockerd");
}

/// What `docker system check` says of one thing: verdict and the lines that mend it.
#[track_caller]
fn finding(g: &mut Guest, name: &str) -> (String, Vec<String>) {
    let said = g.user("docker system check --format json").stdout;
    for line in said.lines() {
        let found: serde_json::Value = serde_json::from_str(line).unwrap();
        if found["Name"] == name {
            let lines = found["Remedy"].as_array().unwrap().iter().map(|l| l.as_str().unwrap().to_owned()).collect();
            return (found["Verdict"].as_str().unwrap().to_owned(), lines);
        }
    }
    panic!("nothing about {name:?} in {said}");
}

#[test]
fn what_the_doctor_prescribes_helps() {
    need!(guest::available());
    let mut g = Guest::boot("");
    // sudo as it works for somebody who may.
    g.sh("mkdir -p /etc/sysctl.d; printf '#!/bin/sh\\nexec \"$@\"\\n' >/bin/sudo; chmod 755 /bin/sudo").ok();
    let breaks = "sysctl -w user.max_user_namespaces=0 net.ipv4.ip_unprivileged_port_start=1024; \
                  echo '1 0' >/proc/sys/net/ipv4/ping_group_range; chmod 755 /run/user/1000";
    g.sh(breaks).ok();
    for (name, verdict) in [
        ("user namespaces", "bad"),
        ("limits", "note"),
        ("ports below 1024", "note"),
        ("ping", "note"),
        ("runtime folder", "note"),
    ] {
        let (found, remedy) = finding(&mut g, name);
        assert_eq!(found, verdict, "{name}");
        assert!(!remedy.is_empty(), "{name}: no remedy");
        // In one shell, which the last of them moves into another cgroup.
        let output = g.sh(&format!("{}\nas_user 'docker system check --format json'", remedy.join("\n")));
        let said =
            output.stdout.lines().find(|l| l.contains(&format!("\"Name\":\"{name}\""))).unwrap_or_default().to_owned();
        assert!(said.contains("\"Verdict\":\"ok\""), "{name} after {remedy:?}: {said}\n{output}");
    }
    // Packages are named for this distribution, and what is missing is no obstacle.
    let (found, remedy) = finding(&mut g, "newuidmap");
    assert_eq!((found.as_str(), remedy.join("")), ("note", "sudo apt-get install uidmap".to_owned()));
    g.user("docker system check").contains("Containers run here").ok();
    g.user("docker doctor -q").ok();
}
