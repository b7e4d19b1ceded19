//! Images that are large in one way or another, and archives that mean harm.

use crate::harness::daemon::{comes_clean, litter};
use crate::harness::{Client, Daemon, image, probe};
use crate::need;

/// A tar header whose name is too long for it comes with a GNU one before.
fn long_name(tar: &mut image::Tar, name: &str, content: &[u8]) {
    let kind = tar::EntryType::GNULongName;
    tar.entry("././@LongLink", kind, 0o644, "", &[name.as_bytes(), b"\0"].concat());
    tar.file("long", 0o644, content);
}

#[test]
fn two_hundred_layers_run() {
    need!(probe::busybox());
    let d = Daemon::start();
    let layers: Vec<Vec<u8>> = (0..200)
        .map(|n| {
            let mut tar = image::Tar::default();
            tar.dir("l", 0o755);
            tar.file(&format!("l/{n}"), 0o644, n.to_string().as_bytes());
            tar.file("last", 0o644, n.to_string().as_bytes());
            tar.finish()
        })
        .collect();
    let all: Vec<&[u8]> = [image::busybox_layer()].into_iter().chain(layers.iter().map(Vec::as_slice)).collect();
    let archive = image::archive("deep:1", &all, serde_json::json!({"Cmd": ["sh"]}));
    d.docker_input(Client::Ours, &["load", "-q"], archive).ok();
    let run = ["run", "--rm", "--network", "none", "deep:1", "sh", "-c", "ls /l | wc -l; cat /last"];
    d.docker(&run).prints("200\n199");
    assert_eq!(d.docker(&["history", "-q", "deep:1"]).ok().lines().count(), 201);
    d.scratch.file("build/Dockerfile", "FROM deep:1\nRUN echo more >/l/more\n");
    let folder = d.scratch.join("build").display().to_string();
    d.docker(&["build", "-q", "--network", "none", "-t", "deeper", &folder]).ok();
    d.docker(&["run", "--rm", "--network", "none", "deeper", "sh", "-c", "ls /l | wc -l"]).prints("201");
    d.docker(&["rmi", "deeper", "deep:1"]).ok();
    comes_clean(&d);
}

#[test]
fn more_layers_than_the_kernel_stacks_are_refused() {
    need!(probe::busybox());
    let d = Daemon::start();
    let mut layer = image::Tar::default();
    layer.dir("x", 0o755);
    let layer = layer.finish();
    let archive = |name: &str, layers: usize| {
        let all = [vec![image::busybox_layer()], vec![layer.as_slice(); layers - 1]].concat();
        image::archive(name, &all, serde_json::json!({"Cmd": ["sh"]}))
    };
    let refused = |words: &str| assert!(words.contains("max depth exceeded"), "{words}");
    for c in d.clients() {
        refused(&d.docker_input(c, &["load", "-q"], archive("abyss:1", 501)).fails(1));
    }
    assert_eq!(d.docker(&["images", "-aq"]).ok(), "");
    assert!(litter(&d).is_empty());
    // As many as there may be run; one more is not made.
    d.docker_input(Client::Ours, &["load", "-q"], archive("brink:1", 500)).ok();
    d.docker(&["run", "--name", "last", "--network", "none", "brink:1", "touch", "/one-more"]).ok();
    refused(&d.docker(&["commit", "last"]).fails(1));
    d.scratch.file("build/Dockerfile", "FROM brink:1\nCOPY Dockerfile /\n");
    refused(&d.docker(&["build", "-q", &d.scratch.join("build").display().to_string()]).fails(1));
    d.docker(&["rm", "last"]).ok();
    d.docker(&["rmi", "brink:1"]).ok();
    comes_clean(&d);
}

/// Many entries take time, not memory.
#[test]
fn a_hundred_thousand_files() {
    need!(probe::busybox());
    let d = Daemon::start();
    let mut tar = image::Tar::default();
    for dir in 0..100 {
        tar.dir(&format!("d{dir}"), 0o755);
        for file in 0..1000 {
            tar.file(&format!("d{dir}/f{file}"), 0o644, b"");
        }
    }
    d.docker_input(Client::Ours, &["import", "-", "many:1"], tar.finish()).ok();
    let status = std::fs::read_to_string(format!("/proc/{}/status", d.pid())).unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    // Also of a debug build.
    assert!(peak.parse::<u64>().unwrap() < 40 << 10, "{peak} kB");
    d.docker(&["create", "--name", "many", "many:1", "none"]).ok();
    let last = d.docker(&["cp", "many:/d99/f999", "-"]).ok();
    assert!(last.contains("f999"));
}

#[test]
fn zeros_fill_no_disk() {
    need!(probe::busybox());
    let d = Daemon::start();
    let mut tar = image::Tar::default();
    let megabytes = 256;
    let mut content = vec![0; megabytes << 20];
    content[70 << 20] = b'x';
    tar.file("zeros", 0o644, &content);
    drop(content);
    let layer = tar.finish();
    let digest = image::sha256(&layer);
    let archive = image::archive("zeros:1", &[image::busybox_layer(), &layer], serde_json::json!({"Cmd": ["sh"]}));
    drop(layer);
    d.docker_input(Client::Ours, &["load", "-q"], archive).ok();
    let out =
        d.docker(&["run", "--rm", "--network", "none", "zeros:1", "sh", "-c", "stat -c %s /zeros; du -m /zeros"]).ok();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words[0], (megabytes << 20).to_string());
    assert!(words[1].parse::<u32>().unwrap() < 2, "{out}");
    // Byte for byte what it was.
    let layers = d.inspect("zeros:1", "{{json .RootFS.Layers}}");
    assert!(layers.contains(&digest), "{layers}");
    let saved = d.scratch.join("saved.tar");
    d.docker(&["save", "-o", saved.to_str().unwrap(), "zeros:1"]).ok();
    d.docker(&["rmi", "zeros:1"]).ok();
    d.docker(&["load", "-q", "-i", saved.to_str().unwrap()]).ok();
    assert_eq!(d.inspect("zeros:1", "{{json .RootFS.Layers}}"), layers);
}

#[test]
fn a_claim_beyond_the_disk_is_refused_at_once() {
    let d = Daemon::start();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_path("bomb").unwrap();
    header.set_mode(0o644);
    header.set_size(1 << 60);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(1 << 20, 0);
    let words = d.docker_input(Client::Ours, &["import", "-", "bomb:1"], bytes).fails(1);
    assert!(words.contains("no space left on device (a file of 1.153EB) ("), "{words}");
    assert!(words.contains("docker system df"), "what to do: {words}");
    assert_eq!(d.docker(&["images", "-aq"]).ok(), "");
    comes_clean(&d);
}

#[test]
fn hostile_archives_are_refused_by_name() {
    let d = Daemon::start();
    let mut cases: Vec<(Vec<u8>, &str)> = Vec::new();
    let mut one = |make: &dyn Fn(&mut image::Tar), words: &'static str| {
        let mut tar = image::Tar::default();
        make(&mut tar);
        cases.push((tar.finish(), words));
    };
    one(&|t| t.file("a/../../etc/passwd", 0o644, b"x"), "\"a/../../etc/passwd\" is outside of the layer");
    one(&|t| t.hardlink("hard", "../../../etc/passwd"), "\"../../../etc/passwd\" is outside of the layer");
    one(&|t| t.hardlink("hard", "not/there"), "link to /not/there");
    one(&|t| long_name(t, &"n".repeat(300), b""), "is no file name");
    one(&|t| long_name(t, &"d/".repeat(600), b""), "is too deep or too long");
    one(&|t| long_name(t, &["d".repeat(200).as_str(); 30].join("/"), b""), "is too deep or too long");
    one(&|t| t.file(".wh...", 0o644, b""), "invalid whiteout");
    one(&|t| t.entry("odd", tar::EntryType::new(b'Q'), 0o644, "", b""), "unhandled tar header type 81");
    for (bytes, words) in cases {
        let said = d.docker_input(Client::Ours, &["import", "-"], bytes).fails(1);
        assert!(said.contains(words), "{said}");
    }
    // A link out of the tree leads nowhere: it is followed inside it.
    let outside = d.scratch.join("outside");
    let mut tar = image::Tar::default();
    tar.symlink("way", outside.to_str().unwrap());
    tar.dir(outside.to_str().unwrap().trim_start_matches('/'), 0o755);
    tar.file("way/in", 0o644, b"x");
    d.docker_input(Client::Ours, &["import", "-"], tar.finish()).ok();
    assert!(!outside.exists());
    // Cut anywhere, an archive is no image.
    let whole = image::archive("cut:1", &[image::busybox_layer()], serde_json::json!({}));
    for part in [1, 511, 700, whole.len() / 3, whole.len() * 2 / 3] {
        d.docker_input(Client::Ours, &["load", "-q"], &whole[..part]).fails(1);
    }
    assert!(litter(&d).is_empty());
}
