//! Debian's Python SDK drives the daemon; the script asserts for itself.

use crate::harness::{Daemon, image, probe, run};
use crate::need;
use std::path::Path;

const VENV: &str = "/opt/coracle-test/venv/bin/python3";

/// What testcontainers' reaper is to its clients: takes filters line by line,
/// answers ACK, and when the connection has been gone for a while removes what
/// they name, through the socket that was bound into it.
const REAPER: &str = r#"#!/bin/sh
if [ "$1" != session ]; then
    nc -ll -p 8080 -e /bin/reaper session &
    until grep -q :1F90 /proc/net/tcp /proc/net/tcp6; do usleep 10000; done
    echo "$(date) Started!"
    wait
fi
while read -r filter; do
    echo "$filter" | tr -d '\r' >>/filters
    echo ACK
done
sleep 1
while read -r filter; do
    docker ps -aq --filter "$filter" | grep -v "$(hostname)" | xargs -r docker rm -fv
    docker network ls -q --filter "$filter" | xargs -r docker network rm
    docker volume ls -q --filter "$filter" | xargs -r docker volume rm
done </filters >&2
docker rm -f "$(hostname)"
"#;

fn testcontainers() -> probe::Need {
    let missing = "no testcontainers for Python; `sudo make test` installs it from PyPI";
    Path::new(VENV).exists().then_some(()).ok_or_else(|| missing.into())
}

#[test]
fn testcontainers_and_their_reaper_work() {
    need!(probe::busybox(), probe::subordinate_ids(), testcontainers());
    let d = Daemon::with_busybox();
    let mut tar = image::Tar::default();
    tar.file("bin/docker", 0o755, &std::fs::read(crate::harness::daemon::binary()).unwrap());
    tar.file("bin/reaper", 0o755, REAPER.as_bytes());
    let layers = [image::busybox_layer(), &tar.finish()];
    let archive = image::archive("reaper:1", &layers, serde_json::json!({"Cmd": ["/bin/reaper"]}));
    d.docker_input(crate::harness::Client::Ours, &["load", "-q"], archive).ok();
    let script = crate::tidy::root().join("tests/python/testcontainers_flow.py");
    let mut command = d.command(VENV);
    command.env("RYUK_CONTAINER_IMAGE", "reaper:1").env("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1");
    command.env("TESTCONTAINERS_CONNECTION_MODE", "docker_host");
    run(command.arg(script)).ok();
}
