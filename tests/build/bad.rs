//! Bad input: contexts and Dockerfiles that are none, commands that do not behave.

use super::{build, sh};
use crate::harness::daemon::{comes_clean, processes_of};
use crate::harness::image::Tar;
use crate::harness::{Client, Daemon, eventually, probe};
use crate::need;
use std::io::Write as _;
use std::process::Stdio;
use tar::EntryType;

/// Nothing of a build is left: no container, no folder, no mount.
fn clean(d: &Daemon) {
    d.docker(&["ps", "-aq"]).prints("");
    let left = |dir: &str| {
        let entries = std::fs::read_dir(d.scratch.join(dir)).unwrap();
        entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("build-")).count()
    };
    eventually("no files of a build", || left("data/tmp") == 0 && left("run/x") == 0);
}

#[test]
fn dockerfiles_that_are_none() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for (n, (kind, link, part)) in [
        (EntryType::Fifo, "", "the Dockerfile Dockerfile is not a regular file"),
        (EntryType::Directory, "", "the Dockerfile Dockerfile is not a regular file"),
        (EntryType::Char, "", "Cannot locate specified Dockerfile"),
        (EntryType::Symlink, "/etc/passwd", "Cannot locate specified Dockerfile"),
        (EntryType::Symlink, "../../../../etc/passwd", "Cannot locate specified Dockerfile"),
        (EntryType::Symlink, "Dockerfile", "too many levels of symbolic links"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut tar = Tar::default();
        tar.entry("Dockerfile", kind, 0o644, link, b"");
        let shown = d.docker_input(Client::Ours, &["build", "-"], tar.finish()).fails(1);
        assert!(shown.contains(part), "{n}: {shown}");
    }
    let mut binary = Tar::default();
    binary.file("Dockerfile", 0o644, b"FROM busybox\nRUN \xff\xfe\n");
    d.docker_input(Client::Ours, &["build", "-"], binary.finish()).contains("is not UTF-8").fails(1);
    // What the client itself sees.
    let folder = super::context(&d, "c", &[("f", "x")]).display().to_string();
    d.docker(&["build", "-f", "/dev/zero", &folder]).contains("is not a regular file").fails(1);
    d.docker(&["build", "-f", "/nosuch", &folder]).contains("no such file or directory").fails(1);
    d.docker(&["build", "/nosuch"]).contains("path \"/nosuch\" not found").fails(1);
    // A fifo is never opened, not by the client either.
    let folder = super::context(&d, "fifo", &[("f", "x")]);
    crate::harness::run(std::process::Command::new("mkfifo").arg(folder.join("Dockerfile"))).ok();
    let folder = folder.display().to_string();
    d.docker(&["build", &folder]).contains("Cannot locate specified Dockerfile").fails(1);
    d.docker(&["build", "-f", &format!("{folder}/Dockerfile"), &folder]).contains("Cannot locate").fails(1);
    clean(&d);
}

#[test]
fn hostile_contexts() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for name in ["../out", "/../../out", "a/../../out"] {
        let mut tar = Tar::default();
        tar.file("Dockerfile", 0o644, b"FROM busybox\n");
        tar.file(name, 0o644, b"x");
        let _ = d.docker_input(Client::Ours, &["build", "-"], tar.finish());
        assert!(!d.scratch.join("data/tmp/out").exists() && !d.scratch.join("data/out").exists(), "{name}");
    }
    // Whiteouts of a layer mean nothing here: names are names, and cannot be copied.
    let mut tar = Tar::default();
    tar.file("Dockerfile", 0o644, b"FROM busybox\nCOPY kept /\n");
    tar.file("kept", 0o644, b"k");
    tar.file(".wh.kept", 0o644, b"");
    d.docker_input(Client::Ours, &["build", "--network", "none", "-t", "kept", "-"], tar.finish()).ok();
    assert_eq!(sh(&d, "kept", "cat /kept"), "k");
    // A link that leads out leads to what the context has there: nothing.
    let mut tar = Tar::default();
    tar.file("Dockerfile", 0o644, b"FROM busybox\nCOPY out/passwd /x\n");
    tar.symlink("out", "/etc");
    d.docker_input(Client::Ours, &["build", "-"], tar.finish()).contains("file not found in build context").fails(1);
    let mut cut = Tar::default();
    cut.file("Dockerfile", 0o644, &vec![b'#'; 100_000]);
    let cut = cut.finish()[..50_000].to_vec();
    d.docker_input(Client::Ours, &["build", "-"], cut).contains("Error processing tar file").fails(1);
    clean(&d);
}

#[test]
fn commands_that_do_not_behave() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let file = "FROM busybox\n\
        RUN exec >&- 2>&-; touch /closed; exit 0\n\
        RUN for i in $(seq 50); do (trap '' TERM HUP INT; sleep 1000) & done; touch /forked\n\
        RUN nohup sleep 1000 >/dev/null 2>&1 & touch /daemon\n\
        RUN yes | head -c 3000000; touch /loud\n\
        RUN printf 'no newline \\377\\376'; touch /binary\n\
        RUN ln -s / /self && mkdir -p /deep/$(seq -s/ 60)\n";
    build(&d, Client::Ours, "wild", &[("Dockerfile", file)], &[]).ok();
    sh(&d, "wild", "ls -d /closed /forked /daemon /loud /binary /deep/1/2/3");
    let late = "FROM busybox\nRUN exec >&- 2>&-; exit 3\n";
    build(&d, Client::Ours, "late", &[("Dockerfile", late)], &[]).contains("exit code: 3").fails(1);
    let absent = "FROM busybox\nRUN [\"/nosuch\"]\n";
    build(&d, Client::Ours, "absent", &[("Dockerfile", absent)], &[]).contains("no such file or directory").fails(1);
    clean(&d);
}

/// A client that goes away takes its stages along, also those that ignore signals.
#[test]
fn cancelling_ends_what_ignores_signals() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let stubborn = "RUN trap '' TERM INT HUP; touch /begun; while :; do sleep 1; done\n";
    let file = format!(
        "FROM busybox AS a\n{stubborn}FROM busybox AS b\n{stubborn}FROM busybox\nCOPY --from=a /x /\nCOPY --from=b /x /\n"
    );
    let folder = super::context(&d, "stubborn", &[("Dockerfile", &file)]);
    let mut command = d.cli(Client::Ours);
    command.args(["build", "--network", "none"]).arg(&folder).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // Independent stages run at the same time.
    eventually("both stages", || d.docker(&["ps", "-q"]).ok().lines().count() == 2);
    crate::harness::daemon::signal(child.id(), "INT");
    child.wait().unwrap();
    eventually("no container", || d.docker(&["ps", "-aq"]).ok().is_empty());
    clean(&d);
}

/// A request whose connection closes: the step with its network, its secrets' folder and
/// its half layer go; the step before it stays and counts.
#[test]
fn a_connection_that_closes() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let mounts = || std::fs::read_to_string(format!("/proc/{}/mountinfo", d.pid())).unwrap().lines().count();
    let before = (mounts(), d.docker(&["network", "inspect", "-f", "{{.Containers}}", "bridge"]).ok());
    let steps = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /first\n";
    let mut tar = Tar::default();
    let file = format!("{steps}RUN --mount=type=cache,target=/c touch /half /c/half; sleep 1000 & sleep 1000\n");
    tar.file("Dockerfile", 0o644, file.as_bytes());
    let body = tar.finish();
    let mut socket = std::os::unix::net::UnixStream::connect(d.socket()).unwrap();
    let head = format!("POST /build HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n", body.len());
    socket.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    eventually("the second step", || {
        let id = d.docker(&["ps", "-q"]).ok().trim().to_owned();
        !id.is_empty() && d.docker(&["top", &id]).stdout.matches("sleep 1000").count() == 2
    });
    drop(socket);
    eventually("no container", || d.docker(&["ps", "-aq"]).ok().is_empty());
    let left = || processes_of(d.scratch.path()).into_iter().filter(|pid| comm(*pid) == "sleep").count();
    eventually("no process", || left() == 0);
    eventually("no network, no mount", || {
        (mounts(), d.docker(&["network", "inspect", "-f", "{{.Containers}}", "bridge"]).ok()) == before
    });
    clean(&d);
    comes_clean(&d);
    // The cache has the first step and not the second.
    let half = format!("{steps}RUN --mount=type=cache,target=/c test ! -e /half && test -e /c/half\n");
    let folder = super::context(&d, "after", &[("Dockerfile", &half)]).display().to_string();
    let shown = d.docker(&["build", &folder]);
    assert!(shown.code == 0 && shown.stderr.matches("CACHED").count() == 1, "{shown}");
}

/// Many thousand processes end with the client that wanted them.
#[test]
fn a_command_that_forks_without_end() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let file =
        "FROM busybox\nRUN i=0; while [ $i -lt 3000 ]; do (trap '' TERM INT; sleep 1000) & i=$((i+1)); done; wait\n";
    let folder = super::context(&d, "forks", &[("Dockerfile", file)]);
    let mut command = d.cli(Client::Ours);
    command.args(["build", "--network", "none"]).arg(&folder).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    eventually("its container", || !d.docker(&["ps", "-q"]).ok().is_empty());
    let id = d.docker(&["ps", "-q"]).ok().trim().to_owned();
    eventually("hundreds of processes", || d.docker(&["top", &id]).stdout.lines().count() > 200);
    crate::harness::daemon::signal(child.id(), "INT");
    child.wait().unwrap();
    eventually("no container", || d.docker(&["ps", "-aq"]).ok().is_empty());
    let left = || processes_of(d.scratch.path()).into_iter().filter(|pid| comm(*pid) == "sleep").count();
    eventually("no process", || left() == 0);
    clean(&d);
}

fn comm(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The processes around a step die: the step goes on, and its layer is right.
#[test]
fn killed_beside_a_step() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let file = "FROM busybox\nARG N\nRUN while ! test -e /go; do sleep 0.05; done; rm /go; echo $N > /done\n";
    let folder = super::context(&d, "beside", &[("Dockerfile", file)]).display().to_string();
    for victim in ["coracle-spawner", "coracle-shim"] {
        let mut command = d.cli(Client::Ours);
        let arg = format!("N={victim}");
        command.args(["build", "--network", "none", "-q", "-t", "beside", "--build-arg", &arg, &folder]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let running = || d.docker(&["ps", "-q"]).ok().trim().to_owned();
        eventually("its step", || !running().is_empty() && d.docker(&["top", &running()]).stdout.contains("sleep"));
        for pid in processes_of(d.scratch.path()).into_iter().filter(|pid| comm(*pid) == victim) {
            crate::harness::daemon::signal(pid, "KILL");
        }
        d.docker(&["exec", &running(), "touch", "/go"]).ok();
        assert!(child.wait().unwrap().success(), "{victim}");
        assert_eq!(sh(&d, "beside", "cat /done"), victim);
        clean(&d);
    }
    comes_clean(&d);
}

/// What is in no step's reach costs no memory, however many files it is.
#[test]
fn tens_of_thousands_of_files() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let mut tar = Tar::default();
    tar.file("Dockerfile", 0o644, b"FROM scratch\nCOPY d7 /d7\n");
    for n in 0..30_000 {
        tar.file(&format!("d{}/f{n}", n / 100), 0o644, b"x");
    }
    let peak = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", d.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let before = peak();
    d.docker_input(Client::Ours, &["build", "-q", "-t", "many", "-"], tar.finish()).ok();
    let grown = peak().saturating_sub(before);
    assert!(grown < 8 << 10, "the daemon grew by {grown} kB");
    // And what is copied costs some hundred bytes a file, until its layer is there.
    let mut tar = Tar::default();
    tar.file("Dockerfile", 0o644, b"FROM scratch\nCOPY . /all\n");
    for n in 0..30_000 {
        tar.file(&format!("d{}/f{n}", n / 100), 0o644, b"x");
    }
    d.docker_input(Client::Ours, &["build", "-q", "-t", "all", "-"], tar.finish()).ok();
    let grown = peak().saturating_sub(before);
    assert!(grown < 14 << 10, "the daemon grew by {grown} kB");
    clean(&d);
}

/// A daemon that is killed in the middle leaves no half layer, and its cache is right.
#[test]
fn a_killed_daemon() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let file =
        "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /first\nRUN test -e /go || sleep 1000; touch /second\n";
    let files = [("Dockerfile", file)];
    let folder = super::context(&d, "crash", &files);
    let mut command = d.cli(Client::Ours);
    command.args(["build", "--network", "none"]).arg(&folder).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    eventually("the second step", || {
        let id = d.docker(&["ps", "-q"]).ok().trim().to_owned();
        !id.is_empty() && d.docker(&["top", &id]).stdout.contains("sleep 1000")
    });
    let first = d.json("GET", "/system/df", None)["BuildCache"][0]["ID"].clone();
    d.kill();
    child.wait().unwrap();
    d.up();
    eventually("no container", || d.docker(&["ps", "-aq"]).ok().is_empty());
    clean(&d);
    let rows = d.json("GET", "/system/df", None)["BuildCache"].clone();
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["ID"]), (1, &first), "{rows}");
    let half = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /first\n";
    build(&d, Client::Ours, "half", &[("Dockerfile", half)], &[]).contains("CACHED").ok();
    assert_eq!(sh(&d, "half", "wc -l < /first"), "1");
}

/// Layers as copies, for hosts without overlay: the same trees come out.
#[test]
fn the_copying_driver() {
    need!(probe::busybox());
    let d = Daemon::start_with(&["--storage-driver", "vfs"], &[]);
    d.load_busybox();
    d.scratch.file("token", "t");
    let file = "FROM busybox AS a\nRUN mkdir /d && echo 1 > /d/a && echo 2 > /d/b\nFROM a\n\
        RUN --mount=type=cache,target=/cache/x --mount=type=secret,id=s --mount=type=tmpfs,target=/tmp rm /d/a; echo 3 > /d/c\n\
        COPY --from=a /d/a /back\nWORKDIR /w\nRUN rm -r /d && mkdir /d && touch /d/new\n";
    let secret = format!("id=s,src={}", d.scratch.join("token").display());
    build(&d, Client::Ours, "vfs", &[("Dockerfile", file)], &["--secret", &secret]).ok();
    assert_eq!(sh(&d, "vfs", "cat /back; ls /d; ls -d /cache /run /tmp /w 2>/dev/null | xargs"), "1\nnew\n/tmp /w");
    clean(&d);
}
