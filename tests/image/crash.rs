//! kill -9 of dockerd in the middle of load, rmi, build and commit: everything
//! that is listed runs, and nothing half stays.

use crate::harness::daemon::{all_images_run, comes_clean, litter, processes_of};
use crate::harness::{Client, Daemon, eventually, image, probe};
use crate::need;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

/// An image of many files, so that there is a middle to be killed in.
fn heavy(tag: &str) -> Vec<u8> {
    let mut layer = image::Tar::default();
    for dir in 0..40 {
        layer.dir(&format!("data{dir}"), 0o755);
        for file in 0..50 {
            layer.file(&format!("data{dir}/f{file}"), 0o644, &vec![file as u8; 4096]);
        }
    }
    image::archive(tag, &[image::busybox_layer(), &layer.finish()], serde_json::json!({"Cmd": ["sh"]}))
}

#[test]
fn in_the_middle_of_load() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let path = d.scratch.file("heavy.tar", heavy("heavy:1"));
    for delay in [1, 5, 10, 20, 40, 80, 160] {
        let load = d
            .cli(Client::Ours)
            .args(["load", "-qi", path.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        std::thread::sleep(Duration::from_millis(delay));
        d.kill();
        let _ = load.unwrap().wait();
        d.up();
        all_images_run(&d);
        comes_clean(&d);
        d.docker(&["load", "-qi", path.to_str().unwrap()]).ok();
        d.docker(&["run", "--rm", "--network", "none", "heavy:1", "sh", "-c", "cat /data*/f* | wc -c"])
            .prints("8192000");
        d.docker(&["rmi", "-f", "heavy:1"]).ok();
    }
}

#[test]
fn in_the_middle_of_rmi() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let path = d.scratch.file("heavy.tar", heavy("heavy:1"));
    for delay in [0, 2, 5, 10, 30] {
        d.docker(&["load", "-qi", path.to_str().unwrap()]).ok();
        let rmi = d.cli(Client::Ours).args(["rmi", "heavy:1"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        std::thread::sleep(Duration::from_millis(delay));
        d.kill();
        let _ = rmi.unwrap().wait();
        d.up();
        all_images_run(&d);
        comes_clean(&d);
    }
}

#[test]
fn when_the_archive_is_half_there() {
    need!(probe::busybox());
    let mut d = Daemon::start();
    let archive = heavy("heavy:1");
    let mut load = d.cli(Client::Ours);
    let load = load.args(["load", "-q"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut load = load.spawn().unwrap();
    let mut stdin = load.stdin.take().unwrap();
    stdin.write_all(&archive[..archive.len() / 2]).unwrap();
    stdin.flush().unwrap();
    eventually("half an image", || !litter(&d).is_empty());
    d.kill();
    drop(stdin);
    load.wait().unwrap();
    d.up();
    assert_eq!(d.docker(&["images", "-aq"]).ok(), "");
    comes_clean(&d);
    d.docker_input(Client::Ours, &["load", "-q"], archive).ok();
    all_images_run(&d);
}

fn sleeps(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\x001000\0"))
}

#[test]
fn in_the_middle_of_build() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let text = "FROM busybox\nCOPY big /big\nRUN touch /run-1\nRUN [ -e /big/go ] || { touch /waits; sleep 1000; }\n";
    d.scratch.file("build/Dockerfile", text);
    d.scratch.file("build/big/f", vec![7; 1 << 20]);
    let folder = d.scratch.join("build").display().to_string();
    let args = ["build", "-q", "--network", "none", "-t", "built", &folder];
    let mut build = d.cli(Client::Ours);
    let mut build = build.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let runs = |d: &Daemon| processes_of(d.scratch.path()).into_iter().any(sleeps);
    eventually("its last step", || runs(&d));
    d.kill();
    build.wait().unwrap();
    d.up();
    eventually("the step's container to go", || d.docker(&["ps", "-aq"]).ok().is_empty());
    eventually("its process to go", || !runs(&d));
    d.docker(&["image", "inspect", "built"]).fails(1);
    all_images_run(&d);
    comes_clean(&d);
    // What was done before is there for the next: only the changed steps run.
    d.scratch.file("build/big/go", "");
    d.docker(&args).ok();
    d.docker(&["run", "--rm", "--network", "none", "built", "ls", "/run-1", "/big/f"]).prints("/big/f\n/run-1");
}

#[test]
fn in_the_middle_of_commit() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let id = d.run_detached(&[
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "dd if=/dev/urandom of=/big bs=1M count=24; touch /done; while :; do date >/now; sleep 1; done",
    ]);
    eventually("its file", || d.docker(&["exec", &id, "test", "-e", "/done"]).code == 0);
    for delay in [0, 5, 20, 60, 150] {
        let commit =
            d.cli(Client::Ours).args(["commit", &id, "made"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        std::thread::sleep(Duration::from_millis(delay));
        d.kill();
        let _ = commit.unwrap().wait();
        d.up();
        all_images_run(&d);
        comes_clean(&d);
        // It was paused for the commit, and nobody else would wake it.
        assert_eq!(d.inspect(&id, "{{.State.Status}}"), "running");
        d.docker(&["exec", &id, "rm", "-f", "/now"]).ok();
        eventually("the container to go on", || d.docker(&["exec", &id, "test", "-e", "/now"]).code == 0);
        d.docker(&["rmi", "-f", "made"]).ok();
    }
    d.docker(&["commit", &id, "made"]).ok();
    d.docker(&["run", "--rm", "--network", "none", "made", "stat", "-c", "%s", "/big"]).prints("25165824");
}
