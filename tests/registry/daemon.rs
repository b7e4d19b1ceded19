//! The daemon pulls from registries that misbehave, through the command line.

use super::scripted::{Ask, End, Reply, Scripted};
use crate::harness::Daemon;
use coracle::image::digest::Digest;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An image with one layer of one file, and the documents around it.
#[derive(Clone)]
struct Sample {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

fn sample(diff_id: Option<Digest>) -> Sample {
    // Hashes do not compress, so that the layer stays large enough to cut.
    let content: Vec<u8> = (0..4000u32).flat_map(|n| Digest::of(&n.to_le_bytes()).hex().into_bytes()).collect();
    let mut tar = tar::Builder::new(Vec::new());
    let mut head = tar::Header::new_gnu();
    head.set_size(content.len() as u64);
    head.set_mode(0o644);
    tar.append_data(&mut head, "file", &content[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    let diff_id = diff_id.unwrap_or_else(|| Digest::of(&tar));
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(&tar).unwrap();
    let layer = gz.finish().unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    )
    .into_bytes();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":{}}}]}}"#,
        Digest::of(&config),
        config.len(),
        Digest::of(&layer),
        layer.len()
    )
    .into_bytes();
    Sample { layer, config, manifest }
}

/// Serves the sample; `layer` answers for the layer's blob.
fn registry(sample: &Sample, layer: impl Fn(&Ask, &[u8]) -> Reply + Send + Sync + 'static) -> Scripted {
    let s = sample.clone();
    Scripted::start(move |ask| {
        if ask.target.starts_with("/v2/repo/manifests/") {
            return Reply::new(200, s.manifest.clone())
                .with("Content-Type", "application/vnd.oci.image.manifest.v1+json")
                .with("Docker-Content-Digest", Digest::of(&s.manifest).to_string());
        }
        match ask.target.strip_prefix("/v2/repo/blobs/") {
            Some(d) if d == Digest::of(&s.config).to_string() => Reply::new(200, s.config.clone()),
            Some(d) if d == Digest::of(&s.layer).to_string() => layer(ask, &s.layer),
            _ => Reply::new(404, ""),
        }
    })
}

fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

#[test]
fn a_pull_survives_cut_links_and_tells_it_as_docker_does() {
    let daemon = Daemon::start();
    let sample = sample(None);
    let count = AtomicUsize::new(0);
    let server = registry(&sample, move |ask, layer| {
        let from = ask.range().unwrap_or(0);
        let reply = Reply::new(if from > 0 { 206 } else { 200 }, &layer[from..])
            .with("Content-Range", format!("bytes {from}-{}/{}", layer.len() - 1, layer.len()));
        if count.fetch_add(1, Ordering::SeqCst) == 0 { reply.end(End::Cut(70_000)) } else { reply }
    });
    let name = format!("{}/repo:v1", server.address);
    let out = daemon.docker(&["pull", &name]);
    let (id, digest) = (short(&Digest::of(&sample.layer)), Digest::of(&sample.manifest));
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
    let layers = asked.iter().filter(|a| a.target.contains(&Digest::of(&sample.layer).hex())).count();
    assert_eq!(layers, 2, "one request, one for the rest");
    let gets = asked.iter().filter(|a| a.method == "GET" && a.target.contains("/manifests/")).count();
    assert_eq!(gets, 1, "a manifest that is here is not fetched again");
}

#[test]
fn a_false_layer_is_named_and_leaves_no_image() {
    let daemon = Daemon::start();
    let image = sample(None);
    let server = registry(&image, |_, layer| {
        let mut wrong = layer.to_vec();
        let middle = wrong.len() / 2;
        wrong[middle] ^= 0x10;
        Reply::new(200, wrong)
    });
    let out = daemon.docker(&["pull", &format!("{}/repo:v1", server.address)]);
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains(&Digest::of(&image.layer).to_string()), "{}", out.stderr);

    let other = sample(Some(Digest::of(b"another tar")));
    let server = registry(&other, |_, layer| Reply::new(200, layer));
    let name = format!("{}/repo:v1", server.address);
    let out = daemon.docker(&["pull", &name]);
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains("invalid diffID"), "{}", out.stderr);
    // Nothing of either may count as there.
    let again = daemon.docker(&["pull", &name]);
    assert!(again.stdout.contains("Pulling fs layer"), "{}", again.stdout);
}
