//! Heads, versions and errors, byte by byte.

use crate::harness::{Daemon, eventually};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// Sends bytes, ends the input, and gives all that comes back.
fn raw(d: &Daemon, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(d.socket()).unwrap();
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let _ = stream.write_all(request);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn ping_has_its_headers() {
    let d = Daemon::start();
    let answer = raw(&d, b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let head = answer.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
    for header in [
        "http/1.1 200 ok",
        "api-version: 1.51",
        "ostype: linux",
        "docker-experimental: false",
        "builder-version: 1",
        "swarm: inactive",
        "cache-control: no-cache, no-store, must-revalidate",
        "pragma: no-cache",
        "server: docker/",
    ] {
        assert!(head.contains(header), "{header} is not in {head}");
    }
    assert!(answer.ends_with("\r\n\r\nOK") || answer.ends_with("OK"), "{answer}");
    let answer = raw(&d, b"HEAD /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.to_ascii_lowercase().contains("content-length: 0") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn versions_are_gated() {
    let d = Daemon::start();
    assert_eq!(d.api("GET", "/v1.24/version", None).0, 200);
    assert_eq!(d.api("GET", "/v1.51/version", None).0, 200);
    let (status, text) = d.api("GET", "/v1.99/version", None);
    assert_eq!(
        (status, text.contains("client version 1.99 is too new. Maximum supported API version is 1.51")),
        (400, true),
        "{text}"
    );
    let (status, text) = d.api("GET", "/v1.12/version", None);
    assert_eq!(
        (status, text.contains("client version 1.12 is too old. Minimum supported API version is 1.24")),
        (400, true),
        "{text}"
    );
}

#[test]
fn errors_have_docker_s_shape() {
    let d = Daemon::start();
    for (method, path, body, status, text) in [
        ("GET", "/nosuch", None, 404, r#"{"message":"page not found"}"#),
        ("PATCH", "/version", None, 404, r#"{"message":"page not found"}"#),
        ("GET", "/containers/nosuch/json", None, 404, r#"{"message":"No such container: nosuch"}"#),
        ("GET", "/images/nosuch/json", None, 404, r#"{"message":"No such image: nosuch:latest"}"#),
        ("GET", "/exec/nosuch/json", None, 404, r#"{"message":"No such exec instance: nosuch"}"#),
        ("GET", "/volumes/nosuch", None, 404, r#"{"message":"get nosuch: no such volume"}"#),
        ("GET", "/networks/nosuch", None, 404, r#"{"message":"network nosuch not found"}"#),
        (
            "POST",
            "/containers/create",
            Some(r#"{"Image":"nosuch"}"#),
            404,
            r#"{"message":"No such image: nosuch:latest"}"#,
        ),
        (
            "GET",
            "/containers/json?filters=%7B%22x%22%3A%5B%22y%22%5D%7D",
            None,
            400,
            r#"{"message":"invalid filter 'x'"}"#,
        ),
    ] {
        let (found, answer) = d.api(method, path, body);
        assert_eq!((found, answer.trim_end()), (status, text), "{method} {path}");
    }
    let (status, text) = d.api("GET", "/services", None);
    assert_eq!(status, 503);
    assert!(text.contains("This node is not a swarm manager."), "{text}");
}

/// Each of these once killed or wedged somebody's server.
#[test]
fn hostile_requests_are_answered_or_dropped() {
    let d = Daemon::start();
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    let hostile: Vec<&[u8]> = vec![
        b"",
        b"\r\n\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /version HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775807\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[[",
        b"GET /version HTTP/1.1\nHost: x\n\n",
        b"GET /version HTTP/9.9\r\n\r\n",
        b"GET /containers/%00/json HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /containers/%ff%fe/json HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /containers/..%2f..%2fetc/json HTTP/1.1\r\nHost: x\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
    ];
    for request in hostile {
        let answer = raw(&d, request);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "), "{answer}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let (status, _) = d.api("POST", "/containers/create", Some(&deep));
    assert_eq!(status, 400);
    assert_eq!(d.api("GET", "/_ping", None).0, 200);
}

/// A client that goes away is noticed and its thread ends.
#[test]
fn clients_that_leave_are_forgotten() {
    let d = Daemon::start();
    let threads = || std::fs::read_dir(format!("/proc/{}/task", d.pid())).unwrap().count();
    let before = threads();
    let clients: Vec<UnixStream> = (0..50)
        .map(|_| {
            let mut stream = UnixStream::connect(d.socket()).unwrap();
            stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut head = [0; 12];
            stream.read_exact(&mut head).unwrap();
            assert_eq!(&head, b"HTTP/1.1 200");
            stream
        })
        .collect();
    assert!(threads() >= before);
    drop(clients);
    eventually("the threads to end", || threads() <= before + 2);
}
