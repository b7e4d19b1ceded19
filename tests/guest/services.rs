//! Debian in the guest, with systemd as its first process: the units as their user and
//! as root start, watch and restart the daemon; a scope of the user's manager gives
//! limits to a daemon that nobody delegated anything to. Then the scripts for OpenRC,
//! runit and SysV, run by the programs of their packages. One boot for all.

use super::AsUser;
use crate::harness::{Guest, guest};
use crate::need;

#[test]
fn units_and_scripts_run_the_daemon() {
    need!(guest::with_systemd());
    let mut g = Guest::boot_systemd();
    g.sh("wait_for 240 systemctl is-active user@1000.service; modprobe -a overlay bridge veth").ok();
    user_unit(&mut g);
    scope(&mut g);
    system_unit(&mut g);
    passed_ports(&mut g);
    openrc(&mut g);
    runit(&mut g);
    sysv(&mut g);
}

/// A container's limits as it sees them itself.
const LIMITS: &str = "docker run --rm --network none -m 24m --pids-limit 9 busybox cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max";

fn user_unit(g: &mut Guest) {
    let unit = |g: &mut Guest, property: &str| {
        g.user(&format!("systemctl --user show -p {property} --value docker.service")).ok().trim().to_owned()
    };
    g.user("dockerd --install-service").ok();
    // A minute is too long for a test; the rest is as installed.
    g.user("mkdir -p ~/.config/systemd/user/docker.service.d && printf '[Service]\\nWatchdogSec=10\\n' >~/.config/systemd/user/docker.service.d/test.conf").ok();
    g.user("systemctl --user daemon-reload && systemctl --user enable --now docker.socket").ok();
    assert_eq!(unit(g, "ActiveState"), "inactive");
    // The first client starts it; who is told that it runs hears of its readiness.
    g.user("docker version -f '{{.Server.Os}}'").prints("linux");
    g.sh("wait_for 60 as_user 'systemctl --user is-active docker.service'").ok();
    g.user("docker load -qi /busybox.tar").ok();
    g.user(LIMITS).prints("25165824\n9");
    g.user("docker run -d --network none --cgroupns host --name box -m 32m --pids-limit 7 busybox sleep 100000").ok();
    let path = g.user("docker exec box cat /proc/1/cgroup").ok();
    let path = path.trim().trim_start_matches("0::").to_owned();
    assert!(path.starts_with("/user.slice/user-1000.slice/user@1000.service/app.slice/docker.service/"), "{path}");
    // A crash: systemd starts the next one above the container that still runs.
    let first = unit(g, "MainPID");
    g.sh(&format!(
        "kill -9 {first}; wait_for 120 as_user 'systemctl --user is-active docker.service && docker version'"
    ))
    .ok();
    assert_eq!(unit(g, "NRestarts"), "1", "{}", g.console());
    assert_ne!(unit(g, "MainPID"), first);
    g.user("docker inspect -f '{{.State.Running}} {{.RestartCount}}' box").prints("true 0");
    g.sh(&format!("cat /sys/fs/cgroup{path}/memory.max /sys/fs/cgroup{path}/pids.max")).prints("33554432\n7");
    g.user(LIMITS).prints("25165824\n9");
    // A daemon that hangs gives no sign of life.
    let second = unit(g, "MainPID");
    g.sh(&format!("kill -STOP {second}; wait_for 240 as_user '[ \"$(systemctl --user show -p NRestarts --value docker.service)\" = 2 ] && docker version'")).ok();
    g.sh("journalctl --no-pager -o cat _UID=1000").contains("Watchdog timeout").ok();
    g.user("docker inspect -f '{{.State.Running}}' box").prints("true");
    g.user("systemctl --user reload docker.service").ok();
    g.sh("wait_for 60 sh -c 'journalctl --no-pager -o cat _UID=1000 | grep -q \"Reloaded configuration\"'").ok();
    // An end in order takes the containers along.
    g.user("systemctl --user stop docker.service docker.socket").ok();
    g.sh(&format!("ls -d /sys/fs/cgroup{path}")).fails(2);
    assert_eq!(unit(g, "Result"), "success");
}

/// Started by hand, from a cgroup that is not this user's.
fn scope(g: &mut Guest) {
    let start =
        "(as_user 'exec dockerd' >>/run/dockerd.log 2>&1 &) >/dev/null 2>&1; wait_for 120 as_user 'docker version'";
    g.sh(start).ok();
    g.user("docker info -f '{{.CgroupDriver}}'").prints("systemd");
    g.user("docker rm -f box").ok();
    g.user("docker run -d --network none --cgroupns host --name box -m 32m --pids-limit 7 busybox sleep 100000").ok();
    let path = g.user("docker exec box cat /proc/1/cgroup").ok();
    let path = path.trim().trim_start_matches("0::").to_owned();
    assert!(path.starts_with("/user.slice/user-1000.slice/user@1000.service/app.slice/coracle-"), "{path}");
    g.sh(&format!("cat /sys/fs/cgroup{path}/memory.max /sys/fs/cgroup{path}/pids.max")).prints("33554432\n7");
    g.sh("kill -9 $(pidof dockerd)").ok();
    g.sh(start).ok();
    g.user("docker update -m 48m --memory-swap 96m box").ok();
    g.sh(&format!("cat /sys/fs/cgroup{path}/memory.max")).prints("50331648");
    g.user(LIMITS).prints("25165824\n9");
    g.user("docker rm -f box").ok();
    g.sh("kill $(pidof dockerd); wait_for 60 sh -c '! pidof dockerd'").ok();
}

/// The daemon of tester where the service of the machine has it.
const HOST: &str = "export DOCKER_HOST=unix:///run/docker-tester/docker.sock";

fn system_unit(g: &mut Guest) {
    g.sh("dockerd --install-service && systemctl daemon-reload && systemctl enable -q --now docker@tester").ok();
    g.sh("systemctl show -p User -p SubState docker@tester").prints("User=tester\nSubState=running");
    g.user(&format!("{HOST}; {LIMITS}")).prints("25165824\n9");
    g.user(&format!("{HOST}; docker run -d --network none --name box busybox sleep 100000")).ok();
    g.sh("kill -9 $(systemctl show -p MainPID --value docker@tester); wait_for 120 as_user 'DOCKER_HOST=unix:///run/docker-tester/docker.sock docker version'").ok();
    g.sh("systemctl show -p NRestarts --value docker@tester").prints("1");
    g.user(&format!("{HOST}; docker inspect -f '{{{{.State.Running}}}}' box")).prints("true");
    g.user(&format!("{HOST}; {LIMITS}")).prints("25165824\n9");
    g.user(&format!("{HOST}; docker rm -f box")).ok();
    g.sh("systemctl stop docker@tester; ls -d /run/docker-tester").fails(2);
}

/// Port 80 for an ordinary user, by the unit that README.md shows.
fn passed_ports(g: &mut Guest) {
    let readme = include_str!("../../README.md");
    let shown = readme
        .lines()
        .skip_while(|l| !l.contains("docker-ports@.socket, then: "))
        .map_while(|l| l.strip_prefix("    "));
    let shown: Vec<&str> = shown.collect();
    let typed = shown[0].split_once("then: ").unwrap().1.replace("@ann", "@tester");
    g.sh(&format!(
        "cat >/etc/systemd/system/docker-ports@.socket <<'END'\n{}\nEND\nsystemctl daemon-reload",
        shown.join("\n")
    ))
    .ok();
    g.sh(&typed).ok();
    g.sh("systemctl is-active docker-ports@tester.socket docker@tester").prints("active\nactive");
    let serve = |name: &str| {
        let serve = format!("echo {name} >/tmp/f; exec httpd -f -h /tmp");
        format!("{HOST}; docker run -d -p 80:80 --name {name} busybox sh -c '{serve}'")
    };
    let fetch = |g: &mut Guest, text: &str| {
        g.sh(&format!("wait_for 120 sh -c 'busybox wget -qO- http://127.0.0.1/f | grep -qx {text}'")).ok();
    };
    g.user(&serve("one")).ok();
    fetch(g, "one");
    g.user(&format!("{HOST}; docker port one 80")).prints("0.0.0.0:80\n[::]:80");
    // The next daemon gets the sockets again; the container keeps its port meanwhile and after.
    g.sh("kill -9 $(systemctl show -p MainPID --value docker@tester); busybox wget -qO- http://127.0.0.1/f")
        .prints("one");
    g.sh(&format!("wait_for 120 as_user '{HOST}; docker version'")).ok();
    fetch(g, "one");
    g.user(&format!("{HOST}; docker rm -f one")).ok();
    g.user(&serve("two")).ok();
    fetch(g, "two");
    // What was not passed is still root's; the original's client has 126 for "permission denied" too.
    let words = g.user(&format!("{HOST}; docker run --rm -p 81:80 busybox true")).fails(126);
    assert!(words.contains("cannot expose privileged port 81"), "{words}");
    g.user(&format!("{HOST}; docker rm -f two")).ok();
    g.sh("systemctl disable -q --now docker-ports@tester.socket docker@tester; ls -d /run/docker-tester").fails(2);
}

fn settings(g: &mut Guest, file: &str) {
    g.sh(&format!("printf 'DOCKER_USER=tester\\nDOCKER_OPTS=\"--label from={file}\"\\n' >>/etc/{file}/docker")).ok();
}

fn labels(g: &mut Guest, name: &str) {
    g.user(&format!("{HOST}; docker info -f '{{{{.Labels}}}}'")).prints(&format!("[from={name}]"));
}

fn openrc(g: &mut Guest) {
    g.sh("dockerd --install-service --service-kind openrc").ok();
    settings(g, "conf.d");
    // What its first process makes at the boot.
    g.sh("for d in starting started stopping inactive wasinactive failed hotplugged daemons options exclusive scheduled init.d tmp; do mkdir -p /run/openrc/$d; done; touch /run/openrc/softlevel").ok();
    g.sh("rc-service docker status").fails(3);
    g.sh("rc-service docker start; wait_for 120 test -S /run/docker-tester/docker.sock").ok();
    labels(g, "conf.d");
    g.sh("stat -c '%U %a' /run/docker-tester; stat -c %U /proc/$(pidof dockerd)").prints("tester 700\ntester");
    g.sh("rc-service docker status").contains("started").ok();
    g.sh("rc-service docker reload && wait_for 60 grep -q 'Reloaded configuration' /var/log/docker/dockerd.log").ok();
    let before = g.sh("pidof dockerd").ok();
    // Its supervisor starts it again.
    g.sh(&format!("kill -9 {0}; wait_for 120 sh -c 'p=$(pidof dockerd) && [ \"$p\" != {0} ]'", before.trim())).ok();
    g.sh(&format!("wait_for 120 as_user '{HOST}; docker version'")).ok();
    g.sh("rc-service docker restart").ok();
    g.sh(&format!("wait_for 120 as_user '{HOST}; docker version'")).ok();
    g.sh("rc-service docker stop").ok();
    g.sh("wait_for 60 sh -c '! pidof dockerd'; rc-service docker status").fails(3);
}

fn runit(g: &mut Guest) {
    g.sh("dockerd --install-service --service-kind runit").ok();
    settings(g, "default");
    g.sh("mkdir -p /run/sv; ln -s /etc/sv/docker /run/sv/docker; (runsvdir /run/sv &) >/dev/null 2>&1").ok();
    g.sh(&format!("wait_for 120 as_user '{HOST}; docker version'")).ok();
    labels(g, "default");
    g.sh("export SVDIR=/run/sv; sv status docker").contains("run: docker: (pid ").ok();
    g.sh("export SVDIR=/run/sv; sv hup docker; wait_for 60 grep -q 'Reloaded configuration' /var/log/docker/current")
        .ok();
    let before = g.sh("pidof dockerd").ok();
    g.sh(&format!("kill -9 {0}; wait_for 120 sh -c 'p=$(pidof dockerd) && [ \"$p\" != {0} ]'", before.trim())).ok();
    g.sh(&format!("wait_for 120 as_user '{HOST}; docker version'")).ok();
    g.sh("export SVDIR=/run/sv; sv -w 60 down docker && sv status docker").contains("down: docker: ").ok();
    g.sh("kill $(pidof runsvdir); rm -r /run/sv").ok();
}

/// As root, whose script becomes the user before it touches what is the user's.
fn sysv(g: &mut Guest) {
    g.sh("rm /etc/init.d/docker; dockerd --install-service --service-kind sysv").ok();
    g.sh("/etc/init.d/docker status").fails(3);
    g.sh("/etc/init.d/docker start").contains("docker started, pid ").ok();
    labels(g, "default");
    g.sh("/etc/init.d/docker restart && /etc/init.d/docker status").contains("docker is running, pid ").ok();
    g.sh("stat -c %U /proc/$(pidof dockerd)").prints("tester");
    g.sh("/etc/init.d/docker stop").contains("docker stopped").ok();
}
