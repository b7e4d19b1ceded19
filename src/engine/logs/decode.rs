//! The two formats on disk, Docker's own: JSON lines, and `local`'s framed
//! protobuf. Pure.

use super::{Entry, Format, Stream};
use crate::util::time::{Timestamp, parse_rfc3339};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A record longer than this is no record: the file is damaged.
const MAX_RECORD: usize = 4 << 20;

/// What the beginning of a buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// An entry, and how many bytes it took.
    Entry(Entry, usize),
    /// So many bytes are no entry; go on behind them.
    Skip(usize),
    /// Its end has not been written yet.
    Incomplete,
}

pub fn next(format: Format, data: &[u8]) -> Next {
    match format {
        Format::JsonFile => json(data),
        Format::Local => local(data),
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(default)]
    attrs: Option<BTreeMap<String, String>>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
}

fn json(data: &[u8]) -> Next {
    let Some(end) = data.iter().position(|b| *b == b'\n') else { return Next::Incomplete };
    let Ok(line) = serde_json::from_slice::<Line<'_>>(&data[..end]) else { return Next::Skip(end + 1) };
    let Some(time) = parse_rfc3339(&line.time) else { return Next::Skip(end + 1) };
    let entry = Entry {
        time,
        stream: if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout },
        line: line.log.into_owned().into_bytes(),
        attrs: line.attrs.unwrap_or_default().into_iter().collect(),
    };
    Next::Entry(entry, end + 1)
}

/// u32 big-endian length, protobuf, the length again.
fn local(data: &[u8]) -> Next {
    let Some(length) = data.first_chunk::<4>().map(|b| u32::from_be_bytes(*b) as usize) else {
        return Next::Incomplete;
    };
    if length > MAX_RECORD {
        return Next::Skip(data.len());
    }
    let Some(record) = data.get(4..4 + length) else { return Next::Incomplete };
    if data.len() < 8 + length {
        return Next::Incomplete;
    }
    match local_record(record) {
        Some(entry) => Next::Entry(entry, 8 + length),
        None => Next::Skip(8 + length),
    }
}

/// source = 1, time_nano = 2, line = 3, partial = 4.
fn local_record(mut data: &[u8]) -> Option<Entry> {
    let mut entry = Entry { time: Timestamp(0), stream: Stream::Stdout, line: Vec::new(), attrs: Vec::new() };
    let mut partial = false;
    while !data.is_empty() {
        let key = varint(&mut data)?;
        match (key >> 3, key & 7) {
            (1, 2) => {
                if bytes(&mut data)? == b"stderr" {
                    entry.stream = Stream::Stderr;
                }
            }
            (2, 0) => entry.time = Timestamp(i128::from(varint(&mut data)? as i64)),
            (3, 2) => entry.line = bytes(&mut data)?.to_vec(),
            (4, 0) => partial = varint(&mut data)? != 0,
            (_, 0) => {
                varint(&mut data)?;
            }
            (_, 2) => {
                bytes(&mut data)?;
            }
            (_, 1) => data = data.get(8..)?,
            (_, 5) => data = data.get(4..)?,
            _ => return None,
        }
    }
    if !partial {
        entry.line.push(b'\n');
    }
    Some(entry)
}

fn varint(data: &mut &[u8]) -> Option<u64> {
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

fn bytes<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(data)?).ok()?;
    let (taken, rest) = data.split_at_checked(length)?;
    *data = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines() {
        let data = br#"{"log":"a\u0001\n","stream":"stderr","attrs":{"k":"v"},"time":"2026-01-02T03:04:05.6Z"}
{"log":"half"#;
        let Next::Entry(entry, used) = next(Format::JsonFile, data) else { panic!("no entry") };
        assert_eq!((entry.line.as_slice(), entry.stream), (&b"a\x01\n"[..], Stream::Stderr));
        assert_eq!(entry.attrs, [("k".to_owned(), "v".to_owned())]);
        assert_eq!(next(Format::JsonFile, &data[used..]), Next::Incomplete);
        assert_eq!(next(Format::JsonFile, b"rubbish\n{"), Next::Skip(8));
    }

    #[test]
    fn local_records() {
        let mut record = vec![0x0a, 6];
        record.extend(b"stdout");
        record.extend([0x10, 0x85, 0x01, 0x1a, 2, b'h', b'i']);
        let framed = |record: &[u8]| {
            let length = (record.len() as u32).to_be_bytes();
            [&length[..], record, &length[..]].concat()
        };
        let data = framed(&record);
        let Next::Entry(entry, used) = next(Format::Local, &data) else { panic!("no entry") };
        assert_eq!((entry.line.as_slice(), entry.time.0, used), (&b"hi\n"[..], 133, data.len()));
        record.extend([0x20, 1]);
        let Next::Entry(entry, _) = next(Format::Local, &framed(&record)) else { panic!("no entry") };
        assert_eq!(entry.line, b"hi", "a part has no line end");
        assert_eq!(next(Format::Local, &data[..9]), Next::Incomplete);
        assert_eq!(next(Format::Local, &framed(&[0xff])), Next::Skip(9));
    }
}
