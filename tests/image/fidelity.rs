//! A loaded layer comes back out of `save` byte for byte.

use crate::harness::{Client, Daemon, image, probe, run};
use crate::need;
use std::collections::BTreeMap;
use std::io::Read;
use std::process::Command;

/// Every file of a tar by name.
fn unpack(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(bytes);
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(name, content);
    }
    files
}

/// The layers of a `docker save` stream, bottom first.
fn layers(saved: &[u8]) -> Vec<Vec<u8>> {
    let files = unpack(saved);
    let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let names = manifest[0]["Layers"].as_array().unwrap().iter().map(|l| l.as_str().unwrap());
    names.map(|name| files[name].clone()).collect()
}

#[test]
fn layers_come_back_byte_for_byte() {
    need!(probe::busybox());
    let d = Daemon::start();
    let mut odd = image::Tar::default();
    odd.dir("d", 0o2755);
    odd.file("d/setuid", 0o4755, b"x");
    odd.symlink("link", "/nowhere/at/all");
    odd.hardlink("hard", "d/setuid");
    odd.entry("fifo", tar::EntryType::Fifo, 0o644, "", b"");
    odd.file("d/.wh.gone", 0o644, b"");
    odd.file("www/.wh..wh..opq", 0o644, b"");
    odd.file("plain", 0o600, b"content");
    let odd = odd.finish();
    let archive = image::archive("odd:1", &[image::busybox_layer(), &odd], serde_json::json!({"Cmd": ["sh"]}));
    let path = d.scratch.file("odd.tar", archive);
    d.docker(&["load", "-qi", path.to_str().unwrap()]).ok();
    for c in d.clients() {
        let saved = d.with(c, &["save", "odd:1"]);
        assert_eq!(saved.code, 0, "{saved}");
        let found = layers(&saved.raw);
        assert!(found[0] == image::busybox_layer(), "the first layer differs");
        assert!(found[1] == odd, "the second layer differs");
    }
    d.docker(&["run", "--rm", "odd:1", "sh", "-c", "cat /plain; ls /www | wc -l"]).prints("content0");
}

/// What was written through a symlink is found where it went, whatever stands in
/// the symlink's place in the end.
#[test]
fn files_behind_a_symlink_come_back() {
    need!(probe::busybox());
    let mut layer = image::Tar::default();
    layer.dir("real", 0o755);
    layer.symlink("way", "/real");
    layer.symlink("up", "way/../real");
    layer.file("way/a", 0o644, b"by the way");
    layer.file("up/b", 0o644, b"up");
    layer.file("real/a", 0o644, b"over it");
    layer.file("way/c", 0o644, b"stays");
    layer.file("way", 0o644, b"a file now");
    layer.dir("up", 0o755);
    layer.file("up/b", 0o644, b"another");
    layer.file("real", 0o644, b"no directory");
    let layer = layer.finish();
    let archive = image::archive("ways:1", &[image::busybox_layer(), &layer], serde_json::json!({"Cmd": ["sh"]}));
    for driver in ["overlay2", "vfs"] {
        let d = Daemon::start_with(&["--storage-driver", driver], &[]);
        d.docker_input(Client::Ours, &["load", "-q"], archive.clone()).ok();
        let saved = d.docker(&["save", "ways:1"]);
        assert_eq!(saved.code, 0, "{driver}: {saved}");
        assert!(layers(&saved.raw)[1] == layer, "{driver}: the layer differs");
        let show = ["run", "--rm", "--network", "none", "ways:1", "cat", "/way", "/up/b", "/real"];
        d.docker(&show).prints("a file nowanotherno directory");
    }
}

/// Trees that only real programs make: debootstrap's, with device nodes, sparse
/// and long names, through the eyes of another tool.
#[test]
fn another_tool_reads_what_we_save() {
    need!(probe::busybox(), probe::program("skopeo", "skopeo"));
    let d = Daemon::with_busybox();
    let out = d.scratch.join("saved.tar");
    d.docker(&["save", "-o", out.to_str().unwrap(), "busybox"]).ok();
    let copied = d.scratch.join("copied");
    let source = format!("docker-archive:{}:busybox:latest", out.display());
    run(Command::new("skopeo").args([
        "--insecure-policy",
        "copy",
        "-q",
        &source,
        &format!("dir:{}", copied.display()),
    ]))
    .ok();
    let inspected = run(Command::new("skopeo").args(["inspect", "--config", &source])).ok();
    let config: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let ours: serde_json::Value = serde_json::from_str(&d.inspect("busybox", "{{json .RootFS.Layers}}")).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"], ours);
    // And what the other tool writes, we read: both archive layouts.
    for (kind, name) in [("docker-archive", "d.tar"), ("oci-archive", "o.tar")] {
        let to = d.scratch.join(name);
        let target = format!("{kind}:{}:{}", to.display(), if kind == "oci-archive" { "latest" } else { "other:1" });
        run(Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &source, &target])).ok();
        let loaded = d.docker(&["load", "-i", to.to_str().unwrap()]).ok();
        assert!(loaded.starts_with("Loaded image"), "{loaded}");
    }
    d.docker(&["run", "--rm", "other:1", "true"]).ok();
}
