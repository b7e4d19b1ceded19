//! Heads of connections that a handler takes over (attach, exec), exactly as
//! clients expect them, and the stream frames. Connection's thread.

use super::request::Request;
use crate::api::version::Version;

/// The streams that the daemon itself writes: 1 is output, 3 an error that ends the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    Stdout = 1,
    System = 3,
}

/// The header in front of `length` bytes of a stream without a terminal.
pub fn frame(kind: StreamKind, length: u32) -> [u8; 8] {
    let n = length.to_be_bytes();
    [kind as u8, 0, 0, 0, n[0], n[1], n[2], n[3]]
}

/// The content type of raw or framed streams. Framing itself depends on the
/// terminal alone.
pub fn content_type(version: Version, tty: bool) -> &'static str {
    if !tty && version >= Version(42) {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    }
}

/// The head of an attach: 101 for those who asked for it, else 200 and raw bytes
/// to the end of the connection.
pub fn head(request: &Request, tty: bool) -> Vec<u8> {
    if request.wants_upgrade() {
        format!(
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: {}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
            content_type(request.version, tty)
        )
    } else {
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n".to_owned()
    }
    .into_bytes()
}

/// The head of an exec: as [`head`], with the usual headers behind.
pub fn head_with(request: &Request, tty: bool, usual: &[(String, String)]) -> Vec<u8> {
    let mut text = head(request, tty);
    text.truncate(text.len() - 2);
    for (name, value) in usual {
        text.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    text.extend_from_slice(b"\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_big_endian() {
        assert_eq!(frame(StreamKind::System, 0x0102_0304), [3, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(content_type(Version(41), false), "application/vnd.docker.raw-stream");
        assert_eq!(content_type(Version(42), false), "application/vnd.docker.multiplexed-stream");
        assert_eq!(content_type(Version(51), true), "application/vnd.docker.raw-stream");
    }
}
