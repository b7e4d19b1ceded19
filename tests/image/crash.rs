//! kill -9 of dockerd in the middle of load and rmi: everything listed runs.

use crate::harness::{Daemon, image, probe};
use crate::need;
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
            .cli(crate::harness::Client::Ours)
            .args(["load", "-qi", path.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        std::thread::sleep(Duration::from_millis(delay));
        d.kill();
        let _ = load.unwrap().wait();
        d.up();
        for name in d.docker(&["images", "-q"]).ok().lines() {
            d.docker(&["run", "--rm", "--network", "none", name, "true"]).ok();
        }
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
        let rmi = d
            .cli(crate::harness::Client::Ours)
            .args(["rmi", "heavy:1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        std::thread::sleep(Duration::from_millis(delay));
        d.kill();
        let _ = rmi.unwrap().wait();
        d.up();
        for name in d.docker(&["images", "-q"]).ok().lines() {
            d.docker(&["run", "--rm", "--network", "none", name, "true"]).ok();
        }
    }
}
