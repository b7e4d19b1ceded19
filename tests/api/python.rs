//! Debian's Python SDK drives the daemon; the script asserts for itself.

use crate::harness::{Daemon, probe, run};
use crate::need;

#[test]
fn the_sdk_works() {
    need!(probe::busybox(), probe::python("docker", "python3-docker"));
    let d = Daemon::with_busybox();
    let script = crate::tidy::root().join("tests/python/sdk.py");
    run(d.command("/usr/bin/python3").arg(script)).ok();
}
