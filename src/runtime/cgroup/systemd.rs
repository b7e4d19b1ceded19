//! One request to the user's systemd: a transient scope around the engine's
//! processes with `Delegate=yes`. D-Bus wire by hand: one method call needs no
//! library.
//!
//! Wire, little-endian: header (endianness, type, flags, version, body length,
//! serial, array of (code, variant)), padded to 8; values aligned to their size.
//! Authentication is EXTERNAL with the *host's* uid in hex, also from inside a
//! user namespace, because the bus sees the peer's credentials from outside.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

/// Moves us and `helpers` into a delegated scope. Err: why not.
pub(super) fn enter_scope(helpers: &[i32]) -> Result<(), String> {
    let before = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let uid = host_uid().ok_or("the host's uid is unknown")?;
    let (stream, direct) = connect(uid)?;
    let mut bus = Bus { stream, serial: 0 };
    bus.authenticate(uid)?;
    // The manager's private socket is no bus: nobody to greet there.
    if !direct {
        bus.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", "", Vec::new())?;
    }
    let own = std::process::id();
    let pids: Vec<u32> = helpers.iter().map(|p| *p as u32).chain([own]).collect();
    let body = start_transient_unit(&format!("coracle-{own}.scope"), &pids);
    bus.call(
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
        body,
    )?;
    // The job is done when the kernel shows all of us elsewhere. They are moved one by one, in any
    // order, and none any more once controllers are handed down.
    let cgroup = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup"));
    let moved = || {
        let own = cgroup("self").unwrap_or_default();
        own != before && !helpers.iter().any(|p| cgroup(&p.to_string()).is_ok_and(|c| c != own))
    };
    let until = Instant::now() + PATIENCE;
    while !moved() {
        if Instant::now() > until {
            return Err("the scope did not start in time".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    await_controllers();
    Ok(())
}

/// The manager hands its controllers down after it has moved us.
fn await_controllers() {
    let read = |dir: &Path| fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let Some(own) = super::probe::path_of("self") else { return };
    let named = |dir: &&Path| dir.file_name().is_some_and(|n| n.to_string_lossy().starts_with("user@"));
    let given = own.ancestors().find(named).map(read).unwrap_or_default();
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let have = read(&own);
        if given.split_ascii_whitespace().all(|name| have.split_ascii_whitespace().any(|h| h == name)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The caller's uid outside of our user namespace: what 0 is mapped to.
fn host_uid() -> Option<u32> {
    let map = fs::read_to_string("/proc/self/uid_map").ok()?;
    let mut words = map.split_ascii_whitespace();
    (words.next()? == "0").then_some(())?;
    words.next()?.parse().ok()
}

fn connect(uid: u32) -> Result<(UnixStream, bool), String> {
    let runtime =
        std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from(format!("/run/user/{uid}")), PathBuf::from);
    let named = std::env::var("DBUS_SESSION_BUS_ADDRESS")
        .ok()
        .and_then(|a| Some(PathBuf::from(a.strip_prefix("unix:path=")?.split([',', ';']).next()?)));
    let places = [(named, false), (Some(runtime.join("bus")), false), (Some(runtime.join("systemd/private")), true)];
    let stream = places
        .into_iter()
        .find_map(|(path, direct)| Some((UnixStream::connect(path?).ok()?, direct)))
        .ok_or("it is not running")?;
    stream.0.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    Ok(stream)
}

struct Bus {
    stream: UnixStream,
    serial: u32,
}

impl Bus {
    fn authenticate(&mut self, uid: u32) -> Result<(), String> {
        let hex: String = uid.to_string().bytes().map(|b| format!("{b:02x}")).collect();
        let io = |e: std::io::Error| e.to_string();
        self.stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes()).map_err(io)?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n") && answer.len() < 512 {
            self.stream.read_exact(&mut byte).map_err(io)?;
            answer.push(byte[0]);
        }
        if !answer.starts_with(b"OK") {
            return Err("it refused to authenticate us".to_owned());
        }
        self.stream.write_all(b"BEGIN\r\n").map_err(io)
    }

    /// Sends a method call and waits for its answer; signals are passed over.
    fn call(
        &mut self,
        destination: &str,
        path: &str,
        interface: &str,
        member: &str,
        signature: &str,
        body: Vec<u8>,
    ) -> Result<(), String> {
        self.serial += 1;
        let message = method_call(self.serial, destination, path, interface, member, signature, body);
        self.stream.write_all(&message).map_err(|e| e.to_string())?;
        loop {
            let (kind, reply_to, text) = self.read_message()?;
            match kind {
                METHOD_RETURN if reply_to == self.serial => return Ok(()),
                ERROR if reply_to == self.serial => return Err(text),
                _ => {}
            }
        }
    }

    /// Type, the serial it answers, and its first string (an error's text).
    fn read_message(&mut self) -> Result<(u8, u32, String), String> {
        let mut head = [0u8; 16];
        let mut read = |buffer: &mut [u8]| self.stream.read_exact(buffer).map_err(|e| e.to_string());
        read(&mut head)?;
        let word = |b: &[u8], at: usize| b.get(at..at + 4).map_or(0, |w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
        if head[0] != b'l' {
            return Err("it answers in another byte order".to_owned());
        }
        let (body_len, fields_len) = (word(&head, 4) as usize, word(&head, 12) as usize);
        if body_len > 1 << 20 || fields_len > 1 << 16 {
            return Err("it sends nonsense".to_owned());
        }
        let mut fields = vec![0; fields_len.next_multiple_of(8)];
        read(&mut fields)?;
        let mut body = vec![0; body_len];
        read(&mut body)?;
        let text_len = word(&body, 0) as usize;
        let text = body.get(4..4 + text_len).map(|t| String::from_utf8_lossy(t).into_owned()).unwrap_or_default();
        Ok((head[1], reply_serial(&fields[..fields_len]), text))
    }
}

const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// Field 5 (REPLY_SERIAL) of a header. Only the shapes that systemd and the bus
/// send are known: strings, object paths, signatures, u32.
fn reply_serial(fields: &[u8]) -> u32 {
    let mut at = 0usize;
    while let Some([code, _, kind, _]) = fields.get(at..at + 4).and_then(|f| <[u8; 4]>::try_from(f).ok()) {
        at += 4;
        let word = fields.get(at..at + 4).map_or(0, |w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
        match kind {
            b'u' if code == 5 => return word,
            b'u' => at += 4,
            b's' | b'o' => at += 4 + word as usize + 1,
            b'g' => at += 2 + usize::from(fields.get(at).copied().unwrap_or(0)),
            _ => return 0,
        }
        at = at.next_multiple_of(8);
    }
    0
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }
    fn u32(&mut self, n: u32) {
        self.align(4);
        self.0.extend_from_slice(&n.to_le_bytes());
    }
    fn string(&mut self, s: &str) {
        self.u32(s.len() as u32);
        self.0.extend_from_slice(s.as_bytes());
        self.0.push(0);
    }
    fn signature(&mut self, s: &str) {
        self.0.push(s.len() as u8);
        self.0.extend_from_slice(s.as_bytes());
        self.0.push(0);
    }
    /// An array: its length counts from the first element's alignment on.
    fn array(&mut self, element_alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length_at = self.0.len() - 4;
        self.align(element_alignment);
        let start = self.0.len();
        fill(self);
        let length = (self.0.len() - start) as u32;
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
    /// One (sv) of a property list.
    fn property(&mut self, name: &str, signature: &str, value: impl FnOnce(&mut Self)) {
        self.align(8);
        self.string(name);
        self.signature(signature);
        value(self);
    }
}

fn method_call(
    serial: u32,
    destination: &str,
    path: &str,
    interface: &str,
    member: &str,
    signature: &str,
    body: Vec<u8>,
) -> Vec<u8> {
    let mut w = Writer::default();
    w.0.extend_from_slice(&[b'l', 1, 0, 1]);
    w.u32(body.len() as u32);
    w.u32(serial);
    w.array(8, |w| {
        for (code, kind, value) in [(1, "o", path), (2, "s", interface), (3, "s", member), (6, "s", destination)] {
            w.align(8);
            w.0.push(code);
            w.signature(kind);
            w.string(value);
        }
        if !signature.is_empty() {
            w.align(8);
            w.0.push(8);
            w.signature("g");
            w.signature(signature);
        }
    });
    w.align(8);
    w.0.extend_from_slice(&body);
    w.0
}

fn start_transient_unit(name: &str, pids: &[u32]) -> Vec<u8> {
    let mut w = Writer::default();
    w.string(name);
    w.string("fail");
    w.array(8, |w| {
        w.property("Description", "s", |w| w.string("Coracle container engine"));
        w.property("Delegate", "b", |w| w.u32(1));
        w.property("CollectMode", "s", |w| w.string("inactive-or-failed"));
        w.property("PIDs", "au", |w| {
            w.array(4, |w| pids.iter().for_each(|p| w.u32(*p)));
        });
    });
    w.array(8, |_| {});
    w.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_shape_of_the_specification() {
        let message = method_call(7, "d.e", "/p", "i.f", "Hello", "", Vec::new());
        assert_eq!(&message[..16], b"l\x01\0\x01\0\0\0\0\x07\0\0\0\x3c\0\0\0".as_slice());
        assert_eq!(&message[16..32], b"\x01\x01o\0\x02\0\0\0/p\0\0\0\0\0\0".as_slice());
        assert_eq!(message.len() % 8, 0);
        assert_eq!(reply_serial(b"\x05\x01u\0\x09\0\0\0"), 9);
        assert_eq!(reply_serial(b"\x06\x01s\0\x02\0\0\0:1\0\0\0\0\0\0\x05\x01u\0\x09\0\0\0"), 9);
    }

    #[test]
    fn arrays_count_from_their_alignment() {
        let body = start_transient_unit("x.scope", &[1, 2]);
        // "x.scope" (12), "fail" (9) → 21, length at 24, first element at 32.
        let length = u32::from_le_bytes(body[24..28].try_into().unwrap()) as usize;
        assert_eq!(&body[32..43], b"\x0b\0\0\0Descrip");
        assert_eq!(&body[32 + length - 8..32 + length], b"\x01\0\0\0\x02\0\0\0");
        assert_eq!(body.len(), ((32 + length).next_multiple_of(4) + 4).next_multiple_of(8));
    }
}
