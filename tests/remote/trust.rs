//! Whom the daemon and the client believe: validity, purpose, issuer, name, kinds of
//! keys, chains, roles. Certificates are made by openssl; what is refused is refused
//! with a sentence.

use super::free_port;
use crate::harness::daemon::signal;
use crate::harness::{Client, Daemon, Output, Scratch, eventually, probe, run};
use crate::need;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SERVER: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n";
const ELSEWHERE: &str = "subjectAltName=DNS:elsewhere.example\nextendedKeyUsage=serverAuth\n";
const CLIENT: &str = "extendedKeyUsage=clientAuth\n";
const AUTHORITY: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";
const PAST: &str = "-startdate 20200101000000Z -enddate 20200201000000Z";
const FUTURE: &str = "-startdate 20990101000000Z -enddate 20990201000000Z";
const NOW: &str = "-startdate 20200101000000Z -enddate 20990101000000Z";

fn openssl(dir: &Path, line: &str) {
    run(Command::new("openssl").current_dir(dir).args(line.split_whitespace())).ok();
}

fn key(dir: &Path, name: &str, kind: &str) {
    let how = match kind {
        "rsa" => "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
        "ec" => "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
        "ec384" => "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
        _ => "-algorithm ED25519",
    };
    openssl(dir, &format!("genpkey {how} -out {name}-key.pem"));
    std::fs::set_permissions(dir.join(format!("{name}-key.pem")), std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A folder with an authority in it.
fn authority(dir: &Path) {
    std::fs::write(
        dir.join("ca.cnf"),
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=.\ndefault_md=sha256\nrand_serial=yes\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n[req]\ndistinguished_name=n\n[n]\n",
    )
    .unwrap();
    std::fs::write(dir.join("index.txt"), "").unwrap();
    key(dir, "ca", "ec");
    openssl(dir, "req -new -x509 -days 30 -key ca-key.pem -subj /CN=ca -out ca.pem");
}

/// NAME.pem with NAME-key.pem, signed by ISSUER.pem.
fn issue(dir: &Path, name: &str, kind: &str, extensions: &str, dates: &str, issuer: &str) {
    key(dir, name, kind);
    std::fs::write(dir.join("extensions"), extensions).unwrap();
    openssl(dir, &format!("req -new -config ca.cnf -key {name}-key.pem -subj /CN={name} -out {name}.csr"));
    openssl(
        dir,
        &format!(
            "ca -batch -notext -config ca.cnf {dates} -cert {issuer}.pem -keyfile {issuer}-key.pem -in {name}.csr -out {name}.pem -extfile extensions"
        ),
    );
}

/// What the client reads: a folder of ca.pem, cert.pem, key.pem.
fn folder(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(format!("as-{name}"));
    std::fs::create_dir_all(&path).unwrap();
    for (from, to) in
        [("ca.pem".to_owned(), "ca.pem"), (format!("{name}.pem"), "cert.pem"), (format!("{name}-key.pem"), "key.pem")]
    {
        std::fs::copy(dir.join(from), path.join(to)).unwrap();
    }
    path
}

fn reaches(daemon: &Daemon, client: Client, port: u16, files: &Path, args: &[&str]) -> Output {
    let mut command = daemon.cli(client);
    command
        .env("DOCKER_HOST", format!("tcp://localhost:{port}"))
        .env("DOCKER_TLS_VERIFY", "1")
        .env("DOCKER_CERT_PATH", files);
    run(command.args(args))
}

fn flags(dir: &Path, port: u16) -> Vec<String> {
    vec![
        format!("--tlscacert={}", dir.join("ca.pem").display()),
        format!("--tlscert={}", dir.join("served.pem").display()),
        format!("--tlskey={}", dir.join("served-key.pem").display()),
        format!("-Htcp://127.0.0.1:{port}"),
    ]
}

/// Makes NAME the daemon's certificate.
fn serve(dir: &Path, name: &str) {
    for (from, to) in [(format!("{name}.pem"), "served.pem"), (format!("{name}-key.pem"), "served-key.pem")] {
        std::fs::copy(dir.join(from), dir.join(to)).unwrap();
    }
}

fn reload(daemon: &Daemon) {
    let count = || daemon.log().matches("Reloaded configuration").count();
    let before = count();
    signal(daemon.pid(), "HUP");
    eventually("the reload", || count() > before);
}

#[test]
fn clients_are_refused_with_the_reason() {
    need!(probe::program("openssl", "openssl"));
    let scratch = Scratch::new();
    let dir = scratch.path();
    authority(dir);
    issue(dir, "server", "ec", SERVER, NOW, "ca");
    serve(dir, "server");
    let port = free_port();
    let mut all = flags(dir, port);
    all.push("--tlsverify".into());
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let daemon = Daemon::start_with(&all, &[]);
    issue(dir, "good", "ec", CLIENT, NOW, "ca");
    issue(dir, "expired", "ec", CLIENT, PAST, "ca");
    issue(dir, "early", "ec", CLIENT, FUTURE, "ca");
    issue(dir, "purpose", "ec", SERVER, NOW, "ca");
    // An authority of the same name, which is not ours.
    let other = scratch.dir("other");
    authority(&other);
    issue(&other, "stranger", "ec", CLIENT, NOW, "ca");
    for file in ["stranger.pem", "stranger-key.pem"] {
        std::fs::copy(other.join(file), dir.join(file)).unwrap();
    }
    for client in daemon.clients() {
        reaches(&daemon, client, port, &folder(dir, "good"), &["version", "-f", "{{.Server.Os}}"]).prints("linux");
        for (name, log, said) in [
            ("expired", "certificate has expired or is not yet valid: current time ", "expired certificate"),
            ("early", " is before 2099-01-01T00:00:00Z", "expired certificate"),
            ("purpose", "certificate specifies an incompatible key usage", "certificate"),
            ("stranger", "x509: certificate ", "error decrypting message"),
        ] {
            let before = daemon.log().len();
            let text = reaches(&daemon, client, port, &folder(dir, name), &["ps"]).fails(1);
            assert!(text.contains("remote error: tls: ") && text.contains(said), "{client:?} {name}: {text}");
            eventually("the daemon's line", || {
                let log_now = daemon.log();
                log_now[before..].contains("http: TLS handshake error from 127.0.0.1:")
                    && log_now[before..].contains(log)
            });
        }
        // None at all, and one that lacks its key.
        let bare = scratch.dir("bare");
        std::fs::copy(dir.join("ca.pem"), bare.join("ca.pem")).unwrap();
        let text = reaches(&daemon, client, port, &bare, &["ps"]).fails(1);
        assert!(text.contains("tls"), "{client:?}: {text}");
    }
    let locked = folder(dir, "good");
    openssl(&locked, "pkey -aes256 -passout pass:x -in key.pem -out locked.pem");
    std::fs::rename(locked.join("locked.pem"), locked.join("key.pem")).unwrap();
    let text = reaches(&daemon, Client::Ours, port, &locked, &["ps"]).fails(1);
    assert!(text.contains("is encrypted") && text.contains("openssl pkey"), "{text}");
    std::fs::remove_file(locked.join("key.pem")).unwrap();
    let text = reaches(&daemon, Client::Ours, port, &locked, &["ps"]).fails(1);
    assert!(text.contains("a certificate needs its key"), "{text}");
}

/// `openssl s_server` with a certificate that no client may believe.
#[test]
fn daemons_are_refused_with_the_reason() {
    need!(probe::program("openssl", "openssl"));
    let scratch = Scratch::new();
    let dir = scratch.path();
    authority(dir);
    issue(dir, "good", "ec", CLIENT, NOW, "ca");
    let other = scratch.dir("other");
    authority(&other);
    let daemon = Daemon::prepare(&[], &[]);
    for (name, extensions, dates, from, want) in [
        ("expired", SERVER, PAST, dir, "certificate has expired"),
        ("early", SERVER, FUTURE, dir, "certificate is not yet valid"),
        ("purpose", CLIENT, NOW, dir, "certificate specifies an incompatible key usage"),
        ("name", ELSEWHERE, NOW, dir, "certificate not valid for name"),
        ("stranger", SERVER, NOW, other.as_path(), "signed by unknown authority"),
    ] {
        issue(from, name, "ec", extensions, dates, "ca");
        let port = free_port();
        let mut server = Command::new("openssl")
            .current_dir(from)
            .args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}")])
            .args(["-cert", &format!("{name}.pem"), "-key", &format!("{name}-key.pem")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("openssl's server", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        for client in daemon.clients() {
            let text = reaches(&daemon, client, port, &folder(dir, "good"), &["ps"]).fails(1);
            let known = if client == Client::Ours { want } else { "x509: certificate" };
            assert!(
                text.contains("failed to verify certificate: x509: ") && text.contains(known),
                "{client:?} {name}: {text}"
            );
        }
        let _ = server.kill();
        let _ = server.wait();
    }
}

/// Every kind of key on both sides, a chain over an intermediate authority, and
/// certificates that change under an open stream.
#[test]
fn kinds_of_keys_chains_and_a_reload_under_an_open_stream() {
    need!(probe::program("openssl", "openssl"), probe::program("curl", "curl"));
    let scratch = Scratch::new();
    let dir = scratch.path();
    authority(dir);
    for kind in ["rsa", "ec", "ec384", "ed25519"] {
        issue(dir, &format!("server-{kind}"), kind, SERVER, NOW, "ca");
        issue(dir, &format!("client-{kind}"), kind, CLIENT, NOW, "ca");
    }
    issue(dir, "middle", "ec", AUTHORITY, NOW, "ca");
    for (name, extensions) in [("server-chain", SERVER), ("client-chain", CLIENT)] {
        issue(dir, name, "ec", extensions, NOW, "middle");
        let leaf = std::fs::read_to_string(dir.join(format!("{name}.pem"))).unwrap();
        let middle = std::fs::read_to_string(dir.join("middle.pem")).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), leaf + &middle).unwrap();
    }
    serve(dir, "server-rsa");
    let port = free_port();
    let mut all = flags(dir, port);
    all.push("--tlsverify".into());
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let daemon = Daemon::start_with(&all, &[]);
    let out = scratch.join("events");
    let mut events = daemon
        .cli(Client::Ours)
        .env("DOCKER_HOST", format!("tcp://localhost:{port}"))
        .env("DOCKER_TLS_VERIFY", "1")
        .env("DOCKER_CERT_PATH", folder(dir, "client-rsa"))
        .args(["events", "--format", "{{.Action}} {{.Actor.ID}}"])
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .spawn()
        .unwrap();
    eventually("the listener", || daemon.json("GET", "/info", None)["NEventsListener"] == 1);
    for name in ["server-ec", "server-ec384", "server-ed25519", "server-chain", "server-rsa"] {
        serve(dir, name);
        reload(&daemon);
        for kind in ["rsa", "ec", "ec384", "ed25519", "chain"] {
            let files = folder(dir, &format!("client-{kind}"));
            for most in ["1.2", "1.3"] {
                let url = format!("https://localhost:{port}/_ping");
                run(Command::new("curl").current_dir(&files).args([
                    "-sS", "--cacert", "ca.pem", "--cert", "cert.pem", "--key", "key.pem", "--tls-max", most, &url,
                ]))
                .prints("OK");
            }
        }
        for client in daemon.clients() {
            let files = folder(dir, "client-chain");
            reaches(&daemon, client, port, &files, &["version", "-f", "{{.Server.Os}}"]).prints("linux");
        }
    }
    // The stream that was opened under the first certificate is still there.
    daemon.docker(&["volume", "create", "late"]).ok();
    eventually("the event", || std::fs::read_to_string(&out).unwrap_or_default().contains("create late"));
    let _ = events.kill();
    let _ = events.wait();
    let old = run(Command::new("openssl").current_dir(dir).args([
        "s_client",
        "-tls1_1",
        "-connect",
        &format!("127.0.0.1:{port}"),
    ]));
    assert_ne!(old.code, 0, "TLS 1.1 must not be spoken: {old}");
}

#[test]
fn a_read_only_certificate_looks_and_changes_nothing() {
    need!(probe::program("curl", "curl"));
    let port = free_port();
    let scratch = Scratch::new();
    let file = scratch.file("daemon.json", r#"{"tls-roles":{"watcher":"read-only"}}"#);
    let config = format!("--config-file={}", file.display());
    let mut daemon = Daemon::prepare(&["--tlsverify", "-H", &format!("tcp://127.0.0.1:{port}"), &config], &[]);
    run(daemon.command("bin/dockerd").arg("--tls-init")).ok();
    daemon.docker(&["tls", "client", "watcher"]).ok();
    daemon.up();
    let clients = daemon.scratch.join("home/.config/docker/tls/clients");
    let call = |name: &str, args: &[&str]| reaches(&daemon, Client::Ours, port, &clients.join(name), args);
    call("client", &["volume", "create", "kept"]).ok();
    call("watcher", &["volume", "ls", "-q"]).prints("kept");
    call("watcher", &["info", "-f", "{{.OSType}}"]).prints("linux");
    for args in [&["volume", "create", "x"][..], &["volume", "rm", "kept"], &["volume", "prune", "-f"]] {
        let text = call("watcher", args).fails(1);
        assert!(text.contains("the certificate of CN=watcher is read-only here"), "{args:?}: {text}");
    }
    // However the path is written.
    let files = clients.join("watcher");
    let url = format!("https://localhost:{port}/containers/kept/attach/w%73");
    let mut curl = Command::new("curl");
    curl.current_dir(&files).args(["-sS", "--cacert", "ca.pem", "--cert", "cert.pem", "--key", "key.pem", &url]);
    run(&mut curl).contains("read-only here").ok();
    eventually("the log line", || daemon.log().contains("its certificate is read-only"));
    // Everybody else, from now on.
    std::fs::write(&file, r#"{"tls-roles":{"*":"read-only","watcher":"full"}}"#).unwrap();
    reload(&daemon);
    assert_eq!(call("client", &["volume", "create", "x"]).code, 1);
    call("watcher", &["volume", "rm", "kept"]).ok();
    let mut open = daemon.command("bin/dockerd");
    let text = run(open.args(["--validate", "--tls=false", &config])).fails(1);
    assert!(text.contains("--tls-role needs client certificates"), "{text}");
    std::fs::write(&file, r#"{"tls-roles":{"a":"admin"}}"#).unwrap();
    let text = run(daemon.command("bin/dockerd").args(["--validate", "--tlsverify", &config])).fails(1);
    assert!(text.contains("invalid role \"admin\" of a: use \"full\" or \"read-only\""), "{text}");
}

/// The listener's requests are in the log with who sent them.
#[test]
fn a_debug_line_names_peer_subject_and_request() {
    let port = free_port();
    let mut daemon = Daemon::prepare(&["-D", "--tlsverify", "-H", &format!("tcp://127.0.0.1:{port}")], &[]);
    run(daemon.command("bin/dockerd").arg("--tls-init")).ok();
    daemon.up();
    let files = daemon.scratch.join("home/.config/docker/tls/clients/client");
    reaches(&daemon, Client::Ours, port, &files, &["volume", "ls"]).ok();
    eventually("the log line", || daemon.log().lines().any(|l| l.contains("/volumes")));
    let log = daemon.log();
    let line = log.lines().find(|l| l.contains("/volumes")).unwrap_or_else(|| panic!("{log}"));
    for part in ["level=debug", "handling GET request", "peer=\"127.0.0.1:", "subject=\"CN=client\""] {
        assert!(line.contains(part), "{part}: {line}");
    }
}
