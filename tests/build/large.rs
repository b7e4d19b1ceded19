//! Large contexts, which the daemon keeps: what is built is what the folder is now.

use super::context;
use crate::harness::{Client, Daemon, eventually, probe, run};
use crate::need;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const FILES: usize = 1200;

fn folder(d: &Daemon) -> PathBuf {
    let folder = context(d, "large", &[("Dockerfile", "FROM scratch\nCOPY src /\n")]);
    for n in 0..FILES {
        d.scratch.file(&format!("large/src/d{}/f{n}", n % 7), format!("content {n}\n"));
    }
    symlink("d1/f1", folder.join("src/link")).unwrap();
    folder
}

fn same(d: &Daemon, folder: &Path, flags: &[&str]) {
    let out = d.scratch.join("out");
    let _ = fs::remove_dir_all(&out);
    let (dest, folder_text) = (format!("type=local,dest={}", out.display()), folder.display().to_string());
    d.docker(&[&["build", "-o", &dest][..], flags, &[&folder_text]].concat()).ok();
    run(Command::new("diff").args(["-r", "--no-dereference"]).arg(folder.join("src")).arg(&out)).prints("");
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(folder.join("src/d2/f2")), mode(out.join("d2/f2")));
}

fn kept(d: &Daemon) -> usize {
    let all = fs::read_dir(d.scratch.join("data/build-cache/contexts")).unwrap().flatten();
    all.filter(|e| !e.file_name().to_string_lossy().starts_with("gone-")).count()
}

#[test]
fn what_the_folder_is_now() {
    need!(probe::busybox(), probe::program("diff", "diffutils"));
    let d = Daemon::with_busybox();
    let folder = folder(&d);
    let src = folder.join("src");
    same(&d, &folder, &[]);
    assert_eq!(kept(&d), 1);
    same(&d, &folder, &[]);
    // The same size and the old time, by another file or in place: no matter.
    let time = fs::metadata(src.join("d3/f3")).unwrap().modified().unwrap();
    let keep_time = |path: &str| fs::File::open(src.join(path)).unwrap().set_modified(time).unwrap();
    fs::write(src.join("d3/f3"), "CONTENT 3\n").unwrap();
    keep_time("d3/f3");
    fs::write(src.join("new"), "CONTENT 4\n").unwrap();
    fs::rename(src.join("new"), src.join("d4/f4")).unwrap();
    keep_time("d4/f4");
    fs::remove_file(src.join("d5/f5")).unwrap();
    fs::remove_dir_all(src.join("d6")).unwrap();
    fs::write(src.join("d6"), "a file where a folder was").unwrap();
    fs::remove_file(src.join("d0/f7")).unwrap();
    d.scratch.file("large/src/d0/f7/deep/x", "a folder where a file was");
    fs::set_permissions(src.join("d2/f2"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(src.join("link")).unwrap();
    symlink("d2", src.join("link")).unwrap();
    fs::rename(src.join("d1"), src.join("moved")).unwrap();
    same(&d, &folder, &[]);
    // What the rules leave out is gone, and comes back.
    let plain = |ignore: &str| {
        d.scratch.file("large/.dockerignore", ignore);
        let out = d.scratch.join("out");
        let _ = fs::remove_dir_all(&out);
        let dest = format!("type=local,dest={}", out.display());
        d.docker(&["build", "-o", &dest, &folder.display().to_string()]).ok();
        (out.join("d3").exists(), out.join("d4/f4").exists())
    };
    assert_eq!(plain("src/d3\nDockerfile\n.dockerignore\n"), (false, true));
    assert_eq!(plain("**/f4\n"), (true, false));
    assert_eq!(plain("Dockerfile\n"), (true, true));
    same(&d, &folder, &[]);
    // A second Dockerfile, a further folder beside it.
    d.scratch.file("large/other/Dockerfile", "FROM scratch\nCOPY --from=more / /\n");
    let (file, more) = (folder.join("other/Dockerfile"), format!("more={}", src.display()));
    same(&d, &folder, &["-f", file.to_str().unwrap(), "--build-context", &more]);
    assert_eq!(kept(&d), 1);
    let rows = d.json("GET", "/system/df", None)["BuildCache"].clone();
    assert!(rows.to_string().contains("local source for context"), "{rows}");
    d.docker(&["builder", "prune", "-af"]).ok();
    assert_eq!(kept(&d), 0);
    same(&d, &folder, &[]);
}

#[test]
fn two_at_once_and_a_killed_daemon() {
    need!(probe::busybox(), probe::program("diff", "diffutils"));
    let mut d = Daemon::with_busybox();
    let folder = folder(&d);
    same(&d, &folder, &[]);
    // One that holds the tree, one that sends everything.
    d.scratch.file("large/slow", "FROM busybox\nCOPY src /src\nRUN test -e /src/go || sleep 1000\n");
    let start = |d: &Daemon| {
        let mut command = d.cli(Client::Ours);
        command.args(["build", "--network", "none", "-f"]).arg(folder.join("slow")).arg(&folder);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("its step", || !d.docker(&["ps", "-q"]).ok().is_empty());
        child
    };
    let mut first = start(&d);
    fs::write(folder.join("src/d1/f1"), "changed meanwhile\n").unwrap();
    same(&d, &folder, &[]);
    d.docker(&["builder", "prune", "-af"]).ok();
    assert_eq!(kept(&d), 1);
    d.kill();
    first.wait().unwrap();
    d.up();
    fs::write(folder.join("src/d2/f2"), "changed again\n").unwrap();
    same(&d, &folder, &[]);
    // A client that goes away in the middle of its build gives the tree back.
    let mut second = start(&d);
    second.kill().unwrap();
    second.wait().unwrap();
    eventually("no container", || d.docker(&["ps", "-aq"]).ok().is_empty());
    eventually("the tree's release", || {
        d.docker(&["builder", "prune", "-af"]).ok();
        kept(&d) == 0
    });
}
