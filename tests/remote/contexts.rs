//! Contexts on disk, shared with the original client, and a daemon that is reached
//! through ssh: a stand-in for the ssh program runs the remote command here, so that
//! both clients and our `docker system dial-stdio` meet without a server.

use crate::harness::{Client, Daemon, Output, Scratch, probe, run};
use crate::need;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A client that sees nothing but `dir`.
fn client(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", dir.display()))
        .env("HOME", dir)
        .current_dir(dir)
        .stdin(Stdio::null());
    command
}

fn ours(dir: &Path, args: &[&str]) -> Output {
    let docker = dir.join("docker");
    if !docker.exists() {
        std::os::unix::fs::symlink(crate::harness::daemon::binary(), &docker).unwrap();
    }
    run(client(&docker, dir).args(args))
}

#[test]
fn contexts_come_and_go() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    ours(dir, &["context", "create", "lab", "--description", "d", "--docker", "host=tcp://lab:2376"]).prints("lab");
    ours(dir, &["context", "use", "lab"]).prints("lab");
    ours(dir, &["context", "show"]).prints("lab");
    assert!(ours(dir, &["context", "rm", "lab"]).fails(1).contains("is in use, set -f flag to force remove"));
    ours(dir, &["context", "export", "lab", "lab.tar"]).ok();
    ours(dir, &["context", "import", "copy", "lab.tar"]).prints("copy");
    ours(dir, &["context", "inspect", "copy", "-f", "{{.Endpoints.docker.Host}} {{.Metadata.Description}}"])
        .prints("tcp://lab:2376 d");
    ours(dir, &["context", "rm", "-f", "lab"]).ok();
    ours(dir, &["context", "show"]).prints("default");
    ours(dir, &["context", "ls", "-q"]).prints("copy\ndefault");
    let text = ours(dir, &["--context", "nosuch", "ps"]).fails(1);
    assert!(text.contains("unable to resolve docker endpoint: context \"nosuch\": context not found"), "{text}");
    let text = ours(dir, &["--context", "copy", "-H", "unix:///x", "ps"]).fails(1);
    assert!(text.contains("conflicting options: cannot specify both --host and --context"), "{text}");
}

#[test]
fn the_original_reads_our_contexts() {
    need!(probe::real_docker());
    let scratch = Scratch::new();
    let dir = scratch.path();
    let original = probe::real_docker_path();
    ours(dir, &["context", "create", "lab", "--docker", "host=tcp://lab:2376"]).ok();
    run(client(&original, dir).args(["context", "inspect", "lab", "-f", "{{.Endpoints.docker.Host}}"]))
        .prints("tcp://lab:2376");
    run(client(&original, dir).args(["context", "create", "theirs", "--docker", "host=ssh://u@h"])).ok();
    ours(dir, &["context", "inspect", "theirs", "-f", "{{.Endpoints.docker.Host}}"]).prints("ssh://u@h");
}

#[test]
fn through_ssh_with_both_clients() {
    let daemon = Daemon::start();
    let scratch = Scratch::new();
    let dir = scratch.path();
    ours(dir, &["context", "create", "far", "--docker", "host=ssh://u@board"]).ok();
    let ssh = scratch.file(
        "ssh",
        format!(
            "#!/bin/sh\necho \"$*\" >>{0}/ssh.log\nwhile [ $# -gt 0 ] && [ \"$1\" != -- ]; do shift; done\nshift 2\nexec env DOCKER_HOST={1} PATH={0}:$PATH \"$@\"\n",
            dir.display(),
            daemon.host(),
        ),
    );
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    ours(dir, &["--context", "far", "version", "-f", "{{.Server.Os}}"]).prints("linux");
    for program in [dir.join("docker"), probe::real_docker_path()] {
        if program.exists() {
            run(client(&program, dir).args(["-H", "ssh://u@board", "volume", "create", "vol"])).prints("vol");
            run(client(&program, dir).args(["-H", "ssh://u@board", "volume", "rm", "vol"])).prints("vol");
        }
    }
    let log = fs::read_to_string(dir.join("ssh.log")).unwrap();
    assert!(log.lines().all(|l| l.ends_with("-l u -- board docker system dial-stdio")), "{log}");
    daemon.with(Client::Ours, &["volume", "ls", "-q"]).prints("");
}

/// A context with certificates goes from one client to the other and back, and works.
#[test]
fn tls_material_travels_between_both_clients() {
    need!(probe::real_docker());
    let port = super::free_port();
    let mut daemon = Daemon::prepare(&["--tlsverify", "-H", &format!("tcp://127.0.0.1:{port}")], &[]);
    run(daemon.command("bin/dockerd").arg("--tls-init")).ok();
    daemon.up();
    let certs = daemon.scratch.join("home/.config/docker/tls/clients/client");
    let certs = certs.display();
    let endpoint = format!("host=tcp://localhost:{port},ca={certs}/ca.pem,cert={certs}/cert.pem,key={certs}/key.pem");
    let scratch = Scratch::new();
    let programs = [crate::harness::daemon::binary(), probe::real_docker_path()];
    for (n, (from, to)) in [(0, 1), (1, 0), (0, 0)].into_iter().enumerate() {
        let dirs = [scratch.dir(&format!("from-{n}")), scratch.dir(&format!("to-{n}"))];
        // The role is the name: the binary under test is called docker here.
        let call = |side: usize, program: usize, args: &[&str]| {
            let docker = dirs[side].join("docker");
            if !docker.exists() {
                std::os::unix::fs::symlink(&programs[program], &docker).unwrap();
            }
            let program = if program == 0 { docker } else { programs[1].clone() };
            run(client(&program, &dirs[side]).args(args))
        };
        call(0, from, &["context", "create", "lab", "--docker", &endpoint]).ok();
        call(0, from, &["--context", "lab", "version", "-f", "{{.Server.Os}}"]).prints("linux");
        let file = scratch.join(format!("lab-{n}.tar"));
        let file = file.to_str().unwrap();
        call(0, from, &["context", "export", "lab", file]).ok();
        call(1, to, &["context", "import", "moved", file]).ok();
        call(1, to, &["context", "use", "moved"]).ok();
        call(1, to, &["context", "show"]).prints("moved");
        call(1, to, &["version", "-f", "{{.Server.Os}}"]).prints("linux");
        // The key is nobody else's, in the archive and in the store.
        let stored = call(1, to, &["context", "inspect", "moved", "-f", "{{.Storage.TLSPath}}"]).ok();
        let key = Path::new(stored.trim()).join("docker/key.pem");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o077, 0, "{key:?}");
        let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        // The daemon's name is checked unless the context says otherwise.
        let skip = format!("host=tcp://127.0.0.2:{port},ca={certs}/ca.pem");
        call(1, to, &["context", "update", "moved", "--docker", &format!("{skip},skip-tls-verify=true")]).ok();
        call(1, to, &["context", "inspect", "moved", "-f", "{{.Endpoints.docker.SkipTLSVerify}}"]).prints("true");
    }
}

#[test]
fn version_and_headers_by_environment_and_configuration() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("tcp://{}", listener.local_addr().unwrap());
    fs::create_dir(dir.join(".docker")).unwrap();
    fs::write(dir.join(".docker/config.json"), r#"{"HttpHeaders":{"X-Site":"lab","User-Agent":"ours/1"}}"#).unwrap();
    let heads = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let mut heads = String::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let mut piece = [0; 1024];
            while !bytes.ends_with(b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(n) if n > 0 => bytes.extend_from_slice(&piece[..n]),
                    _ => break,
                }
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let done = text.starts_with("GET /end");
            heads.push_str(&text);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]");
            if done {
                return heads;
            }
        }
        heads
    });
    let mut count = 0;
    for program in [dir.join("docker"), probe::real_docker_path()] {
        ours(dir, &["--version"]).ok();
        if program.exists() {
            let mut command = client(&program, dir);
            command.env("DOCKER_HOST", &host).env("DOCKER_API_VERSION", "1.44").arg("images");
            run(command.arg("-q")).prints("");
            // As fields of CSV, in the place of those of the file.
            run(command.env("DOCKER_CUSTOM_HEADERS", "X-Env=1,\"X-Other=b,c\"")).prints("");
            count += 1;
        }
    }
    run(Command::new("curl").args(["-s", &format!("{}/end", host.replace("tcp", "http"))])).prints("[]");
    let heads = heads.join().unwrap();
    let asked: Vec<&str> = heads.split("\r\n\r\n").filter(|h| h.starts_with("GET /v1.44/images/json")).collect();
    assert_eq!(asked.len(), 2 * count, "{heads}");
    for pair in asked.chunks(2) {
        assert!(pair[0].contains("X-Site: lab") && !pair[0].contains("X-Env"), "{heads}");
        assert!(
            pair[1].contains("X-Env: 1") && pair[1].contains("X-Other: b,c") && !pair[1].contains("X-Site"),
            "{heads}"
        );
        assert!(!pair[0].contains("ours/1"), "the user agent is the client's own: {heads}");
    }
}
