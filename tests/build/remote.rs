//! Sources that the daemon fetches itself: URLs, git repositories, contexts.

use super::{build, sh};
use crate::harness::image::sha256;
use crate::harness::{Client, Daemon, eventually, probe};
use crate::need;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Serves a few files on a port of its own, to the end of the test.
fn serve(files: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream, &files);
        }
    });
    base
}

fn answer(mut stream: TcpStream, files: &[(&'static str, Vec<u8>)]) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let path = request.split(' ').nth(1).unwrap_or("").to_owned();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    if path == "/moved" {
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: /a.txt\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let Some((_, body)) = files.iter().find(|(name, _)| *name == path) else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nLast-Modified: Thu, 02 Jan 2020 03:04:05 GMT\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)
}

fn archive() -> Vec<u8> {
    let mut tar = crate::harness::image::Tar::default();
    tar.file("Dockerfile", 0o644, b"FROM busybox\nCOPY . /all\n");
    tar.file(".dockerignore", 0o644, b"*.log\n!keep.log\nout\n");
    tar.file("x.log", 0o644, b"x");
    tar.file("keep.log", 0o644, b"k");
    tar.dir("out", 0o755);
    tar.file("out/y", 0o644, b"y");
    tar.finish()
}

#[test]
fn urls() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let base = serve(vec![
        ("/a.txt", b"hello\n".to_vec()),
        ("/t.tar", archive()),
        ("/df", b"FROM busybox\nRUN echo made > /made\n".to_vec()),
        ("/bin", vec![0, 1, 2]),
    ]);
    let sum = sha256(b"hello\n");
    let file = format!(
        "FROM busybox\nADD {base}/a.txt /dir/\nADD --chmod=644 --chown=3:4 --checksum=sha256:{sum} {base}/moved /b\n\
         ADD {base}/t.tar /packed\nADD --unpack=true {base}/t.tar /un\n"
    );
    build(&d, Client::Ours, "urls", &[("Dockerfile", &file)], &[]).ok();
    assert_eq!(
        sh(&d, "urls", "stat -c '%a %u:%g %Y' /dir/a.txt /b /packed; cat /b; ls -A /un | xargs"),
        "600 0:0 1577934245\n644 3:4 1577934245\n600 0:0 1577934245\nhello\n.dockerignore Dockerfile keep.log out x.log"
    );
    for (line, part) in [
        (format!("ADD --checksum=sha256:{} {base}/a.txt /a", "0".repeat(64)), "digest mismatch sha256:"),
        (format!("ADD {base}/none /a"), "invalid response status 404"),
        (format!("ADD {base}/ /a/"), "invalid response status 404"),
    ] {
        let shown = build(&d, Client::Ours, "e", &[("Dockerfile", &format!("FROM busybox\n{line}\n"))], &[]).fails(1);
        assert!(shown.contains(part), "{line}: {shown}");
    }
    // Contexts: an archive is filtered by its own rules, a text is a Dockerfile.
    for client in d.clients() {
        d.with(client, &["build", "--network", "none", "-t", "ctx", &format!("{base}/t.tar")]).ok();
        // The real client fetches it itself and sends all of it.
        let all = if client == Client::Ours { "" } else { " out x.log" };
        assert_eq!(sh(&d, "ctx", "ls -A /all | xargs"), format!(".dockerignore Dockerfile keep.log{all}"));
        d.with(client, &["build", "--network", "none", "-t", "df", &format!("{base}/df")]).ok();
        assert_eq!(sh(&d, "df", "cat /made"), "made");
    }
    d.docker(&["build", &format!("{base}/bin")]).contains("neither an archive nor a Dockerfile").fails(1);
    let (status, text) = d.api("POST", &format!("/build?remote={base}/none"), None);
    assert!(status >= 400 && text.contains("invalid response status 404"), "{status} {text}");
    d.docker_input(
        Client::Ours,
        &["build", "--network", "none", "-t", "given", "-f", "-", &format!("{base}/t.tar")],
        "FROM busybox\nCOPY keep.log /k\n",
    )
    .ok();
    assert_eq!(sh(&d, "given", "cat /k"), "k");
    // Further contexts: a folder as a root file system, an archive behind a URL.
    let named = [("Dockerfile", "FROM tree\nCOPY --from=far keep.log /from-far\n"), ("tree/bin/f", "f")];
    let flags = [format!("tree={}", d.scratch.join("named/tree").display()), format!("far={base}/t.tar")];
    build(
        &d,
        Client::Ours,
        "named",
        &named,
        &["--build-context", &flags[0], "--build-context", &flags[1], "-o", "out"],
    )
    .ok();
    let out = |path: &str| std::fs::read_to_string(d.scratch.join("out").join(path)).unwrap();
    assert_eq!((out("bin/f"), out("from-far")), ("f".into(), "k".into()));
    let folder = super::context(&d, "beside", &[("f", "beside")]).display().to_string();
    d.docker(&["build", "--network", "none", "-t", "far", "-f", &format!("{base}/df"), &folder]).ok();
    assert_eq!(sh(&d, "far", "cat /made"), "made");
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Not KILL: `git daemon` takes its real server along only when it is asked to end.
        crate::harness::daemon::signal(self.0.id(), "TERM");
        let _ = self.0.wait();
    }
}

fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]).args(args);
    let output = command.current_dir(dir).env("HOME", dir).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn repositories() {
    need!(probe::busybox(), probe::program("git", "git"));
    let d = Daemon::with_busybox();
    let repo = d.scratch.dir("git/repo");
    d.scratch.file("git/repo/Dockerfile", "FROM busybox\nCOPY . /all\n");
    d.scratch.file("git/repo/sub/Dockerfile", "FROM busybox\nCOPY . /sub\n");
    d.scratch.file("git/repo/sub/f", "first");
    git(&repo, &["init", "-q"]);
    git(&repo, &["add", "-A"]);
    git(&repo, &["commit", "-qm", "one"]);
    git(&repo, &["tag", "v1"]);
    let first = git(&repo, &["rev-parse", "HEAD"]);
    d.scratch.file("git/repo/sub/f", "second");
    git(&repo, &["commit", "-qam", "two"]);
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let base_path = format!("--base-path={}", d.scratch.join("git").display());
    let mut command = Command::new("git");
    command.args(["daemon", "--export-all", "--listen=127.0.0.1", &format!("--port={port}"), &base_path]);
    let _server = Server(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    eventually("the git daemon", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let url = format!("git://127.0.0.1:{port}/repo");
    let file = format!(
        "FROM busybox\nADD {url}#v1:sub /one\nADD --keep-git-dir=true {url} /two\nADD --checksum={first} {url}#v1 /three\n"
    );
    build(&d, Client::Ours, "git", &[("Dockerfile", &file)], &[]).ok();
    assert_eq!(
        sh(
            &d,
            "git",
            "cat /one/f /two/sub/f /three/sub/f; ls -d /two/.git /three/.git 2>/dev/null; stat -c %u:%g /one/f"
        ),
        "firstsecondfirst/two/.git\n0:0"
    );
    d.docker(&["build", "--network", "none", "-t", "ctx", &format!("{url}#v1:sub")]).ok();
    assert_eq!(sh(&d, "ctx", "cat /sub/f; ls -A /sub | xargs"), "firstDockerfile f");
    let keep = ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"];
    d.docker(&[&["build", "--network", "none", "-t", "ctx"], &keep[..], &[&url]].concat()).ok();
    sh(&d, "ctx", "test -e /all/.git");
    d.docker(&["build", &format!("{url}#none")]).contains("couldn't find remote ref none").fails(1);
    d.docker(&["build", &format!("{url}#v1:nope")]).contains("subdir not a directory: nope").fails(1);
    let mismatch = format!("FROM busybox\nADD --checksum={} {url}#v1 /x\n", "0".repeat(40));
    let shown = build(&d, Client::Ours, "bad", &[("Dockerfile", &mismatch)], &[]).fails(1);
    assert!(shown.contains("expected checksum to match"), "{shown}");
    let evil = "FROM busybox\nADD ssh://-oProxyCommand=touch/x.git /x\n";
    build(&d, Client::Ours, "evil", &[("Dockerfile", evil)], &[]).fails(1);
}
