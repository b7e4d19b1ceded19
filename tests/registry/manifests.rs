//! `docker manifest` and `/distribution`, against the real registry and beside the
//! original's client.

use super::platforms::{HOST, OTHER, pulled, several};
use crate::harness::registry::Registry;
use crate::harness::{Daemon, probe};
use crate::need;
use coracle::image::digest::Digest;
use serde_json::Value;

#[test]
fn lists_made_by_hand_are_the_originals() {
    need!(Registry::needs(), probe::busybox());
    let d = Daemon::start();
    let registry = Registry::plain(&d.scratch);
    let (image, _server, from) = pulled(&d);
    let at = |name: &str| format!("{}/{name}", registry.address);
    let (host, other) = (at("one:host"), at("one:other"));
    for (name, arch) in [(&host, HOST), (&other, OTHER)] {
        d.docker(&["tag", &from, name]).ok();
        d.docker(&["push", "-q", "--platform", &format!("linux/{arch}"), name]).ok();
    }
    let mut pushed = Vec::new();
    for (n, c) in d.clients().into_iter().enumerate() {
        let list = at(&format!("list-{n}:v1"));
        let create = ["manifest", "create", "--insecure", &list, &host, &other];
        d.with(c, &create).prints(&format!("Created manifest list {list}"));
        let words = d.with(c, &create).fails(1);
        assert!(words.contains("refusing to amend an existing manifest list with no --amend flag"), "{words}");
        d.with(c, &["manifest", "create", "--insecure", "--amend", &list, &host]).ok();
        d.with(c, &["manifest", "annotate", "--variant", "v8", "--os-version", "7", &list, &other]).ok();
        let words = d.with(c, &["manifest", "annotate", "--os", "none", &list, &other]).fails(1);
        assert!(words.contains("unsupported os/arch combination: none/"), "{words}");
        let words = d.with(c, &["manifest", "annotate", &list, &at("one:nothing")]).fails(1);
        assert!(
            words.contains(&format!("manifest for image {} does not exist in {list}", at("one:nothing"))),
            "{words}"
        );
        // One client reads what another has written down.
        let shown: Vec<String> = d.clients().iter().map(|c| d.with(*c, &["manifest", "inspect", &list]).ok()).collect();
        assert!(shown.windows(2).all(|two| two[0] == two[1]), "{shown:?}");
        let out = d.with(c, &["manifest", "push", "--insecure", "--purge", &list]).ok();
        let digest: Digest = out.lines().last().unwrap().parse().unwrap();
        pushed.push(registry.blob(&digest.hex()).unwrap());
        d.docker(&["pull", "-q", &list]).ok();
        assert_eq!(d.inspect(&list, "{{.Id}}"), image.host.id().to_string());
        let words = d.with(c, &["manifest", "rm", &list]).fails(1);
        assert!(words.contains(&format!("No such manifest: {list}")), "{words}");
        d.with(c, &["manifest", "create", "--insecure", &list, &host]).ok();
        d.with(c, &["manifest", "rm", &list]).prints("");
    }
    let list: Value = serde_json::from_slice(&pushed[0]).unwrap();
    assert_eq!(list["manifests"][1]["digest"], image.other.digest().to_string());
    assert_eq!(list["manifests"][1]["platform"]["variant"], "v8");
    for other in &pushed[1..] {
        assert_eq!(String::from_utf8_lossy(&pushed[0]), String::from_utf8_lossy(other));
    }
}

#[test]
fn a_registry_is_asked_what_a_name_stands_for() {
    need!(Registry::needs(), probe::busybox());
    let d = Daemon::with_busybox();
    let registry = Registry::plain(&d.scratch);
    let box_name = format!("{}/team/box:v1", registry.address);
    d.docker(&["tag", "busybox", &box_name]).ok();
    d.docker(&["push", "-q", &box_name]).ok();
    let image = several();
    let server = image.serve();
    let many = server.repo();
    let ask = |name: &str| d.json("GET", &format!("/distribution/{name}/json"), None);
    let one = ask(&box_name);
    let digest: Digest = one["Descriptor"]["digest"].as_str().unwrap().parse().unwrap();
    let bytes = registry.blob(&digest.hex()).unwrap();
    assert_eq!((Digest::of(&bytes), one["Descriptor"]["size"].as_u64()), (digest, Some(bytes.len() as u64)));
    assert_eq!(one["Platforms"].as_array().map(Vec::len), Some(1));
    assert_eq!(one["Platforms"][0]["os"], "linux");
    assert_eq!(ask(&format!("{}/team/box@{digest}", registry.address)), one);
    let several = ask(&many);
    assert_eq!(several["Descriptor"]["digest"], Digest::of(&image.index).to_string());
    let platforms: Vec<&str> =
        several["Platforms"].as_array().unwrap().iter().map(|p| p["architecture"].as_str().unwrap()).collect();
    assert_eq!(platforms, [OTHER, HOST, "unknown"]);
    let (status, words) = d.api("GET", &format!("/distribution/{}/team/none:v1/json", registry.address), None);
    assert!(status == 404 && words.contains("manifest unknown"), "{status} {words}");
}
