//! Docker's json-file records: one JSON object per line. Pure.

use super::split::Piece;
use super::{Entry, Stream};
use crate::util::json;
use crate::util::time;
use serde::Deserialize;
use std::collections::BTreeMap;

/// `attrs` is a rendered JSON object, or empty.
pub fn encode(out: &mut Vec<u8>, stream: Stream, piece: &Piece<'_>, attrs: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    escape(out, piece.line);
    if piece.complete() {
        out.extend_from_slice(b"\\n");
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    out.push(b'"');
    if !attrs.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        out.extend_from_slice(attrs.as_bytes());
    }
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(time::rfc3339_nano(piece.time).as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// As Docker's encoder: what HTML could trip over is escaped, bytes that are no
/// UTF-8 become U+FFFD.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for chunk in bytes.utf8_chunks() {
        let text = chunk.valid();
        let mut from = 0;
        for (i, c) in text.char_indices() {
            let plain = c >= ' ' && !matches!(c, '"' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
            if plain {
                continue;
            }
            out.extend_from_slice(&text.as_bytes()[from..i]);
            from = i + c.len_utf8();
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\u{2028}' => out.extend_from_slice(b"\\u2028"),
                '\u{2029}' => out.extend_from_slice(b"\\u2029"),
                _ => {
                    let b = c as u8;
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
                }
            }
        }
        out.extend_from_slice(&text.as_bytes()[from..]);
        // Go writes one replacement for each bad byte.
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    log: String,
    stream: String,
    attrs: Option<BTreeMap<String, String>>,
    time: String,
}

/// One line without its newline. None: not a record (a torn write).
pub fn decode(line: &[u8]) -> Option<Entry> {
    let line: Line = json::from_slice(line).ok()?;
    Some(Entry {
        stream: Stream::parse(line.stream.as_bytes())?,
        time: time::parse_rfc3339(&line.time)?,
        line: line.log.into_bytes(),
        attrs: line.attrs.unwrap_or_default().into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::logs::split::Part;
    use crate::util::time::Timestamp;

    fn text(line: &[u8], part: Option<Part>, attrs: &str) -> String {
        let mut out = Vec::new();
        encode(&mut out, Stream::Stderr, &Piece { line, time: Timestamp(1_500_000_000), part }, attrs);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_bytes_of_docker() {
        assert_eq!(
            text(b"a\"b\\<&>\t\x01\xff\xc3\xa9", None, ""),
            "{\"log\":\"a\\\"b\\\\\\u003c\\u0026\\u003e\\u0009\\u0001\\ufffd\u{e9}\\n\",\"stream\":\"stderr\",\
             \"time\":\"1970-01-01T00:00:01.5Z\"}\n"
        );
        let part = Some(Part { id: "x".into(), ordinal: 1, last: false });
        assert_eq!(
            text(b"p", part, "{\"tag\":\"t\"}"),
            "{\"log\":\"p\",\"stream\":\"stderr\",\"attrs\":{\"tag\":\"t\"},\"time\":\"1970-01-01T00:00:01.5Z\"}\n"
        );
    }

    #[test]
    fn decodes_what_it_encodes() {
        let line = text(b"hi \xe2\x80\xa8 there", None, "{\"a\":\"b\"}");
        let entry = decode(line.trim_end().as_bytes()).unwrap();
        assert_eq!(entry.line, b"hi \xe2\x80\xa8 there\n");
        assert_eq!(entry.attrs, [("a".to_owned(), "b".to_owned())]);
        assert_eq!((entry.stream, entry.time), (Stream::Stderr, Timestamp(1_500_000_000)));
        assert_eq!(decode(&line.as_bytes()[..20]), None);
    }
}
