//! What every driver must do, as one function that is run over each of them.
//! Drivers that this machine cannot run say why and are skipped.

use super::apply::{Limits, Options, apply};
use super::diff::{self, Change, Packer, Trees};
use super::fuse::FuseOverlay;
use super::overlay::Overlay;
use super::owners::{self, Exchange, Owners};
use super::vfs::Vfs;
use super::{Driver, RwOptions, probe};
use crate::error::Result;
use crate::sys::fs as sysfs;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("coracle-driver-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tar_of(entries: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut b = tar::Builder::new(Vec::new());
    for (name, data, mode) in entries {
        let mut h = tar::Header::new_gnu();
        let dir = name.ends_with('/');
        h.set_entry_type(if dir { tar::EntryType::Directory } else { tar::EntryType::Regular });
        h.set_size(data.len() as u64);
        h.set_mode(*mode);
        h.set_mtime(1_000_000_000);
        b.append_data(&mut h, name, *data).unwrap();
    }
    b.into_inner().unwrap()
}

fn options() -> Options<'static> {
    let ids = probe::ids();
    Options { limits: Limits::default(), cancelled: &|| false, single_id: ids.single, devices: ids.initial }
}

fn layer(driver: &dyn Driver, name: &str, parent: Option<&str>, tar: &[u8]) {
    let staging = driver.stage(parent).unwrap();
    apply(&mut &tar[..], &*staging, None::<Vec<u8>>, options()).unwrap();
    staging.commit(name).unwrap();
}

fn read(root: BorrowedFd<'_>, path: &str) -> Result<String, Errno> {
    let path = std::ffi::CString::new(path).unwrap();
    let mut file = File::from(sysfs::open_in(root, &path, OFlag::O_RDONLY, Mode::empty())?);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    Ok(text)
}

fn write(root: BorrowedFd<'_>, path: &str, data: &str) -> Result<(), Errno> {
    let path = std::ffi::CString::new(path).unwrap();
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
    let mut file = File::from(sysfs::open_in(root, &path, flags, Mode::from_bits_truncate(0o644))?);
    file.write_all(data.as_bytes()).unwrap();
    Ok(())
}

fn unlink(root: BorrowedFd<'_>, path: &str) {
    nix::unistd::unlinkat(root, path, nix::unistd::UnlinkatFlags::NoRemoveDir).unwrap();
}

fn conformance(driver: &dyn Driver) {
    let base = tar_of(&[
        ("etc/", b"", 0o755),
        ("etc/name", b"lower", 0o644),
        ("etc/gone", b"lower", 0o644),
        ("opaque/below", b"lower", 0o644),
        ("keep/a", b"a", 0o644),
        ("keep/b", b"b", 0o4755),
    ]);
    let upper = tar_of(&[
        ("etc/.wh.gone", b"", 0o600),
        ("opaque/.wh..wh..opq", b"", 0o600),
        ("opaque/above", b"upper", 0o644),
        ("keep/a", b"changed", 0o600),
    ]);
    layer(driver, "one", None, &base);
    assert!(driver.has_layer("one") && !driver.has_layer("two"));
    layer(driver, "two", Some("one"), &upper);
    // A second commit of the same layer is fine, a dropped staging leaves nothing.
    layer(driver, "two", Some("one"), &upper);
    drop(driver.stage(Some("one")).unwrap());
    let layers = vec!["one".to_owned(), "two".to_owned()];

    let ro = driver.mount_ro(&layers).unwrap();
    assert_eq!(read(ro.as_fd(), "/etc/name").unwrap(), "lower");
    assert_eq!(read(ro.as_fd(), "/etc/gone").unwrap_err(), Errno::ENOENT);
    assert_eq!(read(ro.as_fd(), "/opaque/below").unwrap_err(), Errno::ENOENT);
    assert_eq!(read(ro.as_fd(), "/opaque/above").unwrap(), "upper");
    assert_eq!(read(ro.as_fd(), "/keep/a").unwrap(), "changed");
    assert_eq!(write(ro.as_fd(), "/new", "x").unwrap_err(), Errno::EROFS);
    let one = driver.mount_ro(&layers[..1]).unwrap();
    assert_eq!(read(one.as_fd(), "/etc/gone").unwrap(), "lower");

    for (id, volatile) in [("rw1", false), ("rw2", true)] {
        let options = RwOptions { volatile };
        driver.create_rw(id, &layers).unwrap();
        let rw = driver.mount_rw(id, &layers, options).unwrap();
        write(rw.as_fd(), "/etc/name", "mine").unwrap();
        write(rw.as_fd(), "/added", "new").unwrap();
        unlink(rw.as_fd(), "keep/a");
        drop(rw);
        // What was written is there at the next mount.
        let rw = driver.mount_rw(id, &layers, options).unwrap();
        assert_eq!(read(rw.as_fd(), "/etc/name").unwrap(), "mine");
        assert_eq!(read(rw.as_fd(), "/keep/a").unwrap_err(), Errno::ENOENT);
    }
    // Nobody else saw it.
    assert_eq!(read(ro.as_fd(), "/etc/name").unwrap(), "lower");

    let upper = driver.upper_root("rw1").unwrap();
    let merged = driver.mount_rw("rw1", &layers, RwOptions::default()).unwrap();
    let upper = upper.as_ref().map(AsFd::as_fd);
    let trees =
        Trees { upper, lower: Some(ro.as_fd()), merged: merged.as_fd(), ignore: &|_| false, epoch: None, owners: None };
    let changes: Vec<(String, Change)> = diff::changes(&trees)
        .unwrap()
        .into_iter()
        .map(|(path, change)| (String::from_utf8(path).unwrap(), change))
        .collect();
    let wanted = [
        ("added", Change::Added),
        ("etc", Change::Modified),
        ("etc/name", Change::Modified),
        ("keep", Change::Modified),
        ("keep/a", Change::Deleted),
    ];
    assert_eq!(changes, wanted.map(|(p, c)| (p.to_owned(), c)));

    // A commit over the image gives what the container saw.
    let mut tar = Vec::new();
    diff::layer(&trees, &mut tar).unwrap();
    layer(driver, "three", Some("two"), &tar);
    let all: Vec<String> = ["one", "two", "three"].map(str::to_owned).to_vec();
    let committed = driver.mount_ro(&all).unwrap();
    assert_eq!(read(committed.as_fd(), "/etc/name").unwrap(), "mine");
    assert_eq!(read(committed.as_fd(), "/keep/a").unwrap_err(), Errno::ENOENT);
    assert_eq!(read(committed.as_fd(), "/keep/b").unwrap(), "b");

    let mut exported = Vec::new();
    let mut packer = Packer::new(&mut exported);
    packer.tree(merged.as_fd(), b"", b"").unwrap();
    packer.finish().unwrap();
    let names: Vec<String> = tar::Archive::new(&exported[..])
        .entries()
        .unwrap()
        .map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned())
        .collect();
    for wanted in ["added", "etc/", "etc/name", "keep/b", "opaque/above"] {
        assert!(names.iter().any(|n| n == wanted), "{wanted} in {names:?}");
    }
    assert!(!names.iter().any(|n| n.contains(".wh.") || n == "keep/a"));
    copies(driver, &layers);
    drop((ro, one, merged, committed));

    let (mut rws, mut chains) = driver.list().unwrap();
    rws.sort();
    chains.sort();
    assert_eq!((rws, chains), (vec!["rw1".into(), "rw2".into()], vec!["one".into(), "three".into(), "two".into()]));
    for id in ["rw1", "rw2", "never"] {
        driver.remove_rw(id).unwrap();
    }
    for id in ["one", "two", "three", "never"] {
        driver.remove_layer(id).unwrap();
    }
    driver.clean_up().unwrap();
    assert_eq!(driver.list().unwrap(), (Vec::new(), Vec::new()));
}

/// The copy with other owners shows the same tree, and is there by its own name.
fn copies(driver: &dyn Driver, layers: &[String]) {
    let root = if probe::ids().single { 0 } else { 7 };
    let exchange = Exchange { kept: 9, root };
    let owners = Owners { uid: exchange, gid: exchange };
    for _ in 0..2 {
        owners::make(driver, layers, &owners).unwrap();
    }
    let found = owners::copies(driver).unwrap();
    assert_eq!(found, [(owners.lowers(layers).remove(0), 18)]);
    driver.create_rw("copied", &owners.lowers(layers)).unwrap();
    let rw = driver.mount_rw("copied", &owners.lowers(layers), RwOptions::default()).unwrap();
    assert_eq!(read(rw.as_fd(), "/keep/a").unwrap(), "changed");
    for gone in ["/etc/gone", "/opaque/below"] {
        assert_eq!(read(rw.as_fd(), gone).unwrap_err(), Errno::ENOENT);
    }
    for path in [c".", c"keep", c"keep/b"] {
        let found = sysfs::open_in(rw.as_fd(), path, OFlag::O_PATH, Mode::empty()).unwrap();
        let stat = nix::sys::stat::fstat(&found).unwrap();
        assert_eq!((stat.st_uid, stat.st_gid), (root, root), "{path:?}");
        assert!(path != c"keep/b" || stat.st_mode & 0o7777 == 0o4755);
    }
    drop(rw);
    driver.remove_rw("copied").unwrap();
    // Here no layer's removal shall take it along.
    driver.remove_layer(&found[0].0).unwrap();
}

fn run(name: &str, open: impl FnOnce(&Path) -> Result<Box<dyn Driver>>) {
    let scratch = Scratch::new(name);
    match open(&scratch.0).and_then(|d| probe::works(&*d).map(|()| d)) {
        Ok(driver) => conformance(&*driver),
        Err(e) => drop(writeln!(std::io::stderr(), "skipped {name}: {e}")),
    }
}

#[test]
fn overlay_conforms() {
    run("overlay", |root| Ok(Box::new(Overlay::open(root)?)));
}

#[test]
fn overlay_conforms_on_old_kernels() {
    run("overlay-old", |root| {
        let driver = Overlay::open(root)?;
        driver.pretend_old();
        Ok(Box::new(driver))
    });
}

#[test]
fn fuse_overlayfs_conforms() {
    run("fuse", |root| Ok(Box::new(FuseOverlay::open(root)?)));
}

#[test]
fn vfs_conforms() {
    run("vfs", |root| Ok(Box::new(Vfs::open(root)?)));
}

/// What a hostile layer tries, and that nothing outside of its root changes.
#[test]
fn hostile_layers_stay_inside() {
    let scratch = Scratch::new("hostile");
    let outside = scratch.0.join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("secret"), "untouched").unwrap();
    let driver = Overlay::open(&scratch.0.join("o")).unwrap();
    let up = "../".repeat(12) + outside.join("evil").to_str().unwrap().trim_start_matches('/');
    let absolute = outside.to_str().unwrap().to_owned();
    let mut cases: Vec<(Vec<u8>, bool)> = Vec::new();
    let raw = |name: &str, kind: u8, link: &str, data: &[u8]| -> Vec<u8> {
        // The crate refuses to write such names; a header by hand does not.
        let mut h = tar::Header::new_ustar();
        h.as_mut_bytes()[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
        h.as_mut_bytes()[157..157 + link.len().min(100)].copy_from_slice(&link.as_bytes()[..link.len().min(100)]);
        h.as_mut_bytes()[156] = kind;
        h.set_mode(0o644);
        h.set_uid(0);
        h.set_gid(0);
        h.set_mtime(0);
        h.set_size(data.len() as u64);
        h.set_cksum();
        let mut out = h.as_bytes().to_vec();
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    };
    cases.push((raw(&up, b'0', "", b"x"), false));
    cases.push((raw("a/../../evil", b'0', "", b"x"), false));
    cases.push((raw(".wh..", b'0', "", b""), false));
    cases.push((raw(".wh...", b'0', "", b""), false));
    cases.push((raw("d/.wh.", b'0', "", b""), false));
    cases.push((raw("hard", b'1', "../../../../../../etc/passwd", b""), false));
    cases.push((raw("hard", b'1', "/etc/passwd", b""), false));
    // A symlink and then a path through it: ends inside, as in a chroot.
    let through = [raw("out", b'2', &absolute, b""), raw("out/evil", b'0', "", b"x")].concat();
    cases.push((through, false));
    let dots = [raw("out", b'2', "../../../../../..", b""), raw("out/evil", b'0', "", b"x")].concat();
    cases.push((dots, true));
    let wh = [raw("out", b'2', &absolute, b""), raw("out/.wh.secret", b'0', "", b"")].concat();
    cases.push((wh, false));
    let opq = [raw("out", b'2', &absolute, b""), raw("out/.wh..wh..opq", b'0', "", b"")].concat();
    cases.push((opq, false));
    // A file where the directory was, a whiteout node from the tar itself.
    cases.push((raw("node", b'3', "", b""), true));
    let deep = "d/".repeat(600) + "x";
    let mut pax = tar::Builder::new(Vec::new());
    let mut h = tar::Header::new_gnu();
    h.set_size(0);
    h.set_mode(0o644);
    pax.append_data(&mut h, &deep, &b""[..]).unwrap();
    cases.push((pax.into_inner().unwrap(), false));
    for (i, (tar, fine)) in cases.iter().enumerate() {
        let staging = driver.stage(None).unwrap();
        let result = apply(&mut &tar[..], &*staging, None::<Vec<u8>>, options());
        assert_eq!(result.is_ok(), *fine, "case {i}: {result:?}");
        let left: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["secret"], "case {i}");
    }
    assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "untouched");
}

/// Whiteouts hide what is below the layer, not what it brings itself, also where a
/// directory is there only as the parent of a file.
#[test]
fn whiteouts_spare_their_own_layer() {
    let scratch = Scratch::new("own-whiteouts");
    let drivers: [Box<dyn Driver>; 2] =
        [Box::new(Vfs::open(&scratch.0.join("v")).unwrap()), Box::new(Overlay::open(&scratch.0.join("o")).unwrap())];
    for driver in drivers {
        let name = driver.name();
        layer(&*driver, "lower", None, &tar_of(&[("a/old", b"x", 0o644), ("b/old", b"x", 0o644)]));
        let own: &[(&str, &[u8], u32)] = &[
            ("a/new", b"x", 0o644),
            (".wh.a", b"", 0o644),
            ("b/c/d/new", b"x", 0o644),
            ("b/.wh..wh..opq", b"", 0o644),
            (".wh..wh..opq", b"", 0o644),
        ];
        layer(&*driver, "upper", Some("lower"), &tar_of(own));
        let root = driver.layer_root("upper").unwrap();
        for (path, there) in [(c"a/new", true), (c"b/c/d/new", true), (c"a/old", false), (c"b/old", false)] {
            let found = sysfs::open_in(root.as_fd(), path, OFlag::O_PATH, Mode::empty()).is_ok();
            assert_eq!(found, there, "{name}: {path:?}");
        }
    }
}
