//! Names and documents of images through the command line.

use crate::harness::{Daemon, image, probe};
use crate::need;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[test]
fn load_tag_and_remove() {
    need!(probe::busybox());
    let d = Daemon::start();
    let archive = image::busybox_archive();
    let archive = archive.to_str().unwrap();
    for c in d.clients() {
        d.with(c, &["load", "-i", archive]).contains("Loaded image: busybox:latest").ok();
        let id = d.inspect("busybox", "{{.Id}}");
        d.with(c, &["images", "-q", "--no-trunc"]).prints(&id);
        d.with(c, &["tag", "busybox", "localhost:5000/team/box:v1"]).prints("");
        let table = d.with(c, &["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]).ok();
        let short = &id["sha256:".len()..][..12];
        assert!(table.contains(&format!("busybox:latest {short}\n")), "{table}");
        assert!(table.contains(&format!("localhost:5000/team/box:v1 {short}\n")), "{table}");
        let words = d.with(c, &["rmi", short]).fails(1);
        assert!(words.contains("image is referenced in multiple repositories"), "{words}");
        d.with(c, &["rmi", "localhost:5000/team/box:v1"]).prints("Untagged: localhost:5000/team/box:v1");
        let container = d.docker(&["create", "busybox"]).ok();
        let words = d.with(c, &["rmi", "busybox"]).fails(1);
        assert!(words.contains("conflict: unable to remove repository reference \"busybox\" (must force)"), "{words}");
        d.docker(&["rm", container.trim()]).ok();
        let out = d.with(c, &["rmi", "busybox"]).ok();
        assert!(out.starts_with("Untagged: busybox:latest\nDeleted: sha256:"), "{out}");
        let words = d.with(c, &["rmi", "busybox"]).fails(1);
        assert!(words.contains("No such image: busybox"), "{words}");
        let words = d.with(c, &["tag", "nosuch", "x"]).fails(1);
        assert!(words.contains("No such image: nosuch:latest"), "{words}");
    }
}

#[test]
fn compressed_streams_load() {
    need!(
        probe::busybox(),
        probe::program("xz", "xz-utils"),
        probe::program("zstd", "zstd"),
        probe::program("bzip2", "bzip2")
    );
    let d = Daemon::start();
    for tool in ["gzip", "xz", "zstd", "bzip2"] {
        let packed = std::process::Command::new(tool).arg("-c").arg(image::busybox_archive()).output().unwrap();
        let path = d.scratch.file("packed", packed.stdout);
        d.docker(&["load", "-i", path.to_str().unwrap()]).contains("Loaded image: busybox:latest").ok();
        d.docker(&["run", "--rm", "busybox", "echo", tool]).prints(tool);
        d.docker(&["rmi", "-f", "busybox"]).ok();
    }
    let words = d.docker_input(crate::harness::Client::Ours, &["load"], "this is no archive").fails(1);
    assert!(!words.is_empty());
}

#[test]
fn import_makes_an_image_of_a_tree() {
    need!(probe::busybox());
    let d = Daemon::start();
    for c in d.clients() {
        let out = d
            .docker_input(
                c,
                &["import", "-c", "CMD [\"echo\",\"imported\"]", "-c", "ENV A=1", "-", "tree:1"],
                image::busybox_layer(),
            )
            .ok();
        assert!(out.starts_with("sha256:"), "{out}");
        d.with(c, &["run", "--rm", "tree:1"]).prints("imported");
        let env = d.inspect("tree:1", "{{json .Config.Env}}");
        assert!(env.contains("A=1"), "{env}");
        d.with(c, &["rmi", "tree:1"]).ok();
    }
}

#[test]
fn history_and_inspect() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        d.with(c, &["history", "--format", "{{.CreatedBy}}", "busybox"]).prints("test");
        let text = d.with(c, &["image", "inspect", "busybox"]).ok();
        let inspected: serde_json::Value = serde_json::from_str(&text).unwrap();
        let image = &inspected[0];
        assert_eq!(image["RepoTags"], serde_json::json!(["busybox:latest"]));
        assert_eq!(image["Os"], "linux");
        assert_eq!(image["Config"]["Cmd"], serde_json::json!(["sh"]));
        assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 1);
        let out = d.with(c, &["image", "inspect", "nosuch"]);
        assert!(out.stdout.starts_with("[]"), "{out}");
        assert!(out.fails(1).contains("No such image: nosuch"));
    }
}

#[test]
fn prune_takes_dangling_ones() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    d.docker_input(crate::harness::Client::Ours, &["import", "-"], image::busybox_layer()).ok();
    for (c, expected) in d.clients().into_iter().zip([true, false]) {
        let out = d.with(c, &["image", "prune", "-f"]).ok();
        assert_eq!(out.contains("deleted: sha256:"), expected, "{out}");
        assert!(out.contains("Total reclaimed space:"), "{out}");
        d.with(c, &["images", "--format", "{{.Repository}}"]).prints("busybox");
    }
}

/// Lengths of files, each inode once, and of symlinks' targets: Docker's sizes.
fn counted(dir: &Path) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let mut pending = vec![dir.to_owned()];
    let mut total = 0;
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let stat = entry.metadata().unwrap();
            if stat.is_dir() {
                pending.push(entry.path());
            } else if seen.insert(stat.ino()) {
                total += stat.len();
            }
        }
    }
    total
}

#[test]
fn disk_usage_is_true_to_the_byte() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let mut tar = image::Tar::default();
    tar.dir("d", 0o755);
    tar.file("d/a", 0o644, &[b'x'; 12_345]);
    tar.hardlink("d/b", "d/a");
    tar.symlink("link", "d/a");
    tar.file("zeros", 0o644, &[0; 300_000]);
    let layer = tar.finish();
    let archive = image::archive("more:1", &[image::busybox_layer(), &layer], serde_json::json!({"Cmd": ["sh"]}));
    d.docker_input(crate::harness::Client::Ours, &["load", "-q"], archive).ok();
    let script = "rm /d/a; echo hello >/new; ln /new /same; ln -s /new /way; dd if=/dev/zero of=/v/f bs=777 count=3; cp /new /v/";
    let run = ["run", "--name", "box", "-v", "vol:/v", "--network", "none", "more:1", "sh", "-c", script];
    d.docker(&run).ok();
    let upper = |name: &str| std::path::PathBuf::from(d.inspect(name, "{{.GraphDriver.Data.UpperDir}}"));
    let (base, top) = (counted(&upper("busybox")), counted(&upper("more:1")));
    assert_eq!(top, 12_345 + 3 + 300_000);
    let usage = d.json("GET", "/system/df", None);
    let find = |list: &str, key: &str, value: &str| {
        let all = usage[list].as_array().unwrap();
        all.iter().find(|x| x[key].to_string().contains(value)).unwrap_or_else(|| panic!("{value}: {usage}")).clone()
    };
    let more = find("Images", "RepoTags", "more:1");
    assert_eq!((more["Size"].as_u64(), more["SharedSize"].as_u64()), (Some(base + top), Some(base)));
    assert_eq!(find("Images", "RepoTags", "busybox")["Size"], base);
    assert_eq!(usage["LayersSize"], base + top);
    let made = find("Containers", "Names", "box");
    // /etc/mtab is every container's, as in the original's layer below.
    assert_eq!(made["SizeRw"], counted(&upper("box")) - "/proc/mounts".len() as u64);
    assert_eq!(made["SizeRw"], 6 + 4);
    assert_eq!(made["SizeRootFs"], base + top + 10);
    let volume = std::path::PathBuf::from(d.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", "vol"]).ok().trim());
    assert_eq!(find("Volumes", "Name", "vol")["UsageData"]["Size"], counted(&volume));
    assert_eq!(counted(&volume), 3 * 777 + 6);
}
