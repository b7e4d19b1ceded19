//! The answer to clients of BuildKit. They speak gRPC over HTTP/2 behind an upgrade
//! of `/grpc`, and a refusal of the upgrade makes buildx look for another builder
//! on the internet instead of telling its user. So the upgrade is granted, and
//! every call is answered with one status and its sentence. The connection's thread.
//!
//! Just enough of HTTP/2 (RFC 9113) for that: frames are read past, settings and
//! pings acknowledged, the answer's headers are literals (RFC 7541, 6.2.2) and no
//! header of the client is decoded.

use std::io::{self, Read, Write};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// SETTINGS_MAX_FRAME_SIZE unless something else was agreed on, which it is not.
const MAX_FRAME: usize = 16_384;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM_AND_HEADERS: u8 = 5;
/// gRPC's FAILED_PRECONDITION: what is asked for is known and not to be had here.
const STATUS: &str = "9";

/// Answers until the client leaves. A client that speaks something else is left.
pub fn refuse(input: &mut dyn Read, output: &mut dyn Write, sentence: &str) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    input.read_exact(&mut preface)?;
    if preface != PREFACE {
        return Err(io::Error::other("no HTTP/2"));
    }
    output.write_all(&frame(SETTINGS, 0, 0, b""))?;
    loop {
        let mut head = [0; 9];
        input.read_exact(&mut head)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if length > MAX_FRAME {
            return Err(io::Error::other("an HTTP/2 frame is too long"));
        }
        let mut payload = vec![0; length];
        input.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        match (head[3], head[4] & ACK) {
            (SETTINGS, 0) => output.write_all(&frame(SETTINGS, ACK, 0, b""))?,
            (PING, 0) => output.write_all(&frame(PING, ACK, 0, &payload))?,
            (HEADERS, _) => output.write_all(&frame(HEADERS, END_STREAM_AND_HEADERS, stream, &answer(sentence)))?,
            (GOAWAY, _) => return Ok(()),
            _ => {}
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Headers that are the whole answer.
fn answer(sentence: &str) -> Vec<u8> {
    // `:status: 200` stands in the static table at 8.
    let mut block = vec![0x88];
    let printable: String = sentence.chars().filter(|c| matches!(c, ' '..='~') && *c != '%').collect();
    for (name, value) in [("content-type", "application/grpc"), ("grpc-status", STATUS), ("grpc-message", &printable)] {
        block.push(0);
        for text in [name, value] {
            block.extend(length(text.len()));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1).
fn length(n: usize) -> Vec<u8> {
    let Some(mut rest) = n.checked_sub(127) else { return vec![n as u8] };
    let mut out = vec![127];
    while rest >= 128 {
        out.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    out.push(rest as u8);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_gets_the_sentence() {
        let client =
            [PREFACE, &frame(SETTINGS, 0, 0, b""), &frame(HEADERS, 4, 1, b"x"), &frame(PING, 0, 0, b"12345678")];
        let client = [client.concat(), frame(0, 1, 1, b"data"), frame(GOAWAY, 0, 0, &[0; 8])].concat();
        let mut out = Vec::new();
        refuse(&mut &client[..], &mut out, "not here: 100 %\n").unwrap();
        let wanted = [
            frame(SETTINGS, 0, 0, b""),
            frame(SETTINGS, ACK, 0, b""),
            frame(HEADERS, 5, 1, &answer("not here: 100 ")),
            frame(PING, ACK, 0, b"12345678"),
        ];
        assert_eq!(out, wanted.concat());
        assert!(out.windows(8).any(|w| w == b"not here"));
        for bad in [&b"GET / HTTP/1.1\r\n\r\n......"[..], b"PRI"] {
            assert!(refuse(&mut { bad }, &mut Vec::new(), "").is_err());
        }
        let long = [PREFACE, &[1, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert!(refuse(&mut &long[..], &mut Vec::new(), "").is_err());
    }

    #[test]
    fn lengths() {
        assert_eq!((length(5), length(127), length(300)), (vec![5], vec![127, 0], vec![127, 173, 1]));
    }
}
