//! Images for several platforms that are kept whole.

use super::sample::{OCI_INDEX, OCI_MANIFEST, Sample, asked_for, noise, ranged, registry, tar_of};
use super::scripted::Scripted;
use crate::harness::{Daemon, image, probe, run};
use crate::need;
use coracle::image::digest::Digest;
use serde_json::{Value, json};
use std::process::Command;

pub struct Several {
    pub host: Sample,
    pub other: Sample,
    attestation: Sample,
    pub index: Vec<u8>,
}

pub const OTHER: &str = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };
pub const HOST: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Two platforms with a layer in common, and a statement about one of them.
pub fn several() -> Several {
    let common = image::busybox_layer().to_vec();
    let host = Sample::of(HOST, &[common.clone(), tar_of("which", b"host")]);
    let other = Sample::of(OTHER, &[common, tar_of("which", b"other"), tar_of("more", &noise(7, 100_000))]);
    let statement = json!({"_type": "https://in-toto.io/Statement/v0.1"}).to_string().into_bytes();
    let config = json!({"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": {"type": "layers", "diff_ids": [Digest::of(&statement).to_string()]}});
    let attestation = Sample::packed(config.to_string().into_bytes(), vec![statement], "application/vnd.in-toto+json");
    let entry = |s: &Sample, arch: &str, os: &str| json!({"mediaType": OCI_MANIFEST, "digest": s.digest().to_string(), "size": s.manifest.len(), "platform": {"architecture": arch, "os": os}});
    let mut stated = entry(&attestation, "unknown", "unknown");
    stated["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": host.digest().to_string()});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry(&other, OTHER, "linux"), entry(&host, HOST, "linux"), stated]});
    Several { host, other, attestation, index: index.to_string().into_bytes() }
}

impl Several {
    pub fn serve(&self) -> Scripted {
        let samples = vec![self.host.clone(), self.other.clone(), self.attestation.clone()];
        registry(vec![("v1".into(), self.index.clone(), OCI_INDEX)], samples, ranged)
    }
    pub fn other_platform(&self) -> String {
        platform(OTHER)
    }
    fn digest(&self) -> Digest {
        Digest::of(&self.index)
    }
}

/// Pulled whole, under the name that comes last.
pub fn pulled(d: &Daemon) -> (Several, Scripted, String) {
    let image = several();
    let server = image.serve();
    let name = server.repo();
    d.docker(&["pull", "-q", "--platform", "all", &name]).ok();
    (image, server, name)
}

fn platform(arch: &str) -> String {
    format!("linux/{arch}")
}

#[test]
fn one_platform_is_pulled_unless_all_are_asked_for() {
    need!(probe::busybox());
    let d = Daemon::start();
    let image = several();
    let server = image.serve();
    let name = server.repo();
    d.docker(&["pull", "-q", &name]).ok();
    assert_eq!(asked_for(&server, &image.other.layer(1)).len(), 0);
    let other = ["image", "inspect", "--platform", &platform(OTHER), &name];
    let words = d.docker(&other).fails(1);
    let want =
        format!("was found but its platform (linux/{HOST}) does not match the specified platform (linux/{OTHER})");
    assert!(words.contains(&want), "{words}");

    let out = d.docker(&["pull", "--platform", "all", &name]).ok();
    assert!(out.contains(&format!("Digest: {}", image.digest())), "{out}");
    assert_eq!(asked_for(&server, &image.host.layer(1)).len(), 1, "what was here is not fetched again");
    let found: Value = serde_json::from_str(&d.docker(&other).ok()).unwrap();
    assert_eq!(found[0]["Id"], image.other.id().to_string());
    assert_eq!(d.inspect(&name, "{{.Id}}"), image.host.id().to_string());
    let listed = d.json("GET", "/images/json?manifests=1", None);
    let manifests: Vec<(&str, bool)> = listed[0]["Manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["Kind"].as_str().unwrap(), m["Available"] == true))
        .collect();
    assert_eq!(manifests, [("image", true), ("image", true), ("attestation", true)]);
    d.docker(&["tag", &name, "short:1"]).ok();
    let trees: Vec<String> = d.clients().iter().map(|c| d.with(*c, &["images", "--tree"]).ok()).collect();
    let tree = &trees[0];
    assert!(tree.contains(&format!("├─ linux/{OTHER}")) && tree.contains(&format!("└─ linux/{HOST}")), "{tree}");
    assert!(trees.iter().all(|other| other == tree), "{trees:#?}");
    d.docker(&["rmi", "short:1"]).ok();
    // Pulling it again, or one of its platforms, changes nothing.
    for args in [vec!["pull", &name], vec!["pull", "--platform", &platform(OTHER), &name]] {
        let out = d.docker(&args).ok();
        assert!(out.contains("Status: Image is up to date"), "{out}");
    }
    assert_eq!(d.inspect(&name, "{{.Id}}"), image.host.id().to_string());
}

#[test]
fn a_whole_image_is_saved_loaded_run_and_removed() {
    need!(probe::busybox());
    let d = Daemon::start();
    let (image, _server, name) = pulled(&d);
    let whole = d.scratch.join("whole.tar");
    let words = d.docker(&["save", "--platform", "linux/s390x", "-o", whole.to_str().unwrap(), &name]).fails(1);
    assert!(words.contains("no suitable export target found for platform linux/s390x"), "{words}");
    d.docker(&["save", "-o", whole.to_str().unwrap(), &name]).ok();
    let one = d.scratch.join("one.tar");
    d.docker(&["save", "--platform", &platform(OTHER), "-o", one.to_str().unwrap(), &name]).ok();
    d.docker(&["rmi", &name]).ok();
    let blobs = || std::fs::read_dir(d.scratch.join("data/image/blobs/sha256")).unwrap().count();
    assert_eq!(blobs(), 0, "a whole image goes whole");

    d.docker(&["load", "-i", one.to_str().unwrap()]).contains("Loaded image: ").ok();
    assert_eq!(d.inspect(&name, "{{.Architecture}}"), OTHER);
    d.docker(&["rmi", &name]).ok();
    d.docker(&["load", "-i", whole.to_str().unwrap()]).contains("Loaded image: ").ok();
    assert_eq!(d.inspect(&name, "{{.Architecture}}"), HOST);
    d.docker(&["image", "inspect", "--platform", &platform(OTHER), &name]).ok();
    let again = d.scratch.join("again.tar");
    d.docker(&["save", "-o", again.to_str().unwrap(), &name]).ok();
    let index = |path: &std::path::Path| {
        let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let entry = entries.find(|e| e.path().unwrap().ends_with("index.json")).unwrap();
        serde_json::from_reader::<_, Value>(entry).unwrap()
    };
    assert_eq!(index(&again)["manifests"][0]["digest"], image.digest().to_string());
    assert_eq!(index(&whole), index(&again));
    // The other platform's files, unpacked when somebody wants them.
    d.docker(&["create", "--name", "other", "--platform", &platform(OTHER), &name, "true"]).ok();
    d.docker(&["cp", "other:/which", d.scratch.join("which").to_str().unwrap()]).ok();
    assert_eq!(std::fs::read(d.scratch.join("which")).unwrap(), b"other");
    d.docker(&["rm", "other"]).ok();
    d.docker(&["rmi", &image.other.id().to_string()]).ok();

    d.docker(&["rmi", "--platform", &platform(OTHER), &name]).prints(&format!("Deleted: {}", image.other.digest()));
    d.docker(&["image", "inspect", "--platform", &platform(OTHER), &name]).fails(1);
    d.docker(&["rmi", &name]).ok();
    assert_eq!(blobs(), 0);
}

/// What a save of several platforms is to skopeo: the index, and each image in it.
#[test]
fn another_tool_reads_every_platform_of_a_save() {
    need!(probe::busybox(), probe::program("skopeo", "skopeo"));
    let d = Daemon::start();
    let (image, _server, name) = pulled(&d);
    let skopeo = |args: &[&str]| run(Command::new("skopeo").arg("--insecure-policy").args(args)).ok();
    let whole = d.scratch.join("whole.tar");
    d.docker(&["save", "-o", whole.to_str().unwrap(), &name]).ok();
    let out = d.scratch.join("out");
    let (from, to) = (format!("oci-archive:{}", whole.display()), format!("dir:{}", out.display()));
    skopeo(&["copy", "-q", "--all", "--preserve-digests", &from, &to]);
    assert_eq!(std::fs::read(out.join("manifest.json")).unwrap(), image.index);
    for sample in [&image.host, &image.other, &image.attestation] {
        let manifest = std::fs::read(out.join(format!("{}.manifest.json", sample.digest().hex()))).unwrap();
        assert_eq!(Digest::of(&manifest), sample.digest());
        for blob in sample.layers.iter().chain([&sample.config]) {
            assert_eq!(std::fs::read(out.join(Digest::of(blob).hex())).unwrap(), *blob);
        }
    }
    for (sample, arch) in [(&image.host, HOST), (&image.other, OTHER)] {
        let one = d.scratch.join("one.tar");
        d.docker(&["save", "--platform", &platform(arch), "-o", one.to_str().unwrap(), &name]).ok();
        for kind in ["oci-archive", "docker-archive"] {
            let config = skopeo(&["inspect", "--config", "--raw", &format!("{kind}:{}", one.display())]);
            assert_eq!(Digest::of(config.trim_end().as_bytes()), sample.id(), "{kind} {arch}");
        }
    }
}
