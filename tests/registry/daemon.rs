//! The daemon pulls from registries that misbehave, through the command line.

use super::sample::{Sample, noise, serve, tar_of};
use super::scripted::{End, Reply};
use crate::harness::Daemon;
use coracle::image::digest::Digest;
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
    let name = format!("{}/repo:v1", server.address);
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
    let out = daemon.docker(&["pull", &format!("{}/repo:v1", server.address)]);
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains(&image.layer(0).to_string()), "{}", out.stderr);

    let other = Sample::claiming("amd64", &one_layer(), &[Digest::of(b"another tar").to_string()]);
    let server = serve(&other, |_, layer| Reply::new(200, layer));
    let name = format!("{}/repo:v1", server.address);
    let out = daemon.docker(&["pull", &name]);
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains("invalid diffID"), "{}", out.stderr);
    // Nothing of either may count as there.
    let again = daemon.docker(&["pull", &name]);
    assert!(again.stdout.contains("Pulling fs layer"), "{}", again.stdout);
}
