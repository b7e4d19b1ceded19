//! A daemon behind a proxy: the name `far` is known to the proxy alone, which is a thread
//! of the test and leads every way to one daemon.

use super::free_port;
use crate::harness::{Client, Daemon, Output, eventually, probe, run};
use crate::need;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// First lines of what it was asked, `SOCKS host:port` for the other protocol.
type Asked = Arc<Mutex<Vec<String>>>;

fn read_until(stream: &mut TcpStream, end: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(end) {
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    Some(bytes)
}

fn splice(one: TcpStream, other: TcpStream) {
    let (mut from, mut to) = (one.try_clone().unwrap(), other.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (other, one);
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = back.join();
}

/// Plain requests carry the whole URL and the password; it answers as a proxy does.
fn http(mut client: TcpStream, daemon: u16, asked: &Asked) -> Option<()> {
    let head = String::from_utf8(read_until(&mut client, b"\r\n\r\n")?).ok()?;
    let line = head.lines().next()?.to_owned();
    asked.lock().unwrap().push(line.clone());
    if !head.contains("Proxy-Authorization: Basic dTpwQHc=\r\n") {
        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").ok()?;
        return None;
    }
    let mut upstream = TcpStream::connect(("127.0.0.1", daemon)).ok()?;
    if line.starts_with("CONNECT far:") {
        client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n").ok()?;
    } else {
        // The daemon takes the whole URL as well; what follows on the connection passes.
        upstream.write_all(head.as_bytes()).ok()?;
    }
    splice(client, upstream);
    Some(())
}

fn socks(mut client: TcpStream, daemon: u16, asked: &Asked) -> Option<()> {
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting).ok()?;
    client.read_exact(&mut vec![0; usize::from(greeting[1])]).ok()?;
    client.write_all(&[5, 0]).ok()?;
    let mut request = [0; 5];
    client.read_exact(&mut request).ok()?;
    assert_eq!(request[..4], [5, 1, 0, 3], "a name that the proxy looks up");
    let mut rest = vec![0; usize::from(request[4]) + 2];
    client.read_exact(&mut rest).ok()?;
    let (name, port) = rest.split_at(rest.len() - 2);
    asked.lock().unwrap().push(format!(
        "SOCKS {}:{}",
        String::from_utf8_lossy(name),
        u16::from_be_bytes([port[0], port[1]])
    ));
    client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 1]).ok()?;
    splice(client, TcpStream::connect(("127.0.0.1", daemon)).ok()?);
    Some(())
}

fn proxy(daemon: u16, serve: fn(TcpStream, u16, &Asked) -> Option<()>) -> (u16, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Asked::default();
    let heard = asked.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let heard = heard.clone();
            std::thread::spawn(move || serve(client, daemon, &heard));
        }
    });
    (port, asked)
}

fn docker(daemon: &Daemon, client: Client, env: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = daemon.cli(client);
    command.env("DOCKER_HOST", "tcp://far:2375").envs(env.iter().copied());
    run(command.args(args))
}

#[test]
fn plain_requests_are_forwarded_and_streams_go_through() {
    need!(probe::busybox());
    let port = free_port();
    let daemon = Daemon::start_with(&["-H", &format!("tcp://127.0.0.1:{port}")], &[]);
    daemon.load_busybox();
    let (at, asked) = proxy(port, http);
    let address = format!("http://u:p%40w@127.0.0.1:{at}");
    for client in daemon.clients() {
        for name in ["HTTP_PROXY", "http_proxy"] {
            docker(&daemon, client, &[(name, &address)], &["version", "-f", "{{.Server.Os}}"]).prints("linux");
        }
        let lines = std::mem::take(&mut *asked.lock().unwrap());
        assert!(lines.iter().all(|l| l.contains(" http://far:2375/")) && !lines.is_empty(), "{client:?}: {lines:?}");
        // ALL_PROXY and that of TLS are not meant.
        let text = docker(&daemon, client, &[("ALL_PROXY", &address), ("HTTPS_PROXY", &address)], &["ps"]).fails(1);
        assert!(text.contains("lookup far"), "{client:?}: {text}");
        let text = docker(&daemon, client, &[("HTTP_PROXY", &address), ("NO_PROXY", "a.b,far")], &["ps"]).fails(1);
        assert!(text.contains("lookup far"), "{client:?}: {text}");
        let own = format!("tcp://127.0.0.1:{port}");
        docker(&daemon, client, &[("HTTP_PROXY", &address), ("DOCKER_HOST", &own)], &["ps", "-q"]).prints("");
        docker(&daemon, client, &[("HTTP_PROXY", &address), ("DOCKER_HOST", &daemon.host())], &["ps", "-q"]).prints("");
        assert!(asked.lock().unwrap().is_empty(), "{client:?}");
        let wrong = format!("http://127.0.0.1:{at}");
        let text = docker(&daemon, client, &[("HTTP_PROXY", &wrong)], &["ps"]).fails(1);
        assert!(text.contains("407") || text.contains("Proxy Authentication Required"), "{client:?}: {text}");
        let text = docker(&daemon, client, &[("HTTP_PROXY", &address), ("REQUEST_METHOD", "GET")], &["ps"]).fails(1);
        assert!(text.contains("refusing to use HTTP_PROXY value in CGI environment"), "{client:?}: {text}");
        asked.lock().unwrap().clear();
    }
    let mut command = daemon.cli(Client::Ours);
    command.env("DOCKER_HOST", "tcp://far:2375").env("HTTP_PROXY", &address);
    command.args(["run", "--rm", "-i", "--network=none", "busybox", "wc", "-c"]);
    let out = crate::harness::command::run_with_input(&mut command, vec![b'x'; 200_000]);
    assert!(out.code == 0 && out.stdout.trim() == "200000", "{out}");
    assert!(asked.lock().unwrap().iter().any(|l| l == "CONNECT far:2375 HTTP/1.1"), "{:?}", asked.lock().unwrap());
}

#[test]
fn tls_goes_through_a_tunnel() {
    let port = free_port();
    let mut daemon = Daemon::prepare(&["--tlsverify", "-H", &format!("tcp://127.0.0.1:{port}")], &[]);
    run(daemon.command("bin/dockerd").arg("--tls-init")).ok();
    daemon.up();
    let certs = daemon.scratch.join("home/.config/docker/tls/clients/client").display().to_string();
    let (at, asked) = proxy(port, http);
    let address = format!("http://u:p%40w@127.0.0.1:{at}");
    let tls = [("DOCKER_TLS", "1"), ("DOCKER_CERT_PATH", certs.as_str())];
    for client in daemon.clients() {
        let env = [&tls[..], &[("HTTPS_PROXY", address.as_str())]].concat();
        docker(&daemon, client, &env, &["version", "-f", "{{.Server.Os}}"]).prints("linux");
        let lines = std::mem::take(&mut *asked.lock().unwrap());
        assert!(lines.iter().all(|l| l == "CONNECT far:2375 HTTP/1.1") && !lines.is_empty(), "{client:?}: {lines:?}");
        let wrong = format!("http://127.0.0.1:{at}");
        let env = [&tls[..], &[("HTTPS_PROXY", wrong.as_str())]].concat();
        let text = docker(&daemon, client, &env, &["ps"]).fails(1);
        assert!(text.contains("Proxy Authentication Required"), "{client:?}: {text}");
        asked.lock().unwrap().clear();
    }
}

#[test]
fn socks_looks_the_name_up() {
    let port = free_port();
    let daemon = Daemon::start_with(&["-H", &format!("tcp://127.0.0.1:{port}")], &[]);
    let (at, asked) = proxy(port, socks);
    let address = format!("socks5://127.0.0.1:{at}");
    for client in daemon.clients() {
        docker(&daemon, client, &[("HTTP_PROXY", &address)], &["version", "-f", "{{.Server.Os}}"]).prints("linux");
        let lines = std::mem::take(&mut *asked.lock().unwrap());
        assert!(lines.iter().all(|l| l == "SOCKS far:2375") && !lines.is_empty(), "{client:?}: {lines:?}");
    }
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("socks5://127.0.0.1:{gone}");
    let text = docker(&daemon, Client::Ours, &[("HTTP_PROXY", &address)], &["ps"]).fails(1);
    assert!(text.contains("connection refused"), "{text}");
    let text = docker(&daemon, Client::Ours, &[("HTTP_PROXY", "ftp://p:1")], &["ps"]).fails(1);
    assert!(text.contains("invalid proxy address") && text.contains("is not known"), "{text}");
}

/// The proxy itself is reached by TLS: socat stands in front of it. Its certificate is judged
/// by what the machine believes, or like the daemon where that has TLS too (here: not at all).
#[test]
fn a_proxy_behind_tls() {
    need!(probe::program("socat", "socat"));
    let ports = [free_port(), free_port()];
    let hosts = ports.map(|port| format!("tcp://127.0.0.1:{port}"));
    let mut daemon = Daemon::prepare(&["--tlsverify", "-H", &hosts[0]], &[]);
    run(daemon.command("bin/dockerd").arg("--tls-init")).ok();
    daemon.up();
    let plain = Daemon::start_with(&["-H", &hosts[1]], &[]);
    let dir = daemon.scratch.join("home/.config/docker/tls");
    let (ca, certs) = (dir.join("ca.pem").display().to_string(), dir.join("clients/client").display().to_string());
    let tls = [("DOCKER_TLS", "1"), ("DOCKER_CERT_PATH", certs.as_str())];
    let mut fronts = Vec::new();
    let addresses = ports.map(|port| {
        let ((inner, asked), outer) = (proxy(port, http), free_port());
        let listen = format!(
            "OPENSSL-LISTEN:{outer},bind=127.0.0.1,fork,reuseaddr,verify=0,cert=server-cert.pem,key=server-key.pem"
        );
        let mut front = Command::new("socat");
        front.current_dir(&dir).arg(listen).arg(format!("TCP:127.0.0.1:{inner}"));
        fronts.push(front.stderr(Stdio::null()).spawn().unwrap());
        eventually("socat", || TcpStream::connect(("127.0.0.1", outer)).is_ok());
        (format!("https://u:p%40w@localhost:{outer}"), asked)
    });
    for client in daemon.clients() {
        let env = [&tls[..], &[("HTTPS_PROXY", addresses[0].0.as_str())]].concat();
        docker(&daemon, client, &env, &["version", "-f", "{{.Server.Os}}"]).prints("linux");
        let trusted = [("HTTP_PROXY", addresses[1].0.as_str()), ("SSL_CERT_FILE", ca.as_str())];
        docker(&plain, client, &trusted, &["version", "-f", "{{.Server.Os}}"]).prints("linux");
        let text = docker(&plain, client, &trusted[..1], &["ps"]).fails(1);
        assert!(text.contains("proxyconnect tcp: tls: failed to verify certificate: x509: "), "{client:?}: {text}");
        let lines = addresses.each_ref().map(|(_, asked)| std::mem::take(&mut *asked.lock().unwrap()));
        assert!(
            lines[0].iter().all(|l| l == "CONNECT far:2375 HTTP/1.1") && !lines[0].is_empty(),
            "{client:?}: {lines:?}"
        );
        assert!(
            lines[1].iter().all(|l| l.contains(" http://far:2375/")) && !lines[1].is_empty(),
            "{client:?}: {lines:?}"
        );
    }
    for mut front in fronts {
        let _ = front.kill();
        let _ = front.wait();
    }
}
