//! The engine inside a container of its own: what people call Docker in Docker.

use crate::harness::daemon::binary;
use crate::harness::{Daemon, eventually, image, probe};
use crate::need;

#[test]
fn a_privileged_container_runs_an_engine() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let (program, archive) = (binary(), image::busybox_archive());
    let bind = |from: &std::path::Path, to: &str| format!("{}:{to}:ro", from.display());
    let id = d.run_detached(&[
        "--privileged",
        "-v",
        &bind(&program, "/bin/dockerd"),
        "-v",
        &bind(&program, "/bin/docker"),
        "-v",
        &bind(&archive, "/busybox.tar"),
        // Overlay does not go on overlay: the inner engine's data lies on a volume.
        "-v",
        "/var/lib/coracle",
        "busybox",
        "dockerd",
    ]);
    let inside = |args: &[&str]| d.docker(&[&["exec", &id, "docker"], args].concat());
    eventually("the inner engine", || inside(&["version"]).code == 0);
    inside(&["load", "-qi", "/busybox.tar"]).ok();
    inside(&["run", "--rm", "busybox", "echo", "nested"]).prints("nested");
    inside(&["run", "-d", "--name", "server", "busybox", "nc", "-ll", "-p", "7", "-e", "echo", "hello"]).ok();
    let address = inside(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "server"]).ok();
    eventually("the inner network", || {
        inside(&["run", "--rm", "busybox", "nc", "-w", "5", address.trim(), "7"]).stdout == "hello\n"
    });
    inside(&["rm", "-f", "server"]).ok();
    d.docker(&["stop", "-t", "60", &id]).ok();
    assert_eq!(d.inspect(&id, "{{.State.ExitCode}}"), "0");
}
