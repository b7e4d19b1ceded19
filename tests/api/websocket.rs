//! `attach/ws`, spoken by hand: handshake, data both ways, ping, close from
//! either side, refusals.

use crate::harness::{Daemon, eventually, probe};
use crate::need;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

struct Socket(UnixStream);

impl Socket {
    /// Connects; the answer's head.
    fn open(d: &Daemon, path: &str, headers: &str) -> (Self, String) {
        let mut stream = UnixStream::connect(d.socket()).unwrap();
        stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        (Self(stream), String::from_utf8(head).unwrap())
    }

    fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mask = [7, 0, 200, 33];
        let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().enumerate().map(|(i, b)| b ^ mask[i & 3]));
        self.0.write_all(&frame).unwrap();
    }

    /// The next frame: opcode and payload.
    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let length = match head[1] {
            126 => {
                let mut n = [0; 2];
                self.0.read_exact(&mut n).unwrap();
                usize::from(u16::from_be_bytes(n))
            }
            n => usize::from(n),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        (head[0] & 0x0f, payload)
    }

    /// Data until `text` has come.
    fn expect(&mut self, text: &str) {
        let mut seen = String::new();
        while !seen.contains(text) {
            let (opcode, payload) = self.receive();
            assert_eq!(opcode, 2, "{seen}");
            seen.push_str(&String::from_utf8(payload).unwrap());
        }
    }
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ALL: &str = "stream=1&stdin=1&stdout=1&stderr=1";

#[test]
fn bytes_go_both_ways() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let script = "while read -r line; do [ $line = end ] && exit 5; echo got $line; echo err >&2; done; echo eof";
    // Not StdinOnce: with it the first client that leaves takes stdin along.
    let body = serde_json::json!({"Image": "busybox", "Cmd": ["sh", "-c", script], "OpenStdin": true});
    let id = d.json("POST", "/containers/create", Some(&body.to_string()))["Id"].as_str().unwrap().to_owned();
    // Attached before the start.
    let (mut socket, head) = Socket::open(&d, &format!("/v1.51/containers/{id}/attach/ws?{ALL}"), UPGRADE);
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    d.docker(&["start", &id]).ok();
    socket.send(1, b"one\n");
    socket.expect("err\n");
    socket.send(9, b"?");
    assert_eq!(socket.receive(), (10, b"?".to_vec()));
    // A second client that leaves in order disturbs nobody.
    let (mut other, _) = Socket::open(&d, &format!("/containers/{id}/attach/ws?logs=1&{ALL}"), UPGRADE);
    other.expect("got one\n");
    other.send(8, &1000u16.to_be_bytes());
    // What was logged after "got one" may still be under way.
    let answer = loop {
        match other.receive() {
            (2, _) => {}
            frame => break frame,
        }
    };
    assert_eq!(answer, (8, vec![3, 232]));
    assert_eq!(other.0.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(d.inspect(&id, "{{.State.Running}}"), "true");
    socket.send(2, b"end\n");
    let last = loop {
        match socket.receive() {
            (2, _) => {}
            other => break other,
        }
    };
    assert_eq!(last, (8, vec![3, 232]));
    eventually("the exit", || d.inspect(&id, "{{.State.ExitCode}} {{.State.Running}}") == "5 false");
}

#[test]
fn what_is_no_websocket_is_refused() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = d.run_detached(&["--stop-signal", "KILL", "busybox", "sleep", "1000"]);
    let status = |path: &str, headers: &str| Socket::open(&d, path, headers).1[9..12].to_owned();
    assert_eq!(status("/containers/nosuch/attach/ws", UPGRADE), "404");
    assert_eq!(status(&format!("/containers/{id}/attach/ws"), ""), "400");
    assert_eq!(status(&format!("/containers/{id}/attach/ws?detachKeys=bogus"), UPGRADE), "400");
    let (mut socket, _) = Socket::open(&d, &format!("/containers/{id}/attach/ws?{ALL}"), UPGRADE);
    // An unmasked frame.
    socket.0.write_all(&[0x82, 1, b'x']).unwrap();
    assert_eq!(socket.receive(), (8, 1002u16.to_be_bytes().to_vec()));
}
