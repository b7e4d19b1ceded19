//! The daemon pulls from registries that misbehave, through the command line.

use super::sample::{OCI_LAYER, OCI_MANIFEST, Sample, gzip, noise, ranged, registry, serve, tar_of};
use super::scripted::{End, Reply, Scripted};
use crate::harness::daemon::{comes_clean, signal};
use crate::harness::{Client, Daemon, eventually};
use coracle::image::digest::Digest;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

fn one_layer() -> Vec<Vec<u8>> {
    vec![tar_of("file", &noise(0, 256_000))]
}

fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

#[test]
fn a_pull_survives_cut_links_and_tells_it_as_docker_does() {
    let daemon = Daemon::start();
    let sample = Sample::of("amd64", &one_layer());
    let count = AtomicUsize::new(0);
    let server = serve(&sample, move |ask, layer| {
        let from = ask.range().unwrap_or(0);
        let reply = Reply::new(if from > 0 { 206 } else { 200 }, &layer[from..])
            .with("Content-Range", format!("bytes {from}-{}/{}", layer.len() - 1, layer.len()));
        if count.fetch_add(1, Ordering::SeqCst) == 0 { reply.end(End::Cut(70_000)) } else { reply }
    });
    let name = server.repo();
    let out = daemon.docker(&["pull", &name]);
    let (id, digest) = (short(&sample.layer(0)), sample.digest());
    assert_eq!(
        out.ok(),
        format!(
            "v1: Pulling from repo\n{id}: Pulling fs layer\n{id}: Retrying in 1 second\n{id}: Verifying Checksum\n{id}: Download complete\n{id}: Pull complete\nDigest: {digest}\nStatus: Downloaded newer image for {name}\n{name}\n"
        )
    );
    let again = daemon.docker(&["pull", &name]);
    assert_eq!(
        again.ok(),
        format!("v1: Pulling from repo\nDigest: {digest}\nStatus: Image is up to date for {name}\n{name}\n")
    );
    let asked = server.asked();
    let layers = asked.iter().filter(|a| a.target.contains(&sample.layer(0).hex())).count();
    assert_eq!(layers, 2, "one request, one for the rest");
    let gets = asked.iter().filter(|a| a.method == "GET" && a.target.contains("/manifests/")).count();
    assert_eq!(gets, 1, "a manifest that is here is not fetched again");
}

#[test]
fn a_false_layer_is_named_and_leaves_no_image() {
    let daemon = Daemon::start();
    let image = Sample::of("amd64", &one_layer());
    let server = serve(&image, |_, layer| {
        let mut wrong = layer.to_vec();
        let middle = wrong.len() / 2;
        wrong[middle] ^= 0x10;
        Reply::new(200, wrong)
    });
    let out = daemon.docker(&["pull", &server.repo()]);
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains(&image.layer(0).to_string()), "{}", out.stderr);

    let other = Sample::claiming("amd64", &one_layer(), &[Digest::of(b"another tar").to_string()]);
    let server = serve(&other, |_, layer| Reply::new(200, layer));
    let name = server.repo();
    let out = daemon.docker(&["pull", &name]);
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains("invalid diffID"), "{}", out.stderr);
    // Nothing of either may count as there.
    let again = daemon.docker(&["pull", &name]);
    assert!(again.stdout.contains("Pulling fs layer"), "{}", again.stdout);
}

/// The image with its manifest changed by `edit`, as `v1`.
fn serve_edited(sample: &Sample, edit: impl Fn(&mut Value)) -> Scripted {
    let mut manifest: Value = serde_json::from_slice(&sample.manifest).unwrap();
    edit(&mut manifest);
    let manifest = manifest.to_string().into_bytes();
    registry(vec![("v1".into(), manifest, OCI_MANIFEST)], vec![sample.clone()], ranged)
}

#[test]
fn what_a_manifest_says_falsely_is_named() {
    let d = Daemon::start();
    let sample = Sample::of("amd64", &one_layer());
    let (layer, size) = (sample.layer(0), sample.layers[0].len());
    // A trailer that does not fit what it follows, under a digest that is right.
    let mut torn = gzip(&one_layer()[0]);
    let at = torn.len() - 7;
    torn[at] ^= 1;
    let torn = Sample::packed(sample.config.clone(), vec![torn], OCI_LAYER);
    let plain = Sample::packed(sample.config.clone(), vec![b"neither a tar nor anything packed".repeat(40)], OCI_LAYER);
    let cases: Vec<(Scripted, String)> = vec![
        (
            serve_edited(&sample, |m| m["layers"][0]["size"] = json!(size + 1)),
            format!("blob {layer} has {size} bytes, its manifest says {}", size + 1),
        ),
        (serve_edited(&sample, |m| m["layers"][0]["size"] = json!(size - 1)), format!("{layer}")),
        (serve_edited(&sample, |m| m["config"]["size"] = json!(7)), format!("{}", sample.id())),
        (
            serve_edited(&sample, |m| m["config"]["mediaType"] = json!("application/vnd.something+json")),
            "Encountered remote \"application/vnd.something+json\"(unknown) when fetching".into(),
        ),
        (
            serve_edited(&sample, |m| m["layers"] = json!([])),
            "layers from manifest don't match image configuration".into(),
        ),
        (serve_edited(&sample, |m| m["schemaVersion"] = json!("two")), "is not readable".into()),
        (serve(&torn, ranged), format!("failed to register layer {}: ", torn.layer(0))),
        (serve(&plain, ranged), format!("{}", plain.layer(0))),
    ];
    for (server, words) in cases {
        let out = d.docker(&["pull", &server.repo()]);
        let said = out.fails(1);
        assert!(said.contains(&words), "expected {words:?} in {said}");
        assert_eq!(d.docker(&["images", "-aq"]).ok(), "");
    }
    comes_clean(&d);
}

#[test]
fn the_first_schema_is_refused_with_advice() {
    let d = Daemon::start();
    let old = json!({"schemaVersion": 1, "name": "repo", "tag": "v1", "fsLayers": [], "history": []});
    let kind = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let server = registry(vec![("v1".into(), old.to_string().into_bytes(), kind)], vec![], ranged);
    let name = server.repo();
    for client in d.clients() {
        let words = d.with(client, &["pull", &name]).fails(1);
        let want = format!(
            "schema 1 support is disabled by default and will be removed in an upcoming release. Suggest the author of {name} to upgrade the image"
        );
        assert!(words.contains(&want), "{words}");
    }
}

/// Layers that a registry may not hand out are described by addresses elsewhere.
#[test]
fn foreign_layers_come_from_the_registry_that_has_them() {
    let d = Daemon::start();
    let sample = Sample::of("amd64", &one_layer());
    let server = serve_edited(&sample, |m| {
        m["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
        m["layers"][0]["urls"] = json!(["http://127.0.0.1:1/elsewhere"]);
    });
    let name = server.repo();
    d.docker(&["pull", &name]).contains("Status: Downloaded newer image").ok();
    assert_eq!(d.inspect(&name, "{{.Id}}"), sample.id().to_string());
}

#[test]
fn so_many_at_once_and_so_many_tries() {
    let d = Daemon::start_with(
        &["--max-concurrent-downloads=2", "--max-concurrent-uploads=2", "--max-download-attempts=2"],
        &[],
    );
    let layers: Vec<Vec<u8>> = (0..6).map(|n| tar_of(&format!("f{n}"), &noise(n, 20_000))).collect();
    let sample = Sample::of("amd64", &layers);
    let silent = serve(&sample, |_, layer| Reply::new(200, layer).end(End::Silent(100)));
    let name = format!("{}/repo:v1", silent.address);
    let mut pull = d.cli(Client::Ours);
    let mut pull = pull.args(["pull", &name]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(pull.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(lines.filter(|l| l.ends_with(": Waiting")).take(4).count(), 4);
    let begun = || {
        silent.asked().iter().filter(|a| a.target.contains("/blobs/") && !a.target.contains(&sample.id().hex())).count()
    };
    eventually("two layers on their way", || begun() == 2);
    signal(pull.id(), "TERM");
    pull.wait().unwrap();
    assert_eq!(begun(), 2);

    // Other layers: a transfer is shared with whoever wants the same one, wherever it comes from.
    let layers: Vec<Vec<u8>> = (0..6).map(|n| tar_of(&format!("f{n}"), &noise(n + 6, 20_000))).collect();
    let sample = Sample::of("amd64", &layers);
    let cut = serve(&sample, |_, layer| Reply::new(200, layer).end(End::Cut(0)));
    let name = format!("{}/repo:v1", cut.address);
    d.docker(&["pull", "-q", &name]).fails(1);
    for layer in 0..6 {
        let tries = super::sample::asked_for(&cut, &sample.layer(layer)).len();
        assert!(tries <= 2, "{tries} tries of a layer");
    }

    let whole = serve(&sample, ranged);
    let name = format!("{}/repo:v1", whole.address);
    d.docker(&["pull", "-q", &name]).ok();
    let sink = Scripted::start(|ask| match ask.method.as_str() {
        "POST" => Reply::new(202, "later").end(End::Silent(0)),
        _ => Reply::new(404, ""),
    });
    let target = format!("{}/repo:v1", sink.address);
    d.docker(&["tag", &name, &target]).ok();
    let mut push = d.cli(Client::Ours);
    let mut push = push.args(["push", &target]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(push.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(lines.filter(|l| l.ends_with(": Waiting")).take(4).count(), 4);
    signal(push.id(), "TERM");
    push.wait().unwrap();
}

#[test]
fn disk_usage_counts_what_is_kept_packed() {
    let d = Daemon::start();
    let sample = Sample::of("amd64", &[tar_of("a", &noise(1, 60_000)), tar_of("b", &noise(2, 50_000))]);
    let server = serve(&sample, ranged);
    let name = server.repo();
    d.docker(&["pull", "-q", &name]).ok();
    let files: usize = sample.layers.iter().map(Vec::len).sum::<usize>() + 110_000;
    let usage = d.json("GET", "/system/df", None);
    assert_eq!((&usage["LayersSize"], &usage["Images"][0]["Size"]), (&files.into(), &files.into()));
    assert_eq!(d.json("GET", "/images/json", None)[0]["Size"], 110_000, "as the original counts");
    // A second image with one of its layers.
    let other = Sample::of("amd64", &[tar_of("a", &noise(1, 60_000)), tar_of("c", b"c")]);
    let second = serve(&other, ranged);
    d.docker(&["pull", "-q", &format!("{}/repo:v1", second.address)]).ok();
    let usage = d.json("GET", "/system/df", None);
    let shared = 60_000 + sample.layers[0].len();
    assert_eq!(
        (&usage["Images"][0]["SharedSize"], &usage["Images"][1]["SharedSize"]),
        (&shared.into(), &shared.into())
    );
    let files = files + 1 + other.layers[1].len();
    assert_eq!(usage["LayersSize"], files);
    assert_eq!(d.json("POST", "/images/prune?filters={%22dangling%22:[%22false%22]}", None)["SpaceReclaimed"], files);
    assert_eq!(d.json("GET", "/system/df", None)["LayersSize"], 0);
}
