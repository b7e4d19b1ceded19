//! Limits, statistics and freezing through cgroup v2, as the kernel has them.

use super::{AsUser, START, delegated};
use crate::harness::{Guest, Scratch, guest};
use crate::need;

const TREE: &str = "/sys/fs/cgroup/board";

/// The values of a container's files, one per line.
#[track_caller]
fn files(g: &mut Guest, path: &str, names: &[&str]) -> Vec<String> {
    let text = g.sh(&format!("cd {path} && for f in {}; do echo $(cat $f); done", names.join(" "))).ok();
    text.lines().map(str::to_owned).collect()
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn every_limit_is_the_kernels() {
    need!(guest::available());
    let scratch = Scratch::new();
    let mut g = delegated(&scratch);
    let what = "{{.CgroupVersion}} {{.CgroupDriver}} {{.MemoryLimit}} {{.SwapLimit}} {{.PidsLimit}} {{.CPUShares}} \
                {{.CpuCfsQuota}} {{.CpuCfsPeriod}} {{.CPUSet}} {{.Driver}}";
    g.user(&format!("docker info -f '{what}'")).prints("2 cgroupfs true true true true true true true overlay2");
    let warnings = g.user("docker info -f '{{json .Warnings}}'").ok();
    assert!(!warnings.contains("support") && !warnings.contains("cgroup"), "{warnings}");

    let run = "docker run -d --network none --name box -m 64m --memory-reservation 32m --memory-swap 96m --pids-limit 50 \
               --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --cpuset-mems 0 --blkio-weight 300 \
               --device-read-bps /dev/nvme0n1:1mb --device-write-iops /dev/nvme0n1:100 busybox sleep 1000";
    let started = g.user(run);
    assert_eq!(started.stderr, "", "every limit is applied: no warning");
    let id = started.ok().trim().to_owned();
    let names = [
        "memory.max", "memory.low", "memory.swap.max", "pids.max", "cpu.max", "cpu.weight", "cpuset.cpus",
        "cpuset.mems", "io.weight", "io.max",
    ];
    let device = g.sh("cat /sys/block/nvme0n1/dev").ok();
    let rates = format!("{} rbps=1048576 wbps=max riops=max wiops=100", device.trim());
    assert_eq!(
        files(&mut g, &format!("{TREE}/{id}"), &names),
        ["67108864", "33554432", "33554432", "50", "50000 100000", "20", "0", "0", "default 2930", &rates]
    );

    // What an exec starts is inside, and the container sees its own cgroup as the root.
    g.user("docker exec box cat /proc/self/cgroup").prints("0::/");
    g.user("docker exec -d box sleep 500").ok();
    g.sh(&format!("wait_for 60 sh -c 'test $(wc -l <{TREE}/{id}/cgroup.procs) = 2'")).ok();
    g.user("docker exec box sh -c 'cat /sys/fs/cgroup/memory.max; echo 1 >/sys/fs/cgroup/memory.max'")
        .contains("67108864")
        .contains("Read-only file system")
        .fails(1);

    // Live changes: what is not named stays.
    g.user("docker update -m 96m --memory-swap -1 --cpu-shares 1024 --pids-limit -1 box").prints("box");
    let names = ["memory.max", "memory.low", "memory.swap.max", "pids.max", "cpu.max", "cpu.weight"];
    assert_eq!(
        files(&mut g, &format!("{TREE}/{id}"), &names),
        ["100663296", "33554432", "max", "max", "50000 100000", "39"]
    );
    g.user("docker update --cpus 1.5 --cpuset-cpus 0-1 box").prints("box");
    assert_eq!(files(&mut g, &format!("{TREE}/{id}"), &["cpu.max", "cpuset.cpus"]), ["150000 100000", "0-1"]);
    g.user("docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}' box")
        .prints("100663296 1500000000 -1");

    // Frozen by the kernel, not by signals.
    g.user("docker pause box").prints("box");
    assert_eq!(
        files(&mut g, &format!("{TREE}/{id}"), &["cgroup.freeze", "cgroup.events"]),
        ["1", "populated 1 frozen 1"]
    );
    g.user("docker unpause box").prints("box");
    assert_eq!(
        files(&mut g, &format!("{TREE}/{id}"), &["cgroup.freeze", "cgroup.events"]),
        ["0", "populated 1 frozen 0"]
    );

    // Statistics are the cgroup's.
    let stats = g.user("docker stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsage}}' box").ok();
    assert!(stats.starts_with("box 2 ") && stats.trim_end().ends_with("/ 96MiB"), "{stats}");

    // A parent of one's own, and the host's cgroup namespace.
    let host = "docker run --rm --network none --cgroup-parent /team/a --cgroupns host --name other busybox cat /proc/self/cgroup";
    let shown = g.user(host).ok();
    assert!(shown.starts_with("0::/board/team/a/"), "{shown}");
    g.sh(&format!("ls -d {TREE}/team/a/*/ 2>/dev/null")).fails(1);

    // A daemon that is killed takes no limit with it, and the next one tidies up.
    g.sh("kill -9 $(pidof dockerd)").ok();
    g.sh(&format!("{START}\nstart")).ok();
    assert_eq!(files(&mut g, &format!("{TREE}/{id}"), &["memory.max"]), ["100663296"]);
    g.user("docker info -f '{{.CgroupDriver}} {{.MemoryLimit}}'").prints("cgroupfs true");
    g.user("docker update -m 80m box").prints("box");
    assert_eq!(files(&mut g, &format!("{TREE}/{id}"), &["memory.max"]), ["83886080"]);
    g.user("docker rm -f box").prints("box");
    g.sh(&format!("ls -d {TREE}/{id}")).fails(1);

    // Stopped in order, it leaves the tree as it found it.
    g.sh("kill $(pidof dockerd)").ok();
    g.sh(&format!("wait_for 60 sh -c '! pidof dockerd && ! pidof coracle-spawner'; ls -d {TREE}/*/"))
        .prints(&format!("{TREE}/coracle.engine/\n{TREE}/team/"));
}

#[test]
fn what_runs_into_a_limit() {
    need!(guest::available());
    let scratch = Scratch::new();
    let mut g = delegated(&scratch);
    // One process too big: killed, seen, told.
    g.sh("echo 64M >/sys/block/zram0/disksize && mkswap /dev/zram0 && swapon /dev/zram0").ok();
    let hungry = "docker run --network none --name oom -m 16m --memory-swap 16m busybox dd if=/dev/zero of=/dev/null bs=64M count=1";
    g.user(hungry).fails(137);
    g.user("docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}} {{.State.Status}}' oom")
        .prints("true 137 exited");
    let seen = g.user("docker events --since 10m --until 0s --filter container=oom --format '{{.Action}}'").ok();
    assert!(lines(&seen).contains(&"oom"), "{seen}");
    // A child that is killed counts too, and the container goes on.
    let child = "docker run --network none --name child -m 16m --memory-swap 16m busybox sh -c 'dd if=/dev/zero of=/dev/null bs=64M count=1; echo went on'";
    g.user(child).prints("went on");
    g.user("docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' child").prints("true 0");
    // With swap behind it the same fits, and it is seen in memory.swap.current.
    let swapping =
        "docker run --rm --network none -m 16m --memory-swap 80m busybox dd if=/dev/zero of=/dev/null bs=32M count=1";
    g.user(swapping).ok();
    // Processes.
    let forks = "docker run --rm --network none --pids-limit 5 busybox sh -c 'for i in 1 2 3 4 5 6 7 8 9; do sleep 9 & done; wait'";
    g.user(forks).contains("can't fork").fails(2);
    // CPU time: the kernel says that it held the container back.
    let busy = "docker run --rm --network none --cpus 0.1 busybox sh -c 'i=0; until grep -q \"nr_throttled [1-9]\" /sys/fs/cgroup/cpu.stat; do i=$((i+1)); [ $i -lt 20000 ] || exit 1; done; cat /sys/fs/cgroup/cpu.max'";
    g.user(busy).prints("10000 100000");
    g.user("docker run --rm --network none --cpuset-cpus 1 busybox sh -c 'nproc; grep Cpus_allowed_list /proc/self/status'").prints("1\nCpus_allowed_list:\t1");
    // What Docker refuses is refused, and what the kernel refuses is an error.
    g.user("docker run --rm --network none --cpus 9 busybox true")
        .contains("Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available")
        .fails(125);
    g.user("docker run --rm --network none --cpuset-cpus 7 busybox true")
        .contains("Requested CPUs are not available - requested 7, available: 0-1")
        .fails(125);
    g.user("docker run --rm --network none -m 4m busybox true")
        .contains("Minimum memory limit allowed is 6MB")
        .fails(125);
    g.user("docker ps -aq --filter status=created").prints("");
    // Statistics from the kernel: CPU time, memory, pids, bytes of the disk.
    g.user("docker run -d --network none --name load -m 64m busybox sh -c 'dd if=/dev/zero of=/big bs=1M count=8 conv=fsync; sleep 1000'").ok();
    let wrote = "wait_for 60 sh -c 'as_user() { HOME=/home/tester XDG_RUNTIME_DIR=/run/user/1000 su -p -s /bin/sh tester -c \"$1\"; }; as_user \"docker stats --no-stream --format {{.BlockIO}} load\" | grep -q \"/ [1-9].*MB\"'";
    g.sh(wrote).ok();
    let stats = g.user("docker stats --no-stream --format '{{.PIDs}} {{.MemUsage}} {{.MemPerc}}' load").ok();
    assert!(stats.contains("/ 64MiB"), "{stats}");
    g.user("docker rm -f load oom child").ok();
}

#[test]
fn without_a_cgroup_every_limit_is_named() {
    need!(guest::available());
    let mut g = Guest::boot("");
    g.sh("(as_user 'exec dockerd' >>/run/dockerd.log 2>&1) >/dev/null 2>&1 & wait_for 60 as_user 'docker version'")
        .ok();
    g.user("docker load -qi /busybox.tar").ok();
    g.user("docker info -f '{{.CgroupVersion}} {{.CgroupDriver}} {{.MemoryLimit}} {{.PidsLimit}} {{.CPUShares}} {{.CpuCfsQuota}} {{.CPUSet}}'").prints("2 none false false false false false");
    g.user("docker info").contains("WARNING: Running in rootless-mode without cgroups.").ok();
    let limited = g.user("docker run --rm --network none -m 64m --pids-limit 9 --cpu-shares 9 --cpu-quota 5000 --cpuset-cpus 0 --blkio-weight 99 busybox echo ran");
    let warned = limited.stderr.clone();
    for word in ["memory limit", "PIDs limit", "CPU shares", "CPU CFS", "cpuset", "Block I/O weight"] {
        assert!(warned.contains(word), "no warning of {word}: {warned}");
    }
    limited.prints("ran");
    g.sh("cat /run/dockerd.log").contains("only one user id is available").ok();
}

#[test]
fn as_root() {
    need!(guest::available());
    let scratch = Scratch::new();
    let disk = super::disk(&scratch, "256M");
    let mut g = Guest::boot_with("", Some(&disk));
    g.sh("mkdir -p /var/lib/coracle && mount /dev/nvme0n1 /var/lib/coracle; dockerd >/run/dockerd.log 2>&1 & wait_for 60 docker version").ok();
    g.sh("docker load -qi /busybox.tar").ok();
    g.sh("docker info -f '{{.CgroupVersion}} {{.CgroupDriver}} {{.MemoryLimit}} {{.PidsLimit}} {{.Driver}} {{.SecurityOptions}}'")
        .prints("2 cgroupfs true true overlay2 [name=seccomp,profile=builtin name=cgroupns]");
    let id = g.sh("docker run -d --name box -m 64m --pids-limit 20 --cpu-shares 2048 busybox sleep 1000").ok();
    let path = format!("/sys/fs/cgroup/coracle/{}", id.trim());
    assert_eq!(files(&mut g, &path, &["memory.max", "pids.max", "cpu.weight"]), ["67108864", "20", "79"]);
    g.sh("docker exec box ping -c 1 172.17.0.1").ok();
    g.sh("docker run --rm busybox sh -c 'id -u; hostname -i' | head -1").prints("0");
    g.sh("kill -9 $(pidof dockerd); (dockerd >>/run/dockerd.log 2>&1 &); wait_for 60 docker version; docker exec box echo alive").prints("alive");
    g.sh("docker rm -f box").ok();
    g.sh(&format!("ls -d {path}")).fails(1);
}
