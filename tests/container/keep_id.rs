//! `--userns=keep-id`: the user shows as himself inside, and everything that is
//! seen from outside is as if nothing had changed places.

use crate::harness::command::Output;
use crate::harness::daemon::{Client, comes_clean, processes_of, signal};
use crate::harness::image::{self, Tar};
use crate::harness::{Daemon, eventually, probe};
use crate::need;
use std::os::unix::fs::MetadataExt;

/// The ids of who runs the daemon.
fn own(d: &Daemon) -> (u32, u32) {
    let meta = d.scratch.path().metadata().unwrap();
    (meta.uid(), meta.gid())
}

/// The original's client takes no mode but "host": there an annotation says it.
fn run(d: &Daemon, client: Client, args: &[&str]) -> Output {
    let mode = match client {
        Client::Ours => "--userns=keep-id",
        Client::Real => "--annotation=io.podman.annotations.userns=keep-id",
    };
    d.with(client, &[&["run", mode], args].concat())
}

const CAT_WITH_CAPABILITY: &str = "capable/cat";

/// busybox with a setuid root program, one that has CAP_CHOWN, a file of the
/// user's number and a hard link.
fn load_special(d: &Daemon, uid: u32) {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|p| std::fs::read(p).ok()).unwrap();
    // vfs_cap_data of version 2: effective, permitted 1, the rest 0.
    let mut capability = [0u8; 20];
    (capability[0], capability[3], capability[4]) = (1, 2, 1);
    let mut pax = tar::Builder::new(Vec::new());
    pax.append_pax_extensions([("SCHILY.xattr.security.capability", &capability[..])]).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    pax.append_data(&mut header, CAT_WITH_CAPABILITY, &busybox[..]).unwrap();
    let mut mine = tar::Header::new_gnu();
    mine.set_mode(0o600);
    mine.set_uid(uid.into());
    mine.set_gid(uid.into());
    mine.set_size(4);
    pax.append_data(&mut mine, "mine", &b"mine"[..]).unwrap();
    let first = pax.into_inner().unwrap();
    let mut second = Tar::default();
    second.file("bin/su", 0o4755, &busybox);
    second.hardlink("bin/other", "bin/su");
    second.file("etc/passwd", 0o644, b"root::0:0:root:/root:/bin/sh\n");
    second.file("etc/.wh.group", 0o644, b"");
    let layers = [image::busybox_layer(), &first, &second.finish()];
    let archive = image::archive("special:latest", &layers, serde_json::json!({"Cmd": ["sh"]}));
    d.docker_input(Client::Ours, &["load", "-q"], archive).ok();
}

#[test]
fn files_in_binds_belong_to_the_caller() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let (uid, gid) = own(&d);
    let dir = d.scratch.dir("shared");
    std::fs::write(dir.join("before"), "").unwrap();
    let bind = format!("{}:/mnt", dir.display());
    for c in d.clients() {
        let script = "id -u; id -g; touch /mnt/made; stat -c %u:%g /mnt/before /mnt/made /bin/busybox / /etc/hosts";
        let ids = format!("{uid}:{gid}");
        run(&d, c, &["--rm", "-v", &bind, "busybox", "sh", "-c", script])
            .prints(&format!("{uid}\n{gid}\n{ids}\n{ids}\n0:0\n0:0\n0:0"));
        let made = dir.join("made").metadata().unwrap();
        assert_eq!((made.uid(), made.gid()), (uid, gid));
        std::fs::remove_file(dir.join("made")).unwrap();
        // He is no root there, and root is not he.
        assert!(run(&d, c, &["--rm", "busybox", "touch", "/x"]).fails(1).contains("Permission denied"));
        run(&d, c, &["--rm", "-u", "0", "-v", &bind, "busybox", "sh", "-c", "touch /x /mnt/roots; id -u"]).prints("0");
        let roots = dir.join("roots").metadata().unwrap();
        assert!(roots.uid() != uid && roots.uid() != 0, "{}", roots.uid());
        run(&d, c, &["--rm", "-u", "0", "-v", &bind, "busybox", "rm", "/mnt/roots"]).ok();
        // He has a name, a terminal and a home.
        run(&d, c, &["--rm", "-w", "/home", "busybox", "sh", "-c", "id -un; echo $HOME"])
            .prints(&format!("{}\n/home", std::env::var("USER").unwrap()));
        run(&d, c, &["--rm", "-t", "busybox", "stat", "-c", "%u", "/dev/pts/0"]).prints(&uid.to_string());
        // Namespaces that are not the container's own.
        for space in ["--network=none", "--network=host", "--pid=host", "--ipc=host", "--privileged"] {
            run(&d, c, &["--rm", space, "-v", &bind, "busybox", "stat", "-c", "%u", "/mnt/before"])
                .prints(&uid.to_string());
        }
        let net = ["--rm", "--sysctl", "net.core.somaxconn=77", "busybox", "cat", "/proc/sys/net/core/somaxconn"];
        run(&d, c, &net).prints("77");
    }
}

#[test]
fn the_image_is_as_it_is_elsewhere() {
    need!(probe::busybox());
    let d = Daemon::start();
    let (uid, _) = own(&d);
    load_special(&d, uid);
    for c in d.clients() {
        run(&d, c, &["--rm", "special", "/bin/su", "-c", "id -u", "root"]).prints("0");
        let status = run(&d, c, &["--rm", "special", &format!("/{CAT_WITH_CAPABILITY}"), "/proc/self/status"]).ok();
        assert!(status.contains("CapEff:\t0000000000000001"), "{status}");
        run(&d, c, &["--rm", "special", "sh", "-c", "cat /mine; stat -c '%h %a' /bin/other; ls /etc"])
            .prints("mine2 4755\nhostname\nhosts\nmtab\npasswd\nresolv.conf");
        // Other numbers, also such as the engine does not have.
        for id in ["1000", "123456"] {
            let mode = format!("--annotation=io.podman.annotations.userns=keep-id:uid={id},gid={id}");
            let script = "id -u; id -g; stat -c %u:%g /bin/su";
            d.with(c, &["run", "--rm", &mode, "special", "sh", "-c", script]).prints(&format!("{id}\n{id}\n0:0"));
        }
        let mount = "type=image,src=special,dst=/img";
        run(&d, c, &["--rm", "--mount", mount, "special", "stat", "-c", "%u:%g", "/img/bin/su"]).prints("0:0");
    }
    // The image's own user is the image's word, as with Podman.
    d.docker_input(Client::Ours, &["build", "-qt", "named", "-"], "FROM special\nUSER 33\n").ok();
    d.docker(&["run", "--rm", "--userns=keep-id", "named", "id", "-u"]).prints("33");
}

/// Numeric owners of a tar, by name.
fn owners(tar: &[u8]) -> Vec<(String, u64, u64)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(Result::unwrap);
    entries
        .map(|e| (e.path().unwrap().display().to_string(), e.header().uid().unwrap(), e.header().gid().unwrap()))
        .collect()
}

#[test]
fn from_outside_nothing_has_changed_places() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let (uid, gid) = own(&d);
    let (u, g) = (u64::from(uid), u64::from(gid));
    for c in d.clients() {
        let health = ["--health-cmd", "touch /tmp/probed", "--health-interval", "100ms"];
        let start = ["-d", "--name", "kept", "-v", "site:/www", "-v", "fresh:/new"];
        let script = ["busybox", "sh", "-c", "touch /tmp/mine /new/made; exec sleep 1000"];
        run(&d, c, &[&start[..], &health, &script].concat()).ok();
        eventually("a probe", || d.inspect("kept", "{{.State.Health.Status}}") == "healthy");
        d.with(c, &["exec", "kept", "id", "-u"]).prints(&uid.to_string());
        d.with(c, &["exec", "-u", "0", "kept", "sh", "-c", "id -u; touch /roots"]).prints("0");
        d.with(c, &["exec", "kept", "stat", "-c", "%u", "/www/index.html", "/new/made", "/tmp/probed"])
            .prints(&format!("0\n{uid}\n{uid}"));
        // Out, in, whole, and what changed.
        for (path, owner) in [("/tmp/mine", (u, g)), ("/roots", (0, 0)), ("/www/index.html", (0, 0))] {
            let out = d.with(c, &["cp", &format!("kept:{path}"), "-"]);
            assert_eq!(owners(&out.raw).into_iter().map(|(_, u, g)| (u, g)).collect::<Vec<_>>(), [owner], "{path}");
        }
        let mut tar = Tar::default();
        tar.file("deep/in/it", 0o644, b"x");
        d.docker_input(c, &["cp", "-", "kept:/tmp"], tar.finish()).ok();
        d.with(c, &["exec", "kept", "stat", "-c", "%u", "/tmp/deep", "/tmp/deep/in/it"]).prints("0\n0");
        let exported = owners(&d.with(c, &["export", "kept"]).raw);
        for (name, owner) in [("bin/busybox", (0, 0)), ("tmp/mine", (u, g)), ("roots", (0, 0))] {
            assert!(exported.contains(&(name.into(), owner.0, owner.1)), "{name} in {exported:?}");
        }
        let changed = d.with(c, &["diff", "kept"]).ok();
        assert!(changed.contains("A /roots") && !changed.contains("/bin"), "{changed}");
        // A commit is an ordinary image.
        d.with(c, &["commit", "kept", "plain"]).ok();
        let stat = ["busybox", "plain"].map(|i| ["run", "--rm", i, "stat", "-c", "%u", "/bin/busybox"]);
        stat.iter().for_each(|s| d.with(c, s).prints("0"));
        d.with(c, &["run", "--rm", "-u", "0", "plain", "stat", "-c", "%u", "/roots", "/tmp/mine"])
            .prints(&format!("0\n{uid}"));
        // A crash of the daemon changes nothing.
        d.kill();
        d.up();
        d.with(c, &["exec", "kept", "id", "-u"]).prints(&uid.to_string());
        eventually("a probe", || d.inspect("kept", "{{.State.Health.Status}}") == "healthy");
        d.with(c, &["restart", "-t", "0", "kept"]).ok();
        d.with(c, &["exec", "kept", "stat", "-c", "%u", "/roots", "/tmp/mine", "/etc/hosts"])
            .prints(&format!("0\n{uid}\n0"));
        d.with(c, &["rm", "-f", "kept"]).ok();
        d.with(c, &["rmi", "plain"]).ok();
        d.with(c, &["volume", "rm", "site", "fresh"]).ok();
    }
}

#[test]
fn the_copy_is_counted_kept_and_removed() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let size = |d: &Daemon| d.json("GET", "/v1.51/system/df", None)["LayersSize"].as_u64().unwrap();
    let before = size(&d);
    let id = d.run_detached(&["--userns=keep-id", "busybox", "sleep", "1000"]);
    let with_copy = size(&d);
    assert!(with_copy > before + before / 2, "{before} {with_copy}");
    // In use it stays, also over a crash.
    d.docker(&["image", "prune", "-f"]).ok();
    d.kill();
    d.up();
    assert_eq!(size(&d), with_copy);
    d.docker(&["exec", &id, "true"]).ok();
    d.docker(&["rm", "-f", &id]).ok();
    d.docker(&["system", "prune", "-f"]).ok();
    assert_eq!(size(&d), before);
    // It goes with its image, and what was cut short goes at the next start.
    d.docker(&["run", "--rm", "--userns=keep-id", "busybox", "true"]).ok();
    d.docker(&["rmi", "busybox"]).ok();
    assert_eq!(size(&d), 0);
    assert_eq!(std::fs::read_dir(d.scratch.join("data/overlay2/layers")).unwrap().count(), 0);
    comes_clean(&d);
}

#[test]
fn a_daemon_comes_back_through_a_container_alone() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let (uid, _) = own(&d);
    let id = d.run_detached(&["--userns=keep-id", "busybox", "sleep", "1000"]);
    let pid: u32 = d.inspect(&id, "{{.State.Pid}}").parse().unwrap();
    d.kill();
    for other in processes_of(d.scratch.path()).into_iter().filter(|p| *p != pid) {
        signal(other, "KILL");
    }
    d.up();
    assert_eq!(d.inspect(&id, "{{.State.Running}}"), "true");
    // The engine's own ids are what they were.
    d.docker(&["run", "--rm", "busybox", "stat", "-c", "%u", "/bin/busybox"]).prints("0");
    d.docker(&["run", "--rm", "--userns=keep-id", "busybox", "id", "-u"]).prints(&uid.to_string());
    d.docker(&["rm", "-f", &id]).ok();
}

#[test]
fn modes_and_defaults() {
    need!(probe::busybox());
    let d = Daemon::start_with(&["--default-userns-mode=keep-id"], &[]);
    d.load_busybox();
    let (uid, _) = own(&d);
    for c in d.clients() {
        d.with(c, &["run", "--rm", "busybox", "id", "-u"]).prints(&uid.to_string());
        d.with(c, &["run", "--rm", "--userns=host", "busybox", "id", "-u"]).prints("0");
        d.docker_input(c, &["build", "-qt", "built", "-"], "FROM busybox\nRUN touch /by-root && test $(id -u) = 0\n")
            .ok();
        d.with(c, &["run", "--rm", "built", "stat", "-c", "%u", "/by-root"]).prints("0");
        for (mode, words) in [
            ("auto", "invalid user namespace mode: auto: every container is in the engine's own"),
            ("keep-id:size=9", "unknown option size: there are uid and gid"),
            ("keep-id:uid=me", "me is not an id"),
        ] {
            let annotation = format!("--annotation=io.podman.annotations.userns={mode}");
            let said = d.with(c, &["run", "--rm", &annotation, "busybox", "true"]).fails(125);
            assert!(said.contains(words), "{said}");
        }
    }
    d.docker(&["run", "--rm", "--userns=keep-id:uid=0,gid=0", "busybox", "id", "-u"]).prints("0");
    let id = d.run_detached(&["busybox", "sleep", "1000"]);
    let joined = d.docker(&["run", "--rm", "--pid", &format!("container:{id}"), "busybox", "true"]).fails(125);
    assert!(joined.contains("conflicting options"), "{joined}");
}
