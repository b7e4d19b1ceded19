//! `--tail N` from the end: finds where the last N entries begin without reading
//! what lies before them.

use super::Format;
use super::files::Opened;
use crate::error::Result;
use std::os::unix::fs::FileExt;

const CHUNK: usize = 64 << 10;

/// From where to read: the index of the first file and the offset in it.
pub fn start(format: Format, files: &[Opened], wanted: usize) -> Result<(usize, u64)> {
    let mut missing = wanted;
    for (index, opened) in files.iter().enumerate().rev() {
        if opened.compressed {
            // A compressed file has no way back: it is counted from the front.
            let offsets = compressed_offsets(format, opened)?;
            if offsets.len() >= missing {
                let offset = offsets.get(offsets.len() - missing).copied().unwrap_or(0);
                return Ok((index, if missing == 0 { u64::MAX } else { offset }));
            }
            missing -= offsets.len();
            continue;
        }
        let length = opened.file.metadata()?.len();
        let (offset, found) = match format {
            Format::JsonFile => last_lines(opened, length, missing)?,
            Format::Local => last_records(opened, length, missing)?,
        };
        if found == missing {
            return Ok((index, offset));
        }
        missing -= found;
    }
    Ok((0, 0))
}

/// Where the last `wanted` complete lines begin, and how many there are.
fn last_lines(opened: &Opened, length: u64, wanted: usize) -> Result<(u64, usize)> {
    let mut buffer = vec![0u8; CHUNK];
    let mut end = length;
    // The line end that closes the last line is not a beginning.
    let mut ends = 0usize;
    let mut last = length;
    while end > 0 {
        let begin = end.saturating_sub(CHUNK as u64);
        let chunk = &mut buffer[..(end - begin) as usize];
        opened.file.read_exact_at(chunk, begin)?;
        for (at, _) in chunk.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            let behind = begin + at as u64 + 1;
            if ends == 0 {
                // What follows the last line end is not written out yet.
                last = behind;
            }
            if ends == wanted {
                return Ok((behind, wanted));
            }
            ends += 1;
        }
        end = begin;
    }
    Ok(if wanted == 0 { (last, 0) } else { (0, ends.min(wanted)) })
}

/// Each record ends with its length, so the way back needs no scanning.
fn last_records(opened: &Opened, length: u64, wanted: usize) -> Result<(u64, usize)> {
    let mut at = length;
    let mut found = 0;
    while found < wanted && at >= 8 {
        let mut size = [0u8; 4];
        opened.file.read_exact_at(&mut size, at - 4)?;
        let whole = u64::from(u32::from_be_bytes(size)) + 8;
        if whole > at {
            break;
        }
        at -= whole;
        found += 1;
    }
    Ok((at, found))
}

fn compressed_offsets(format: Format, opened: &Opened) -> Result<Vec<u64>> {
    use super::decode::{Next, next};
    let data = super::read::decompress(opened)?;
    let mut offsets = Vec::new();
    let mut at = 0;
    loop {
        match next(format, &data[at..]) {
            Next::Entry(_, used) => {
                offsets.push(at as u64);
                at += used;
            }
            Next::Skip(used) if used > 0 => at += used,
            _ => return Ok(offsets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::{Opened, key_of};
    use super::*;
    use std::fs::File;

    #[test]
    fn the_last_lines_over_two_files() {
        let dir = std::env::temp_dir().join(format!("coracle-tail-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let open = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            let file = File::open(&path).unwrap();
            Opened { key: key_of(&file.metadata().unwrap()), file, compressed: false }
        };
        let files = [open("1", "a\nb\n"), open("0", "c\nd\nhal")];
        let start = |n| start(Format::JsonFile, &files, n).unwrap();
        assert_eq!(start(0), (1, 4));
        assert_eq!(start(1), (1, 2));
        assert_eq!(start(2), (1, 0));
        assert_eq!(start(3), (0, 2));
        assert_eq!(start(9), (0, 0));
        let long = [open("2", &"x".repeat(9).repeat(20_000).replace("xxxxxxxxx", "12345678\n"))];
        assert_eq!(super::start(Format::JsonFile, &long, 15_000).unwrap(), (0, 45_000));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
