//! Binds, volumes, tmpfs and read-only roots.

use crate::harness::{Daemon, probe};
use crate::need;

#[test]
fn binds_both_ways() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let dir = d.scratch.dir("shared");
    let spec = format!("{}:/mnt", dir.display());
    for c in d.clients() {
        std::fs::write(dir.join("in"), "from host").unwrap();
        d.with(c, &["run", "--rm", "-v", &spec, "busybox", "sh", "-c", "cat /mnt/in; echo back >/mnt/out"])
            .prints("from host");
        assert_eq!(std::fs::read_to_string(dir.join("out")).unwrap(), "back\n");
        let out = d.with(c, &["run", "--rm", "-v", &format!("{spec}:ro"), "busybox", "touch", "/mnt/x"]);
        assert!(out.fails(1).contains("Read-only file system"));
        for file in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
            let out = d.with(c, &["run", "--rm", "--read-only", "busybox", "sh", "-c", &format!("echo x >>{file}")]);
            assert!(out.fails(1).contains("Read-only file system"));
        }
        // -v makes a missing source, --mount does not.
        let missing = d.scratch.join(format!("made-{c:?}"));
        d.with(c, &["run", "--rm", "-v", &format!("{}:/mnt", missing.display()), "busybox", "true"]).ok();
        assert!(missing.is_dir());
        // A single file, over one that the image has.
        let file = d.scratch.file("passwd", "me:x:0:0::/:/bin/sh\n");
        d.with(
            c,
            &[
                "run",
                "--rm",
                "--mount",
                &format!("type=bind,src={},dst=/etc/passwd,ro", file.display()),
                "busybox",
                "cat",
                "/etc/passwd",
            ],
        )
        .prints("me:x:0:0::/:/bin/sh");
    }
}

#[test]
fn volumes_are_filled_kept_and_counted() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        d.with(c, &["volume", "create", "data"]).prints("data");
        // An empty volume over a directory of the image takes its content.
        d.with(c, &["run", "--rm", "-v", "data:/www", "busybox", "cat", "/www/index.html"])
            .prints("hello from coracle");
        d.with(c, &["run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "ls /d; echo kept >/d/new"])
            .prints("index.html");
        d.with(c, &["run", "--rm", "--mount", "src=data,dst=/d", "busybox", "cat", "/d/new"]).prints("kept");
        let id = d.docker(&["create", "-v", "data:/d", "busybox"]).ok();
        let words = d.with(c, &["volume", "rm", "data"]).fails(1);
        assert!(words.contains(&format!("remove data: volume is in use - [{}]", id.trim())), "{words}");
        d.docker(&["rm", id.trim()]).ok();
        d.with(c, &["volume", "rm", "data"]).prints("data");
        let words = d.with(c, &["volume", "inspect", "data"]).fails(1);
        assert!(words.contains("get data: no such volume"), "{words}");
    }
}

#[test]
fn anonymous_volumes_go_with_rm_v() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let id = d.docker(&["create", "-v", "/a", "-v", "named:/b", "busybox"]).ok();
        assert_eq!(d.docker(&["volume", "ls", "-q"]).ok().lines().count(), 2);
        d.with(c, &["rm", "-v", id.trim()]).ok();
        d.with(c, &["volume", "ls", "-q"]).prints("named");
        // Who took it over is its last user, and fills it with nothing of his own.
        let id = d.docker(&["create", "-v", "/etc", "-v", "named:/b", "busybox"]).ok();
        let heir = d.docker(&["create", "--volumes-from", id.trim(), "-v", "/bin", "busybox"]).ok();
        d.docker(&["rm", "-v", id.trim()]).ok();
        assert_eq!(d.docker(&["volume", "ls", "-q"]).ok().lines().count(), 3);
        d.with(c, &["rm", "-v", heir.trim()]).ok();
        d.with(c, &["volume", "ls", "-q"]).prints("named");
        d.with(c, &["run", "--name", "empty", "-v", "/bin/sub", "busybox", "true"]).ok();
        d.docker(&["volume", "rm", "named"]).ok();
        d.docker(&["rm", "-v", "empty"]).ok();
        let words = d.with(c, &["create", "-v", "named:/x:shared", "busybox"]).fails(1);
        assert!(
            words.contains("invalid mount config for type \"volume\": field BindOptions must not be specified"),
            "{words}"
        );
    }
}

/// A part of a volume is filled like a whole one, and a symlink leads nowhere else.
#[test]
fn parts_of_volumes() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let script = "mkdir /v/part && ln -s / /v/root && ln -s root /v/chain && ln -s part /v/good";
    d.docker(&["run", "--rm", "--network", "none", "-v", "parts:/v", "busybox", "sh", "-c", script]).ok();
    for c in d.clients() {
        let run = |sub: &str, target: &str| {
            let mount = format!("type=volume,src=parts,dst={target},volume-subpath={sub}");
            d.with(c, &["run", "--rm", "--network", "none", "--mount", &mount, "busybox", "ls", target])
        };
        assert!(run("part", "/bin").ok().contains("busybox"));
        assert!(run("good", "/w").ok().contains("busybox"));
        for outside in ["root", "chain"] {
            let words = run(outside, "/w").fails(125);
            assert!(words.contains("path concatenation escapes the base directory"), "{words}");
        }
        let words = run("../x", "/w").fails(125);
        assert!(words.contains("subpath must be a relative path within the volume"), "{words}");
    }
}

#[test]
fn copies_of_what_lies_over_the_tree() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let file = d.scratch.file("bound", "of the host\n").display().to_string();
    let out = d.scratch.join("out").display().to_string();
    for c in d.clients() {
        d.with(c, &["run", "--name", "xx", "-h", "named", "-v", &format!("{file}:/bound"), "busybox", "true"]).ok();
        for (path, text) in [("/bound", "of the host\n"), ("/etc/hostname", "named\n")] {
            d.with(c, &["cp", &format!("xx:{path}"), &out]).ok();
            assert_eq!(std::fs::read_to_string(&out).unwrap(), text);
            let stat = d.docker(&["cp", &format!("xx:{path}"), "-"]).raw;
            assert!(String::from_utf8_lossy(&stat).contains(text));
        }
        for root in ["./", "/./", "/."] {
            let raw = d.with(c, &["cp", &format!("xx:{root}"), "-"]).raw;
            assert!(raw.starts_with(b"./"), "{root}");
        }
        d.docker(&["rm", "xx"]).ok();
    }
}

/// Ids stay as they are, with `-a` and without, unless the container has a user.
#[test]
fn copies_keep_their_owners() {
    need!(probe::busybox(), probe::subordinate_ids());
    let d = Daemon::with_busybox();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_uid(7);
    header.set_gid(8);
    header.set_mode(0o640);
    header.set_size(0);
    tar.append_data(&mut header, "file", &[][..]).unwrap();
    let tar = tar.into_inner().unwrap();
    for c in d.clients() {
        for (flags, user, owner) in [(&["-"][..], "0", "7:8"), (&["-a", "-"], "", "7:8"), (&["-a", "-"], "3:4", "3:4")]
        {
            d.docker(&["create", "--name", "xx", "-u", user, "busybox", "stat", "-c", "%u:%g", "/tmp/file"]).ok();
            d.docker_input(c, &[&["cp"], flags, &["xx:/tmp"]].concat(), tar.clone()).ok();
            d.docker(&["start", "-a", "xx"]).prints(owner);
            d.docker(&["rm", "xx"]).ok();
        }
    }
}

#[test]
fn tmpfs_and_read_only_roots() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let out = d
            .with(
                c,
                &[
                    "run",
                    "--rm",
                    "--tmpfs",
                    "/t:size=1m",
                    "busybox",
                    "sh",
                    "-c",
                    "grep ' /t ' /proc/mounts; touch /t/x && echo written",
                ],
            )
            .ok();
        assert!(
            out.contains("tmpfs")
                && out.contains("nosuid,nodev,noexec")
                && out.contains("size=1024k")
                && out.contains("written"),
            "{out}"
        );
        let out = d.with(c, &["run", "--rm", "--read-only", "busybox", "touch", "/x"]);
        assert!(out.fails(1).contains("Read-only file system"));
        d.with(
            c,
            &[
                "run", "--rm", "--read-only", "-v", "/v", "--tmpfs", "/t", "busybox", "touch", "/v/x", "/t/x",
                "/dev/shm/x",
            ],
        )
        .ok();
        let out = d.with(c, &["run", "--rm", "--shm-size", "2m", "busybox", "grep", " /dev/shm ", "/proc/mounts"]).ok();
        assert!(out.starts_with("shm ") && out.contains("size=2048k"), "{out}");
    }
}

#[test]
fn the_engine_s_own_socket_can_be_bound() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        d.with(
            c,
            &[
                "run",
                "--rm",
                "-v",
                "/var/run/docker.sock:/var/run/docker.sock",
                "busybox",
                "test",
                "-S",
                "/var/run/docker.sock",
            ],
        )
        .ok();
    }
}

#[test]
fn what_a_container_changed() {
    need!(probe::busybox());
    for driver in [&[][..], &["--storage-driver=vfs"]] {
        let d = Daemon::start_with(driver, &[]);
        d.load_busybox();
        let run = |name: &str, image: &str, script: &str| {
            d.docker(&["run", "--network", "none", "--name", name, image, "sh", "-c", script]).ok();
        };
        run("base", "busybox", "mkdir -p /a/b/c /z; echo 1 >/a/keep; echo 1 >/a/gone; echo 1 >/a/b/c/deep");
        d.docker(&["commit", "base", "base"]).ok();
        let script = "echo 22 >/a/keep; rm /a/gone /a/b/c/deep; mkdir -p /n/m; ln -s x /n/l; chmod 700 /z; rm -r /a/b";
        run("box", "base", script);
        for c in d.clients() {
            d.with(c, &["diff", "box"]).prints("C /a\nD /a/b\nD /a/gone\nC /a/keep\nA /n\nA /n/l\nA /n/m\nC /z");
        }
    }
}
