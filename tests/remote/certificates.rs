//! TLS as in Docker's guide 'Protect the Docker daemon socket', made by openssl
//! step by step, used by openssl's, curl's and Docker's clients.

use crate::harness::command::run_with_input;
use crate::harness::daemon::signal;
use crate::harness::{Client, Daemon, Output, Scratch, eventually, probe, run};
use crate::need;
use std::path::{Path, PathBuf};
use std::process::Command;

fn openssl(dir: &Path, line: &str) {
    run(Command::new("openssl").current_dir(dir).args(line.split_whitespace())).ok();
}

/// CA, server and client certificates; keys of every kind that is in use.
fn guide(dir: &Path) {
    openssl(dir, "genrsa -out ca-key.pem 2048");
    openssl(dir, "req -new -x509 -days 30 -key ca-key.pem -sha256 -out ca.pem -subj /CN=ca");
    openssl(dir, "genrsa -out server-key.pem 2048");
    openssl(dir, "genpkey -algorithm ed25519 -out key.pem");
    openssl(dir, "ecparam -name prime256v1 -genkey -noout -out other-key.pem");
    std::fs::write(dir.join("server.cnf"), "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
        .unwrap();
    std::fs::write(dir.join("client.cnf"), "extendedKeyUsage=clientAuth\n").unwrap();
    for (key, out, extensions) in [
        ("server-key", "server-cert", "server"),
        ("key", "cert", "client"),
        ("other-key", "other", "client"),
        ("key", "wrong-purpose", "server"),
    ] {
        openssl(dir, &format!("req -new -key {key}.pem -subj /CN={out} -out {out}.csr"));
        openssl(
            dir,
            &format!(
                "x509 -req -days 30 -sha256 -in {out}.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out {out}.pem -extfile {extensions}.cnf"
            ),
        );
    }
    openssl(
        dir,
        "req -new -x509 -days 30 -key key.pem -out stranger.pem -subj /CN=stranger -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=clientAuth",
    );
    for key in ["ca-key", "server-key", "key", "other-key"] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir.join(format!("{key}.pem")), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

struct Secured {
    daemon: Daemon,
    dir: PathBuf,
    port: u16,
    _scratch: Scratch,
}

fn flags(dir: &Path, port: u16) -> Vec<String> {
    vec![
        "--tlsverify".into(),
        format!("--tlscacert={}", dir.join("ca.pem").display()),
        format!("--tlscert={}", dir.join("server-cert.pem").display()),
        format!("--tlskey={}", dir.join("server-key.pem").display()),
        "-H".into(),
        format!("tcp://127.0.0.1:{port}"),
    ]
}

fn secured() -> Secured {
    let scratch = Scratch::new();
    let dir = scratch.path().to_owned();
    guide(&dir);
    let port = super::free_port();
    let flags = flags(&dir, port);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Secured { daemon: Daemon::start_with(&flags, &[]), dir, port, _scratch: scratch }
}

impl Secured {
    fn curl(&self, cert: &str, key: &str, more: &[&str]) -> Output {
        let mut command = Command::new("curl");
        command.current_dir(&self.dir).args(["-sS", "--cacert", "ca.pem"]);
        if !cert.is_empty() {
            command.args(["--cert", cert, "--key", key]);
        }
        run(command.args(more).arg(format!("https://localhost:{}/_ping", self.port)))
    }
}

#[test]
fn only_who_has_a_certificate_gets_in() {
    need!(probe::program("openssl", "openssl"), probe::program("curl", "curl"));
    let s = secured();
    for version in [&[][..], &["--tls-max", "1.2"]] {
        s.curl("cert.pem", "key.pem", version).prints("OK");
        s.curl("other.pem", "other-key.pem", version).prints("OK");
        for (cert, key) in [("", ""), ("wrong-purpose.pem", "key.pem"), ("stranger.pem", "key.pem")] {
            let out = s.curl(cert, key, version);
            assert!(out.code != 0 && out.stdout.is_empty(), "{cert}: {out}");
        }
    }
    // A browser that holds a certificate shows it for every page: it proves no page's good will.
    for header in ["Origin: https://localhost.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        let out = s.curl("cert.pem", "key.pem", &["-X", "POST", "-H", header, "-w", " %{http_code}"]);
        assert!(out.stdout.contains("requests from web pages are refused") && out.stdout.ends_with(" 403"), "{out}");
    }
    // Another name would have failed in the browser's own check of our certificate.
    s.curl("cert.pem", "key.pem", &["-H", "Host: other.example"]).prints("OK");
    for why in ["didn't provide a certificate", "specifies an incompatible key usage", "signed by unknown authority"] {
        eventually(why, || s.daemon.log().contains(why));
    }
    let log = s.daemon.log();
    assert!(log.contains("http: TLS handshake error from 127.0.0.1:"), "{log}");
    assert!(!log.contains("without --tlsverify is insecure"), "{log}");
    let plain = run(Command::new("curl").args(["-sS", "--http0.9"]).arg(format!("http://127.0.0.1:{}/_ping", s.port)));
    assert!(plain.stdout.contains("Client sent an HTTP request to an HTTPS server."), "{plain}");
    if s.daemon.clients().contains(&Client::Real) {
        let mut docker = s.daemon.cli(Client::Real);
        docker
            .env("DOCKER_HOST", format!("tcp://localhost:{}", s.port))
            .env("DOCKER_TLS_VERIFY", "1")
            .env("DOCKER_CERT_PATH", &s.dir)
            .args(["version", "--format", "{{.Server.Os}}"]);
        run(&mut docker).prints("linux");
    }
}

#[test]
fn a_revoked_client_is_out_after_a_reload() {
    need!(probe::program("openssl", "openssl"), probe::program("curl", "curl"));
    let s = secured();
    s.curl("cert.pem", "key.pem", &[]).prints("OK");
    std::fs::write(
        s.dir.join("ca.cnf"),
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=30\n",
    )
    .unwrap();
    std::fs::write(s.dir.join("index.txt"), "").unwrap();
    std::fs::write(s.dir.join("crlnumber"), "01\n").unwrap();
    openssl(&s.dir, "ca -config ca.cnf -keyfile ca-key.pem -cert ca.pem -revoke cert.pem");
    openssl(&s.dir, "ca -config ca.cnf -keyfile ca-key.pem -cert ca.pem -gencrl -out crl.pem");
    signal(s.daemon.pid(), "HUP");
    eventually("the reload", || s.daemon.log().contains("Reloaded configuration"));
    assert!(s.curl("cert.pem", "key.pem", &[]).code != 0);
    eventually("the reason", || s.daemon.log().contains("certificate was revoked"));
    s.curl("other.pem", "other-key.pem", &[]).prints("OK");
}

#[test]
fn unusable_files_are_refused_with_a_sentence() {
    need!(probe::program("openssl", "openssl"));
    let daemon = Daemon::prepare(&[], &[]);
    let dir = daemon.scratch.dir("tls");
    guide(&dir);
    openssl(&dir, "pkey -aes256 -passout pass:x -in server-key.pem -out locked.pem");
    openssl(&dir, "ecparam -name secp521r1 -genkey -noout -out large-key.pem");
    openssl(&dir, "req -new -x509 -days 30 -key large-key.pem -subj /CN=localhost -out large.pem");
    let check = |cert: &str, key: &str, ca: &str| {
        let mut command = daemon.command("bin/dockerd");
        command.args(["--validate", "--tlsverify"]);
        for (flag, file) in [("--tlscert", cert), ("--tlskey", key), ("--tlscacert", ca)] {
            command.arg(format!("{flag}={}", dir.join(file).display()));
        }
        run(&mut command)
    };
    assert_eq!(check("server-cert.pem", "server-key.pem", "ca.pem").code, 0);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.join("other-key.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
    for private in ["locked.pem", "large-key.pem"] {
        std::fs::set_permissions(dir.join(private), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    for (cert, key, ca, want) in [
        ("nosuch.pem", "server-key.pem", "ca.pem", "Could not load X509 key pair"),
        ("server-cert.pem", "nosuch.pem", "ca.pem", "no such file or directory"),
        ("server-cert.pem", "key.pem", "ca.pem", "Could not load X509 key pair"),
        ("server-cert.pem", "locked.pem", "ca.pem", "is encrypted"),
        ("large.pem", "large-key.pem", "ca.pem", "ECDSA over P-256 or P-384"),
        ("other.pem", "other-key.pem", "ca.pem", "can be read by everybody"),
        ("server-cert.pem", "server-key.pem", "nosuch.pem", "could not read CA certificate"),
        ("server-cert.pem", "server-key.pem", "server.cnf", "failed to append certificates from PEM file"),
    ] {
        let text = check(cert, key, ca).fails(1);
        assert!(text.contains("invalid TLS configuration") && text.contains(want), "{want}: {text}");
    }
}

#[test]
fn one_command_instead_of_twelve() {
    need!(probe::program("openssl", "openssl"), probe::program("curl", "curl"));
    let port = super::free_port();
    let mut daemon = Daemon::prepare(&["--tlsverify", "-H", &format!("tcp://127.0.0.1:{port}")], &[]);
    let said = run(daemon.command("bin/dockerd").arg("--tls-init")).ok();
    assert!(said.contains("export DOCKER_HOST=tcp://") && said.contains("--tlsverify"), "{said}");
    let text = run(daemon.command("bin/dockerd").arg("--tls-init")).fails(1);
    assert!(text.contains("has an authority already"), "{text}");
    daemon.docker(&["tls", "client", "ann"]).ok();
    let dir = daemon.scratch.join("home/.config/docker/tls");
    // Openssl reads what we write.
    openssl(&dir, "verify -CAfile ca.pem -purpose sslserver server-cert.pem");
    openssl(&dir, "verify -CAfile ca.pem -purpose sslclient -crl_check -CRLfile crl.pem clients/ann/cert.pem");
    use std::os::unix::fs::PermissionsExt;
    for key in ["ca-key.pem", "server-key.pem", "clients/ann/key.pem"] {
        assert_eq!(std::fs::metadata(dir.join(key)).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
    }
    daemon.up();
    let curl = |name: &str| {
        let folder = dir.join("clients").join(name);
        run(Command::new("curl")
            .current_dir(&folder)
            .args(["-sS", "--cacert", "ca.pem", "--cert", "cert.pem", "--key", "key.pem"])
            .arg(format!("https://localhost:{port}/_ping")))
    };
    curl("ann").prints("OK");
    curl("client").prints("OK");
    if daemon.clients().contains(&Client::Real) {
        let mut docker = daemon.cli(Client::Real);
        docker
            .env("DOCKER_HOST", format!("tcp://127.0.0.1:{port}"))
            .env("DOCKER_TLS_VERIFY", "1")
            .env("DOCKER_CERT_PATH", dir.join("clients/ann"))
            .args(["version", "--format", "{{.Server.Os}}"]);
        run(&mut docker).prints("linux");
    }
    let said = daemon.docker(&["tls", "revoke", "ann"]).ok();
    assert!(said.contains("is shut out"), "{said}");
    eventually("the reload", || daemon.log().contains("Reloaded configuration"));
    assert_ne!(curl("ann").code, 0);
    curl("client").prints("OK");
    daemon.docker(&["tls", "ls"]).contains("revoked").ok();
    let verify = run(Command::new("openssl")
        .current_dir(&dir)
        .args("verify -CAfile ca.pem -crl_check -CRLfile crl.pem clients/ann/cert.pem".split(' ')));
    assert!(verify.code != 0 && verify.stderr.contains("revoked"), "{verify}");
}

/// Standard input's end, and output after it, through TLS.
#[test]
fn half_closed_streams_pass() {
    need!(probe::program("openssl", "openssl"), probe::busybox());
    let s = secured();
    s.daemon.load_busybox();
    for client in s.daemon.clients() {
        let mut docker = s.daemon.cli(client);
        docker
            .env("DOCKER_HOST", format!("tcp://localhost:{}", s.port))
            .env("DOCKER_TLS_VERIFY", "1")
            .env("DOCKER_CERT_PATH", &s.dir)
            .args(["run", "--rm", "-i", "--network=none", "busybox", "sh", "-c", "wc -c; sleep 0.2; echo after >&2"]);
        let out = run_with_input(&mut docker, vec![b'x'; 300_000]);
        assert!(out.stdout.trim() == "300000" && out.stderr.trim() == "after" && out.code == 0, "{client:?}: {out}");
    }
}
