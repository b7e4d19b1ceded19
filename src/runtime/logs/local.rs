//! Records of Docker's `local` driver: u32 big-endian length, a protobuf
//! LogEntry, the length again (so that a reader can go backwards). Pure.
//!
//! LogEntry: 1 source (string), 2 time_nano (varint), 3 line (bytes), 4 partial
//! (bool), 5 metadata { 1 last (bool), 2 id (string), 3 ordinal (varint) }.

use super::split::Piece;
use super::{Entry, Stream};
use crate::util::time::Timestamp;

pub fn encode(out: &mut Vec<u8>, stream: Stream, piece: &Piece<'_>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    bytes(out, 1, stream.name().as_bytes());
    tag(out, 2, 0);
    varint(out, piece.time.0 as u64);
    bytes(out, 3, piece.line);
    if let Some(part) = &piece.part {
        tag(out, 4, 0);
        varint(out, 1);
        let mut meta = Vec::with_capacity(80);
        if part.last {
            tag(&mut meta, 1, 0);
            varint(&mut meta, 1);
        }
        bytes(&mut meta, 2, part.id.as_bytes());
        tag(&mut meta, 3, 0);
        varint(&mut meta, part.ordinal as u64);
        bytes(out, 5, &meta);
    }
    let length = ((out.len() - start - 4) as u32).to_be_bytes();
    out[start..start + 4].copy_from_slice(&length);
    out.extend_from_slice(&length);
}

fn tag(out: &mut Vec<u8>, field: u8, wire: u8) {
    out.push(field << 3 | wire);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    if !value.is_empty() {
        tag(out, field, 2);
        varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

/// The record at the start of `data` and its whole length. Ok(None): more bytes
/// are needed. Err: this is no record.
#[allow(clippy::result_unit_err)]
pub fn decode(data: &[u8]) -> Result<Option<(Entry, usize)>, ()> {
    let Some((length, rest)) = data.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    // A line is at most 16 KiB; a megabyte is certainly garbage.
    if length > 1 << 20 {
        return Err(());
    }
    let Some((body, after)) = rest.split_at_checked(length) else { return Ok(None) };
    if after.len() < 4 {
        return Ok(None);
    }
    if after[..4] != data[..4] {
        return Err(());
    }
    Ok(Some((entry(body).ok_or(())?, length + 8)))
}

fn entry(mut body: &[u8]) -> Option<Entry> {
    let mut found = Entry { stream: Stream::Stdout, time: Timestamp(0), line: Vec::new(), attrs: Vec::new() };
    let (mut partial, mut last) = (false, false);
    while !body.is_empty() {
        match field(&mut body)? {
            (1, Field::Bytes(b)) => found.stream = Stream::parse(b)?,
            (2, Field::Number(n)) => found.time = Timestamp(i128::from(n as i64)),
            (3, Field::Bytes(b)) => found.line = b.to_vec(),
            (4, Field::Number(n)) => partial = n != 0,
            (5, Field::Bytes(mut meta)) => {
                while !meta.is_empty() {
                    if let (1, Field::Number(n)) = field(&mut meta)? {
                        last = n != 0;
                    }
                }
            }
            _ => {}
        }
    }
    if !partial || last {
        found.line.push(b'\n');
    }
    Some(found)
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn field<'a>(data: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let key = read_varint(data)?;
    let value = match key & 7 {
        0 => Field::Number(read_varint(data)?),
        2 => {
            let n = usize::try_from(read_varint(data)?).ok()?;
            let (value, rest) = data.split_at_checked(n)?;
            *data = rest;
            Field::Bytes(value)
        }
        _ => return None,
    };
    Some((key >> 3, value))
}

fn read_varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::logs::split::Part;

    /// Bytes that dockerd 28.5 wrote; it also reads ours.
    #[test]
    fn the_bytes_of_docker() {
        let theirs = b"\0\0\0\x17\x0a\x06stderr\x10\xac\x83\xa3\xc9\xcc\x87\xb5\xf5\x18\x1a\x03err\0\0\0\x17";
        let (entry, used) = decode(theirs).unwrap().unwrap();
        assert_eq!((entry.stream, entry.line.as_slice(), used), (Stream::Stderr, &b"err\n"[..], theirs.len()));
        let mut ours = Vec::new();
        encode(&mut ours, Stream::Stderr, &Piece { line: b"err", time: entry.time, part: None });
        assert_eq!(ours, theirs);
    }

    #[test]
    fn round_trips() {
        let mut out = Vec::new();
        let time = Timestamp(1_700_000_000_123_456_789);
        encode(&mut out, Stream::Stderr, &Piece { line: b"hello", time, part: None });
        let part = |last| Some(Part { id: "ab".into(), ordinal: 2, last });
        encode(&mut out, Stream::Stdout, &Piece { line: b"part", time, part: part(false) });
        encode(&mut out, Stream::Stdout, &Piece { line: b"", time, part: part(true) });
        let mut lines = Vec::new();
        let mut rest = out.as_slice();
        while let Some((entry, n)) = decode(rest).unwrap() {
            assert_eq!(entry.time, time);
            lines.push((entry.stream, entry.line));
            rest = &rest[n..];
        }
        assert_eq!(
            lines,
            [
                (Stream::Stderr, b"hello\n".to_vec()),
                (Stream::Stdout, b"part".to_vec()),
                (Stream::Stdout, b"\n".to_vec())
            ]
        );
        assert!(decode(&out[..out.len() - 1]).is_ok());
        assert_eq!(decode(&out[..10]), Ok(None));
        assert_eq!(decode(b"\xff\xff\xff\xff1234"), Err(()));
    }
}
