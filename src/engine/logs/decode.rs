//! Entries out of a buffer, whichever of Docker's two formats it holds: the
//! codecs are the shim's, which wrote them. Pure.

use super::{Entry, Format};
use crate::runtime::logs::{json_file, local};

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
        Format::JsonFile => line(data),
        Format::Local => framed(data),
    }
}

fn line(data: &[u8]) -> Next {
    let Some(end) = data.iter().position(|b| *b == b'\n') else { return Next::Incomplete };
    match json_file::decode(&data[..end]) {
        Some(entry) => Next::Entry(entry, end + 1),
        None => Next::Skip(end + 1),
    }
}

fn framed(data: &[u8]) -> Next {
    match local::decode(data) {
        Ok(Some((entry, used))) => Next::Entry(entry, used),
        Ok(None) => Next::Incomplete,
        Err(()) => {
            // The frame may still tell where the next record begins.
            let length = data.first_chunk::<4>().map_or(usize::MAX, |b| u32::from_be_bytes(*b) as usize);
            Next::Skip(length.saturating_add(8).min(data.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stream;
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
