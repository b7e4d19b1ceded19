//! Round trips: an archive goes in, the very same layers come out.

use super::load::{Options as LoadOptions, load};
use super::save::{Archive, Saved};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::image::store::{NewImage, Options, Store};
use crate::storage::Driver;
use crate::storage::overlay::Overlay;
use crate::storage::vfs::Vfs;
use crate::util::json;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("coracle-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn store(&self, vfs: bool) -> Store {
        let driver: Arc<dyn Driver> = if vfs {
            Arc::new(Vfs::open(&self.0.join("vfs")).unwrap())
        } else {
            Arc::new(Overlay::open(&self.0.join("overlay2")).unwrap())
        };
        let options = Options { keep_blobs: true, single_id: true, devices: false };
        let store = Store::open(&self.0.join("image"), driver, options).unwrap();
        store.clear_unfinished().and_then(|()| store.clean_up(&HashSet::new)).unwrap();
        store
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn load_bytes(store: &Store, bytes: &[u8]) -> crate::error::Result<Vec<super::load::Loaded>> {
    let cancel = AtomicBool::new(false);
    let options = LoadOptions { platform: None, cancel: &cancel, progress: &mut |_| {} };
    load(store, &mut { bytes }, options)
}

fn save_bytes(store: &Store, name: &str) -> Vec<u8> {
    let image = store.resolve(name).unwrap();
    let names = vec![Reference::parse(name).unwrap().or_latest()];
    let mut out = Vec::new();
    Archive::new(store, vec![Saved { image, names }]).unwrap().write(&mut out).unwrap();
    out
}

#[test]
fn names_come_together_and_tell_whom_they_left() {
    let scratch = Scratch::new("names");
    let store = scratch.store(true);
    let image = |config: &str| {
        let new = NewImage { config: config.as_bytes().to_vec(), ..NewImage::default() };
        store.put(new).unwrap().digest()
    };
    let (one, two) = (image(r#"{"author":"one"}"#), image(r#"{"author":"two"}"#));
    let names: Vec<Reference> = (0..3).map(|n| Reference::parse(&format!("x/y:{n}")).unwrap()).collect();
    assert_eq!(store.tag_all(&one, &names).unwrap(), [None; 3]);
    assert_eq!(store.tag(&two, &names[1]).unwrap(), Some(one));
    assert_eq!(store.tag_all(&one, &names).unwrap(), [None, Some(two), None]);
    assert_eq!(store.get(&one).unwrap().repo_tags, ["x/y:0", "x/y:1", "x/y:2"]);
    assert!(store.get(&two).unwrap().repo_tags.is_empty());
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

/// A layer with everything that is hard: long names, a file written twice, a
/// directory replaced by a file, links, whiteouts, an opaque directory, PAX.
fn hard_layer() -> Vec<u8> {
    let mut b = tar::Builder::new(Vec::new());
    let mut file = |name: &str, data: &[u8], mode: u32| {
        let mut h = tar::Header::new_gnu();
        h.set_size(data.len() as u64);
        h.set_mode(mode);
        h.set_mtime(1_000_000_000);
        b.append_data(&mut h, name, data).unwrap();
    };
    file("a/b/c", b"first", 0o644);
    file("a/b/c", b"second", 0o4755);
    file("d/inside", b"in the directory", 0o600);
    file("d2", &[9; 3000], 0o600);
    file(&format!("{}/leaf", "long".repeat(40)), &[1; 513], 0o644);
    file(".wh.gone", b"", 0o600);
    file("e/.wh..wh..opq", b"", 0o600);
    file("e/kept", b"x", 0o644);
    file("zero", b"", 0o644);
    let mut special = |name: &str, kind: tar::EntryType, target: &str| {
        let mut h = tar::Header::new_gnu();
        h.set_entry_type(kind);
        h.set_size(0);
        h.set_mode(0o777);
        b.append_link(&mut h, name, target).unwrap();
    };
    special("hard", tar::EntryType::Link, "a/b/c");
    special("soft", tar::EntryType::Symlink, "/a/b/c");
    special("d", tar::EntryType::Symlink, "a");
    b.into_inner().unwrap()
}

fn archive(layers: &[Vec<u8>], name: &str, packed: bool) -> Vec<u8> {
    let diff_ids: Vec<Digest> = layers.iter().map(|l| Digest::of(l)).collect();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["x"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = json::to_vec(&config).unwrap();
    let mut files = Vec::new();
    let mut paths = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        let path = format!("{i}/layer.tar");
        files.push((path.clone(), if packed { gzip(layer) } else { layer.clone() }));
        paths.push(path);
    }
    files.push(("config.json".into(), config));
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": paths}]);
    files.push(("manifest.json".into(), json::to_vec(&manifest).unwrap()));
    tar_of(&files)
}

fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut b = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut h = tar::Header::new_gnu();
        h.set_size(data.len() as u64);
        h.set_mode(0o644);
        b.append_data(&mut h, name, data.as_slice()).unwrap();
    }
    b.into_inner().unwrap()
}

/// Indices in indices, with nothing or too much at the end of the row.
#[test]
fn archives_without_an_image_say_so() {
    let scratch = Scratch::new("nested");
    let store = scratch.store(false);
    for (depth, words) in [(0, "holds no image"), (5, "more than 4 indices deep")] {
        let mut files = Vec::new();
        let mut inner = serde_json::json!({"schemaVersion": 2, "manifests": []});
        for _ in 0..depth {
            let data = json::to_vec(&inner).unwrap();
            let entry = serde_json::json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": Digest::of(&data),
                "size": data.len(), "platform": {"architecture": "amd64", "os": "linux"}});
            files.push((format!("blobs/sha256/{}", Digest::of(&data).hex()), data));
            inner = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
        }
        files.push(("index.json".into(), json::to_vec(&inner).unwrap()));
        let error = load_bytes(&store, &tar_of(&files)).err().unwrap();
        assert!(error.message().contains(words), "{error}");
    }
}

fn base_layer() -> Vec<u8> {
    let mut b = tar::Builder::new(Vec::new());
    for (name, data) in [("gone", "lower"), ("e/hidden", "lower"), ("stays", "lower")] {
        let mut h = tar::Header::new_gnu();
        h.set_size(data.len() as u64);
        h.set_mode(0o644);
        b.append_data(&mut h, name, data.as_bytes()).unwrap();
    }
    b.into_inner().unwrap()
}

fn layers_of(saved: &[u8]) -> Vec<Digest> {
    let mut found = Vec::new();
    for entry in tar::Archive::new(saved).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        if let Some(hex) = name.strip_prefix("blobs/sha256/").filter(|h| !h.is_empty()) {
            assert_eq!(Digest::of(&data).hex(), hex);
            if data.first() != Some(&b'{') {
                found.push(Digest::of(&data));
            }
        }
    }
    found
}

fn round_trip(vfs: bool, packed: bool) {
    let scratch = Scratch::new(&format!("roundtrip-{vfs}-{packed}"));
    let layers = [base_layer(), hard_layer()];
    let bytes = archive(&layers, "t/x:1", packed);
    let id = {
        let store = scratch.store(vfs);
        let loaded = load_bytes(&store, &bytes).unwrap();
        assert_eq!(loaded[0].image.repo_tags, Vec::<String>::new());
        assert_eq!(store.resolve("t/x:1").unwrap().repo_tags, ["t/x:1"]);
        let top = &store.resolve("t/x:1").unwrap().chain_ids[1];
        let blob = store.layer(&Digest::from_hex(top).unwrap()).unwrap().layer.blob.clone();
        assert_eq!(blob.is_some(), packed && !vfs);
        loaded[0].image.id.clone()
    };
    // A new daemon finds it again.
    let store = scratch.store(vfs);
    assert_eq!(store.resolve("t/x:1").unwrap().id, id);
    assert_eq!(store.resolve(&id[7..19]).unwrap().id, id);
    let saved = save_bytes(&store, "t/x:1");
    let want: Vec<Digest> = layers.iter().map(|l| Digest::of(l)).collect();
    assert_eq!(layers_of(&saved), want);
    // Loading what was saved changes nothing.
    let again = load_bytes(&store, &saved).unwrap();
    assert_eq!(again[0].image.id, id);
    // Removal leaves nothing behind.
    let digest = again[0].image.digest();
    assert!(store.remove(&digest, &HashSet::new).is_err());
    store.untag(&Reference::parse("t/x:1").unwrap()).unwrap();
    drop(again);
    assert_eq!(store.remove(&digest, &HashSet::new).unwrap().len(), 2);
    assert!(store.driver.list().unwrap().1.is_empty());
    assert_eq!(std::fs::read_dir(scratch.0.join("image/blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn layers_come_back_byte_for_byte() {
    round_trip(false, false);
    round_trip(false, true);
}

#[test]
fn layers_come_back_from_copies_too() {
    round_trip(true, false);
    round_trip(true, true);
}

/// Every prefix of an archive is refused, and leaves nothing.
#[test]
fn cut_archives_leave_nothing() {
    let scratch = Scratch::new("cut");
    let store = scratch.store(false);
    let bytes = archive(&[base_layer(), hard_layer()], "t:1", true);
    for cut in (0..bytes.len() - 1024).step_by(1700) {
        assert!(load_bytes(&store, &bytes[..cut]).is_err(), "{cut}");
        store.collect(&HashSet::new).unwrap();
    }
    assert!(store.list().is_empty());
    assert!(store.driver.list().unwrap().1.is_empty());
    assert_eq!(std::fs::read_dir(scratch.0.join("overlay2/staging")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(scratch.0.join("image/tmp")).unwrap().count(), 0);
}

#[test]
fn changed_files_are_named() {
    let scratch = Scratch::new("changed");
    let store = scratch.store(false);
    load_bytes(&store, &archive(&[base_layer()], "t:1", false)).unwrap();
    let image = store.resolve("t:1").unwrap();
    let path = Path::new(&scratch.0).join("overlay2/layers").join(&image.chain_ids[0]).join("diff/stays");
    let save = || {
        let names = vec![Reference::parse("t:1").unwrap()];
        let archive = Archive::new(&store, vec![Saved { image: image.clone(), names }]).unwrap();
        archive.write(&mut std::io::sink()).unwrap_err().message().to_owned()
    };
    std::fs::write(&path, "LOWER").unwrap();
    assert!(save().contains("\"stays\" is not as it was in the layer: its content differs"), "{}", save());
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(save().contains("\"stays\" is not as it was in the layer: it is another kind of file"), "{}", save());
}
