//! Pulls that end early and are begun again: what came once does not come twice.

use super::sample::{Sample, asked_for, noise, ranged, serve, tar_of};
use super::scripted::{End, Scripted};
use crate::harness::daemon::{comes_clean, signal};
use crate::harness::{Client, Daemon, eventually};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Two layers; the second falls silent in its middle until `open` is set.
fn stuck() -> (Sample, Scripted, Arc<AtomicBool>) {
    let sample = Sample::of("amd64", &[tar_of("a", &noise(1, 50_000)), tar_of("b", &noise(2, 900_000))]);
    let open = Arc::new(AtomicBool::new(false));
    let (gate, second) = (open.clone(), sample.layers[1].clone());
    let server = serve(&sample, move |ask, layer| {
        let reply = ranged(ask, layer);
        let stuck = layer == second && !gate.load(Ordering::SeqCst);
        if stuck { reply.end(End::Silent(300_000)) } else { reply }
    });
    (sample, server, open)
}

fn start_pull(d: &Daemon, name: &str) -> Child {
    d.cli(Client::Ours).args(["pull", name]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A pull whose first layer is in, and some of the second on the disk.
fn midway(d: &Daemon) -> (Sample, Scripted, Arc<AtomicBool>, String, Child) {
    let (sample, server, open) = stuck();
    let name = server.repo();
    let pull = start_pull(d, &name);
    let image = d.scratch.join("data/image");
    eventually("the middle of the pull", || {
        let layers = std::fs::read_dir(image.join("layers")).unwrap().count();
        let partial = std::fs::metadata(image.join("unfinished").join(sample.layer(1).hex()));
        layers == 1 && partial.is_ok_and(|p| p.len() > 0)
    });
    (sample, server, open, name, pull)
}

/// Ctrl-c at the client, and waits until the daemon has let go of the layer.
fn interrupt(d: &Daemon, sample: &Sample, mut pull: Child) {
    signal(pull.id(), "INT");
    assert!(!pull.wait().unwrap().success());
    let partial = d.scratch.join("data/image/unfinished").join(sample.layer(1).hex());
    eventually("the end of the transfer", || std::fs::File::open(&partial).unwrap().try_lock().is_ok());
}

fn check(d: &Daemon, server: &Scripted, sample: &Sample, name: &str) {
    d.docker(&["pull", "-q", name]).ok();
    assert_eq!(asked_for(server, &sample.layer(0)), [0], "a finished layer is not fetched again");
    let second = asked_for(server, &sample.layer(1));
    assert!(second.len() == 2 && second[1] > 0, "the rest of a layer is asked for by range: {second:?}");
    // Of what came, less than the reader's buffers is asked for again.
    let again = 300_000usize.saturating_sub(second[1]);
    assert!(again < 256 << 10, "{again} bytes are asked for again");
    assert_eq!(d.inspect(name, "{{.Id}}"), sample.id().to_string());
    let left = std::fs::read_dir(d.scratch.join("data/image/unfinished")).unwrap().count();
    assert_eq!(left, 0, "a pull that succeeded leaves nothing unfinished");
    comes_clean(d);
}

#[test]
fn a_killed_daemon_goes_on_where_it_was() {
    let mut d = Daemon::start();
    let (sample, server, open, name, mut pull) = midway(&d);
    d.kill();
    pull.wait().unwrap();
    open.store(true, Ordering::SeqCst);
    d.up();
    check(&d, &server, &sample, &name);
}

#[test]
fn an_interrupted_pull_ends_at_once_and_goes_on() {
    let d = Daemon::start();
    let (sample, server, open, name, pull) = midway(&d);
    interrupt(&d, &sample, pull);
    open.store(true, Ordering::SeqCst);
    check(&d, &server, &sample, &name);
}

#[test]
fn what_a_power_cut_spoilt_is_fetched_anew() {
    let mut d = Daemon::start();
    let (sample, server, open, name, mut pull) = midway(&d);
    d.kill();
    pull.wait().unwrap();
    let partial = d.scratch.join("data/image/unfinished").join(sample.layer(1).hex());
    let mut bytes = std::fs::read(&partial).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0);
    std::fs::write(&partial, bytes).unwrap();
    open.store(true, Ordering::SeqCst);
    d.up();
    d.docker(&["pull", "-q", &name]).ok();
    assert_eq!(asked_for(&server, &sample.layer(1)).last(), Some(&0));
    assert_eq!(d.inspect(&name, "{{.Id}}"), sample.id().to_string());
}

#[test]
fn a_prune_gives_up_what_is_unfinished() {
    let d = Daemon::start();
    let (sample, _server, _, _, pull) = midway(&d);
    interrupt(&d, &sample, pull);
    let count = |dir: &str| std::fs::read_dir(d.scratch.join("data/image").join(dir)).unwrap().count();
    assert_eq!((count("layers"), count("unfinished")), (1, 2));
    let out = d.docker(&["image", "prune", "-f"]).ok();
    assert!(!out.contains("space: 0B"), "{out}");
    assert_eq!((count("layers"), count("unfinished")), (0, 0));
}

/// Two registries have one layer; what becomes of it at one is nothing to the other.
#[test]
fn a_registry_that_hangs_holds_up_no_other() {
    let d = Daemon::start();
    let (sample, _server, _, _, pull) = midway(&d);
    let other = serve(&sample, ranged);
    let name = other.repo();
    d.docker(&["pull", "-q", &name]).ok();
    assert_eq!(asked_for(&other, &sample.layer(1)), [0]);
    assert_eq!(d.inspect(&name, "{{.Id}}"), sample.id().to_string());
    interrupt(&d, &sample, pull);
    d.docker(&["rmi", &name]).ok();
    d.docker(&["image", "prune", "-f"]).ok();
    let count = |dir: &str| std::fs::read_dir(d.scratch.join("data/image").join(dir)).unwrap().count();
    assert_eq!((count("layers"), count("unfinished"), count("blobs/sha256")), (0, 0, 0));
    comes_clean(&d);
}

#[test]
fn two_pulls_that_share_layers_fetch_each_once() {
    let d = Daemon::start();
    let tars = [tar_of("a", &noise(1, 400_000)), tar_of("b", &noise(2, 400_000)), tar_of("c", &noise(3, 400_000))];
    let sample = Sample::of("amd64", &tars);
    let server = serve(&sample, ranged);
    let names: Vec<String> = ["one", "two", "three"].iter().map(|r| format!("{}/{r}:v1", server.address)).collect();
    let pulls: Vec<Child> = names.iter().map(|n| start_pull(&d, n)).collect();
    for mut pull in pulls {
        assert!(pull.wait().unwrap().success(), "{}", d.log());
    }
    for n in 0..3 {
        assert_eq!(asked_for(&server, &sample.layer(n)), [0], "layer {n}");
    }
    for name in names {
        assert_eq!(d.inspect(&name, "{{.Id}}"), sample.id().to_string());
    }
}
