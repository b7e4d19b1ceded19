//! Peers that cost: thousands that say nothing, those that drip, those whose framing
//! lies. The daemon keeps its threads, descriptors and memory, and serves the others.

use super::free_port;
use crate::harness::{Daemon, eventually, probe, run};
use crate::need;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const PING: &[u8] = b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Ten thousand, or what this process may open.
fn many() -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    // The daemon has the same limit, and keeps a quarter of it for its work.
    10_000.min(hard as usize / 3 * 2)
}

fn of(daemon: &Daemon, file: &str, field: &str) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{}/{file}", daemon.pid())).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_else(|| panic!("no {field} in {text}"));
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn threads(daemon: &Daemon) -> usize {
    of(daemon, "status", "Threads:")
}

/// What the daemon has written to, in kB.
fn dirty(daemon: &Daemon) -> usize {
    of(daemon, "smaps_rollup", "Private_Dirty:")
}

fn open_files(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count()
}

fn on_tcp() -> (Daemon, u16) {
    let port = free_port();
    (Daemon::start_with(&["-H", &format!("tcp://127.0.0.1:{port}")], &[]), port)
}

fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    stream
}

/// One whole answer without a length of its own kind: up to the end, or to `OK`.
fn pinged(stream: &mut (impl Read + Write)) {
    stream.write_all(PING).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.ends_with(b"\r\n\r\nOK") {
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..n]);
    }
}

fn said(port: u16, bytes: &[u8]) -> String {
    let mut stream = tcp(port);
    // A refused peer's connection may end before it has said everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// They have all asked once, and then say nothing.
fn idle<S: Read + Write>(daemon: &Daemon, open: impl Fn() -> S, others: impl Fn()) {
    let count = many();
    let (files, before) = (open_files(daemon), dirty(daemon));
    let mut silent: Vec<S> = Vec::new();
    for _ in 0..count {
        silent.push(open());
        pinged(silent.last_mut().unwrap());
    }
    eventually("the threads' end", || threads(daemon) < 64);
    assert!(open_files(daemon) >= count, "{} of {count}", open_files(daemon));
    let each = dirty(daemon).saturating_sub(before) * 1024 / count;
    assert!(each < 4096, "{each} bytes for an idle connection");
    others();
    // Each is still served: the youngest, because it waits for 90 seconds at most.
    pinged(silent.last_mut().unwrap());
    drop(silent);
    eventually("the descriptors' end", || open_files(daemon) < files + 64);
}

#[test]
fn ten_thousand_idle_connections() {
    let (daemon, port) = on_tcp();
    let socket = daemon.socket();
    let others = || {
        assert!(said(port, b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ends_with("OK"));
        daemon.docker(&["version", "-f", "{{.Server.Os}}"]).prints("linux");
    };
    idle(&daemon, || tcp(port), others);
    idle(&daemon, || UnixStream::connect(&socket).unwrap(), others);
}

/// Connections that never say a word, and more of them than the daemon may open.
#[test]
fn more_connections_than_descriptors() {
    let port = free_port();
    let mut daemon = Daemon::prepare(&["-H", &format!("tcp://127.0.0.1:{port}")], &[]);
    let script = "ulimit -n 256; exec \"$0\" \"$@\"";
    let dockerd = daemon.dockerd();
    let mut limited = daemon.command("/bin/sh");
    limited.args(["-c", script]).arg(dockerd.get_program()).args(dockerd.get_args());
    daemon.up_as(limited);
    assert!(daemon.log().contains("few descriptors are allowed"), "{}", daemon.log());
    let mut silent: Vec<TcpStream> = (0..1000).map(|_| tcp(port)).collect();
    daemon.docker(&["version", "-f", "{{.Server.Os}}"]).prints("linux");
    // Its own work still finds descriptors.
    daemon.docker(&["volume", "create", "vol"]).ok();
    assert!(open_files(&daemon) < 256, "{}", open_files(&daemon));
    // The oldest had to go, the youngest is served.
    assert_eq!(silent[0].read(&mut [0]).unwrap_or(0), 0);
    pinged(silent.last_mut().unwrap());
}

/// Heads and bodies that come byte by byte.
#[test]
fn dripping_peers_hold_no_threads() {
    let (daemon, port) = on_tcp();
    let before = dirty(&daemon);
    let mut drips: Vec<TcpStream> = (0..2000).map(|_| tcp(port)).collect();
    for byte in b"GET /_pi" {
        for stream in &mut drips {
            // On a busy machine some have met the head's deadline before their last byte.
            let _ = stream.write_all(&[*byte]);
        }
    }
    assert!(said(port, b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ends_with("OK"));
    assert!(threads(&daemon) < 64, "{}", threads(&daemon));
    let each = dirty(&daemon).saturating_sub(before) * 1024 / drips.len();
    assert!(each < 8192, "{each} bytes for a dripping connection");
    // The head's deadline ends them, with an answer.
    let mut answer = String::new();
    let mut one = tcp(port);
    one.write_all(b"GET /_pi").unwrap();
    one.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    drop(drips);
    // A body keeps its thread: when there are no more, the slowest peer goes.
    let post = "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{";
    let mut bodies = Vec::new();
    for _ in 0..2200 {
        let mut stream = tcp(port);
        stream.write_all(post.as_bytes()).unwrap();
        bodies.push(stream);
    }
    assert!(said(port, b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ends_with("OK"));
    assert!(threads(&daemon) < 2200, "{}", threads(&daemon));
    daemon.docker(&["version", "-f", "{{.Server.Os}}"]).prints("linux");
}

#[test]
fn endless_heads_are_cut_off() {
    let (daemon, port) = on_tcp();
    let before = dirty(&daemon);
    let line = format!("X-{}: y\r\n", "a".repeat(1000));
    let head = format!("GET /_ping HTTP/1.1\r\nHost: x\r\n{}", line.repeat(120));
    // Each is a whole one but for its last line end: 24 MB, more than all may hold.
    let mut streams: Vec<TcpStream> = Vec::new();
    for _ in 0..200 {
        let mut stream = tcp(port);
        let _ = stream.write_all(head.as_bytes());
        streams.push(stream);
    }
    assert!(said(port, b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ends_with("OK"));
    let held = dirty(&daemon).saturating_sub(before);
    assert!(held < 40_000, "{held} kB");
    drop(streams);
    for endless in [line.repeat(1000), format!("X: {}", "a".repeat(1_000_000))] {
        let answer = said(port, format!("GET /_ping HTTP/1.1\r\nHost: x\r\n{endless}").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    }
    let answer = said(port, "\r\n".repeat(200_000).as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
}

#[test]
fn framing_that_lies_is_refused_and_nothing_behind_it_is_believed() {
    let (daemon, port) = on_tcp();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for framing in [
        "Content-Length: -1",
        "Content-Length: 99999999999999999999999999",
        "Content-Length: 4\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 0",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "Content-Length: 0\n",
    ] {
        let text = format!("POST /volumes/create HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n{smuggled}");
        let answer = said(port, text.as_bytes());
        assert!(matches!(answer.get(..13), Some("HTTP/1.1 400 " | "HTTP/1.1 501 ")), "{framing}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{framing}: {answer}");
    }
    for size in ["ffffffffffffffff", "fffffffffffffffe", "7fffffffffffffff", "-1", "0x4", "10000000000000000", " 4", ""]
    {
        let text = format!(
            "POST /volumes/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n{{}}\r\n0\r\n\r\n{smuggled}"
        );
        let answer = said(port, text.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{size:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{size:?}: {answer}");
    }
    assert_eq!(daemon.docker(&["volume", "ls", "-q"]).ok(), "");
    // A body of nearly 2^60 bytes costs what arrives of it.
    let before = dirty(&daemon);
    let huge = "POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999999999\r\n\r\nabc";
    let mut streams: Vec<TcpStream> = (0..20).map(|_| tcp(port)).collect();
    for stream in &mut streams {
        stream.write_all(huge.as_bytes()).unwrap();
    }
    assert!(said(port, b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ends_with("OK"));
    assert!(dirty(&daemon) < before + 20_000);
}

#[test]
fn pipelined_and_half_closed_requests_are_answered() {
    let (daemon, port) = on_tcp();
    let mut stream = tcp(port);
    stream.write_all(&PING.repeat(100)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 100, "{answer}");
    // The other half first: nobody reads, somebody is served.
    let deaf = tcp(port);
    deaf.shutdown(Shutdown::Read).unwrap();
    (&deaf).write_all(&PING.repeat(1000)).unwrap();
    let mut garbage = Vec::new();
    let mut state = 7u64;
    for _ in 0..200 {
        garbage.clear();
        for _ in 0..512 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            garbage.push((state >> 33) as u8);
        }
        let _ = tcp(port).write_all(&garbage);
        let _ = UnixStream::connect(daemon.socket()).unwrap().write_all(&garbage);
    }
    pinged(&mut tcp(port));
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

fn secured() -> (Daemon, u16) {
    let port = free_port();
    let mut daemon = Daemon::prepare(&["--tlsverify", "-H", &format!("tcp://127.0.0.1:{port}")], &[]);
    run(daemon.command("bin/dockerd").arg("--tls-init")).ok();
    daemon.up();
    (daemon, port)
}

fn client_config(files: &Path) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(files.join("ca.pem")).unwrap()).unwrap();
    let chain = CertificateDer::pem_file_iter(files.join("cert.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(files.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap())
}

#[test]
fn idle_sessions_and_garbage_behind_tls() {
    let (daemon, port) = secured();
    let config = client_config(&daemon.scratch.join("home/.config/docker/tls/clients/client"));
    let open = || {
        let connection = rustls::ClientConnection::new(config.clone(), ServerName::try_from("localhost").unwrap());
        rustls::StreamOwned::new(connection.unwrap(), tcp(port))
    };
    pinged(&mut open());
    let (files, before) = (open_files(&daemon), dirty(&daemon));
    let count = 300;
    let mut silent = Vec::new();
    for _ in 0..count {
        silent.push(open());
        pinged(silent.last_mut().unwrap());
    }
    // Those who do not even begin a handshake, and those who do not end it.
    let mut mute: Vec<TcpStream> = (0..300).map(|_| tcp(port)).collect();
    for stream in mute.iter_mut().skip(200) {
        stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00").unwrap();
    }
    // Each unfinished handshake has a thread for its ten seconds, nothing else has.
    eventually("the threads' end", || threads(&daemon) < 300);
    assert!(open_files(&daemon) >= count, "{}", open_files(&daemon));
    let each = dirty(&daemon).saturating_sub(before) * 1024 / count;
    assert!(each < 40 * 1024, "{each} bytes for an idle session");
    pinged(silent.last_mut().unwrap());
    pinged(&mut open());
    drop((silent, mute));
    // Garbage instead of a handshake, and inside a session.
    for piece in
        [&b"\x16\x03\x01\x40\x00"[..], b"\x80\x2e\x01\x03\x01", b"\x17\x03\x03\x00\x00", b"\0\0\0\0\0\0\0\0", PING]
    {
        let _ = said(port, piece);
    }
    let mut session = open();
    pinged(&mut session);
    session.sock.write_all(b"\x17\x03\x03\x00\x20nothing that was ever encrypted!").unwrap();
    assert!(matches!(session.read(&mut [0; 64]), Ok(0) | Err(_)));
    pinged(&mut open());
    eventually("the descriptors' end", || open_files(&daemon) < files + 64);
}

#[test]
fn renegotiation_is_refused() {
    need!(probe::program("openssl", "openssl"));
    let (daemon, port) = secured();
    let files = daemon.scratch.join("home/.config/docker/tls/clients/client");
    let mut client = Command::new("openssl")
        .current_dir(&files)
        .args("s_client -tls1_2 -CAfile ca.pem -cert cert.pem -key key.pem -connect".split(' '))
        .arg(format!("127.0.0.1:{port}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One R on a line of its own is openssl's command for it.
    let mut input = client.stdin.take().unwrap();
    let mut answer = client.stdout.take().unwrap();
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains("Verify return code: 0") {
        let n = answer.read(&mut piece).unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..n]);
    }
    input.write_all(b"R\n").unwrap();
    let mut said = String::new();
    client.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let _ = client.kill();
    let _ = client.wait();
    assert!(said.contains("RENEGOTIATING") && said.contains("no renegotiation"), "{said}");
    daemon.docker(&["version", "-f", "{{.Server.Os}}"]).prints("linux");
}
