//! What only a machine of its own can prove. Each test boots one.

/// One static program and nothing else.
mod board;
/// A full disk, and a power cut.
mod disk;
/// Limits, statistics, freezing: as an ordinary user in a delegated cgroup, without one, as root.
mod limits;
/// What a host can refuse, each with its remedy.
mod refusals;
/// Debian under a live systemd: our units, a real scope, scripts of other inits.
mod services;
/// The cgroup that the user's systemd gives, and the bus to it.
mod systemd;

use crate::harness::{Guest, Output, Scratch, probe, run};
use std::path::PathBuf;
use std::process::Command;

/// An ext4 file system of `size` that belongs to the guest's ordinary user.
fn disk(scratch: &Scratch, size: &str) -> PathBuf {
    let path = scratch.join("disk");
    let mke2fs = probe::find("mke2fs").expect("e2fsprogs");
    let arguments =
        ["-q", "-t", "ext4", "-m", "0", "-E", "root_owner=1000:1000,lazy_itable_init=1,lazy_journal_init=1"];
    run(Command::new(mke2fs).args(arguments).arg(&path).arg(size)).ok();
    path
}

/// Mounts the disk as the ordinary user's home and hands a cgroup over to them,
/// as the README tells a board's boot script to do.
const DELEGATED: &str = "
mount /dev/nvme0n1 /home/tester
cd /sys/fs/cgroup
echo '+memory +cpu +cpuset +pids +io' >cgroup.subtree_control
mkdir -p board/coracle.engine
chown -R 1000:1000 board";

/// A shell function that starts dockerd as the ordinary user in that cgroup.
const START: &str = "
start() {
    (echo 0 >/sys/fs/cgroup/board/coracle.engine/cgroup.procs; as_user 'exec dockerd' >>/run/dockerd.log 2>&1) >/dev/null 2>&1 &
    wait_for 60 as_user 'docker version'
}";

/// A guest whose ordinary user has a cgroup and runs dockerd with busybox in it.
fn delegated(scratch: &Scratch) -> Guest {
    let mut guest = Guest::boot_with("", Some(&disk(scratch, "256M")));
    guest.sh(DELEGATED).ok();
    guest.sh(&format!("{START}\nstart && as_user 'docker load -qi /busybox.tar'")).ok();
    guest
}

trait AsUser {
    fn user(&mut self, command: &str) -> Output;
}

impl AsUser for Guest {
    /// A command of the ordinary user.
    fn user(&mut self, command: &str) -> Output {
        self.sh(&format!("as_user '{}'", command.replace('\'', r"'\''")))
    }
}
