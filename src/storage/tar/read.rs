//! Streaming reader: entries and payload out, every byte that is no payload into
//! a [`Capture`]. Works on any `BufRead`; payload is lent from its buffer, never
//! copied.

use super::header::{self, Block, Extension, malformed};
use super::{BLOCK, Entry, Kind};
use std::io::{self, BufRead, Read};

/// Extension headers (names, PAX records) of one entry larger than this are refused;
/// Go does so for each header.
const MAX_EXTENSION: u64 = 1 << 20;

/// Gets the raw bytes between payloads, in order.
pub trait Capture {
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Nobody wants them.
pub struct Discard;

impl Capture for Discard {
    fn raw(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

pub struct Reader<R, C> {
    inner: R,
    pub capture: C,
    /// Payload of the current entry that nobody has read.
    left: u64,
    /// Bytes up to the next block after the payload.
    padding: u64,
    global: Extension,
}

fn eof() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF")
}

impl<R: BufRead, C: Capture> Reader<R, C> {
    pub fn new(inner: R, capture: C) -> Self {
        Self { inner, capture, left: 0, padding: 0, global: Extension::default() }
    }

    /// The next entry, or none at the end marker (or a clean end of the data).
    /// Payload that was not read goes to the capture.
    pub fn entry(&mut self) -> io::Result<Option<Entry>> {
        self.finish_entry()?;
        let mut extension = Extension::default();
        // Any number of extension headers may precede an entry.
        let mut budget = MAX_EXTENSION;
        loop {
            let Some(block) = self.block()? else { return Ok(None) };
            if header::is_zero(&block) {
                match self.block()? {
                    Some(second) if !header::is_zero(&second) => return Err(malformed()),
                    _ => return Ok(None),
                }
            }
            header::check_sum(&block)?;
            match header::type_flag(&block) {
                header::PAX => extension.records.extend(header::pax_records(&self.extension(&block, &mut budget)?)?),
                header::PAX_GLOBAL => {
                    let records = header::pax_records(&self.extension(&block, &mut budget)?)?;
                    // Entries carry their own times and names; a global header
                    // of layers (git archive's comment) has nothing for us.
                    let last = |key: &[u8]| records.iter().rev().find(|(k, _)| k == key).cloned();
                    self.global.records = [last(b"uid"), last(b"gid")].into_iter().flatten().collect();
                }
                header::GNU_LONG_NAME => {
                    extension.long_name = Some(header::text(&self.extension(&block, &mut budget)?).to_vec());
                }
                header::GNU_LONG_LINK => {
                    extension.long_link = Some(header::text(&self.extension(&block, &mut budget)?).to_vec());
                }
                _ => {
                    extension.records.splice(0..0, self.global.records.iter().cloned());
                    return self.ordinary(&block, &extension).map(Some);
                }
            }
        }
    }

    fn ordinary(&mut self, block: &Block, extension: &Extension) -> io::Result<Entry> {
        let mut entry = header::entry(block)?;
        extension.merge(&mut entry)?;
        if !matches!(entry.kind, Kind::File | Kind::Other(_)) {
            entry.size = 0;
        }
        if i64::try_from(entry.size).is_err() {
            return Err(malformed());
        }
        self.left = entry.size;
        self.padding = entry.size.next_multiple_of(BLOCK as u64) - entry.size;
        if entry.kind != Kind::File {
            return Ok(entry);
        }
        if header::type_flag(block) == header::GNU_SPARSE {
            let mut numbers = Vec::new();
            let mut more = header::gnu_pieces(&block[386..482], block[482], &mut numbers)?;
            while more {
                let next = self.block()?.ok_or_else(eof)?;
                more = header::gnu_pieces(&next[..504], next[504], &mut numbers)?;
            }
            let length = u64::try_from(header::number(&block[483..495])?).map_err(|_| malformed())?;
            entry.sparse = Some(header::pieces(length, &numbers)?);
        } else if extension.map_is_in_payload() {
            let length = extension.sparse_length()?.ok_or_else(malformed)?;
            let numbers = self.payload_map()?;
            entry.sparse = Some(header::pieces(length, &numbers)?);
            entry.size = self.left;
        } else {
            entry.sparse = extension.sparse_map()?;
        }
        if let Some(sparse) = &entry.sparse
            && sparse.pieces.iter().map(|p| p.1).sum::<u64>() != entry.size
        {
            return Err(malformed());
        }
        Ok(entry)
    }

    /// The map of sparse format 1.0: decimal lines in whole blocks.
    fn payload_map(&mut self) -> io::Result<Vec<u64>> {
        let (mut numbers, mut wanted, mut line) = (Vec::new(), None, Vec::new());
        loop {
            if self.left < BLOCK as u64 {
                return Err(malformed());
            }
            let block = self.block()?.ok_or_else(eof)?;
            self.left -= BLOCK as u64;
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > 20 {
                        return Err(malformed());
                    }
                    continue;
                }
                let number = header::decimal(&std::mem::take(&mut line))?;
                match wanted {
                    None if number as usize > header::MAX_PIECES => return Err(malformed()),
                    None => wanted = Some(number as usize * 2),
                    Some(_) => numbers.push(number),
                }
                if wanted == Some(numbers.len()) {
                    return Ok(numbers);
                }
            }
        }
    }

    /// Lends some payload; empty when the entry is finished. Follow with `consume`.
    pub fn payload(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let buffer = fill(&mut self.inner)?;
        if buffer.is_empty() {
            return Err(eof());
        }
        let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        Ok(&buffer[..n])
    }

    pub fn consume(&mut self, n: usize) {
        debug_assert!(n as u64 <= self.left);
        self.inner.consume(n);
        self.left -= n as u64;
    }

    /// The whole payload, if it is at most `limit` bytes.
    pub fn payload_to_vec(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        if self.left > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "entry is too large"));
        }
        let mut out = Vec::with_capacity(self.left as usize);
        self.read_to_end(&mut out)?;
        Ok(out)
    }

    /// Hands the rest of the entry and its padding to the capture.
    fn finish_entry(&mut self) -> io::Result<()> {
        let padding = std::mem::take(&mut self.padding);
        let mut rest = std::mem::take(&mut self.left) + padding;
        while rest > 0 {
            let buffer = fill(&mut self.inner)?;
            if buffer.is_empty() {
                // Docker's client ends a context like that where it added the Dockerfile itself.
                return if rest <= padding { Ok(()) } else { Err(eof()) };
            }
            let n = usize::try_from(rest).unwrap_or(usize::MAX).min(buffer.len());
            self.capture.raw(&buffer[..n])?;
            self.inner.consume(n);
            rest -= n as u64;
        }
        Ok(())
    }

    /// Reads to the end of the data: what follows the end marker is captured.
    pub fn finish(&mut self) -> io::Result<()> {
        self.finish_entry()?;
        loop {
            let buffer = fill(&mut self.inner)?;
            if buffer.is_empty() {
                return Ok(());
            }
            let n = buffer.len();
            self.capture.raw(buffer)?;
            self.inner.consume(n);
        }
    }

    /// One block, captured; none at a clean end of the data.
    fn block(&mut self) -> io::Result<Option<Block>> {
        let mut block = [0u8; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            let n = match self.inner.read(&mut block[have..]) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if n == 0 {
                if have == 0 {
                    return Ok(None);
                }
                return Err(eof());
            }
            have += n;
        }
        self.capture.raw(&block)?;
        Ok(Some(block))
    }

    /// The body of an extension header, captured with its padding. `budget` is what
    /// the entry's headers may still bring.
    fn extension(&mut self, block: &Block, budget: &mut u64) -> io::Result<Vec<u8>> {
        let size = header::size(block)?;
        *budget = budget.checked_sub(size).ok_or_else(malformed)?;
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            body.extend_from_slice(&self.block()?.ok_or_else(eof)?);
        }
        body.truncate(size as usize);
        Ok(body)
    }
}

/// Payload of the current entry as a plain reader.
impl<R: BufRead, C: Capture> Read for Reader<R, C> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let buffer = self.payload()?;
        let n = buffer.len().min(out.len());
        out[..n].copy_from_slice(&buffer[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// `fill_buf` that survives signals.
fn fill<R: BufRead>(inner: &mut R) -> io::Result<&[u8]> {
    loop {
        match inner.fill_buf() {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    inner.fill_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Keep(Vec<u8>);
    impl Capture for Keep {
        fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }

    #[test]
    fn payload_and_capture_are_the_whole() {
        let mut builder = tar::Builder::new(Vec::new());
        let long = format!("{}/file", "d".repeat(150));
        for (name, data) in [("a", &b"hello"[..]), (long.as_str(), &[7u8; 1000])] {
            let mut h = tar::Header::new_gnu();
            h.set_size(data.len() as u64);
            h.set_mode(0o644);
            builder.append_data(&mut h, name, data).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let mut reader = Reader::new(&bytes[..], Keep(Vec::new()));
        let mut seen = Vec::new();
        let mut payload = 0;
        while let Some(entry) = reader.entry().unwrap() {
            let data = reader.payload_to_vec(1 << 20).unwrap();
            payload += data.len();
            seen.push((String::from_utf8(entry.name).unwrap(), data.len()));
        }
        reader.finish().unwrap();
        assert_eq!(seen, [("a".to_owned(), 5), (long, 1000)]);
        assert_eq!(reader.capture.0.len() + payload, bytes.len());
    }

    #[test]
    fn truncation_is_an_error_except_in_the_last_padding() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut h = tar::Header::new_gnu();
        h.set_size(1000);
        builder.append_data(&mut h, "x", &[1u8; 1000][..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        let read = |cut: usize| -> io::Result<()> {
            let mut reader = Reader::new(&bytes[..cut], Discard);
            while reader.entry()?.is_some() {
                io::copy(&mut reader, &mut io::sink())?;
            }
            Ok(())
        };
        for cut in [1, 511, 513, 1000, 1511, 1537] {
            assert_eq!(read(cut).unwrap_err().to_string(), "unexpected EOF", "{cut}");
        }
        // The payload is whole; only the zeros behind it are missing.
        for cut in [1512, 1535, 1536] {
            read(cut).unwrap();
        }
    }

    fn pax(flag: u8, records: &[u8]) -> Vec<u8> {
        let mut h = tar::Header::new_ustar();
        h.as_mut_bytes()[156] = flag;
        h.set_size(records.len() as u64);
        h.set_cksum();
        let mut out = h.as_bytes().to_vec();
        out.extend_from_slice(records);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        out
    }

    fn file() -> Vec<u8> {
        let mut h = tar::Header::new_ustar();
        h.set_path("x").unwrap();
        h.set_size(0);
        h.set_cksum();
        h.as_bytes().to_vec()
    }

    /// What compresses to nothing must not become memory: neither many extension
    /// headers before one entry nor one with more than any file can have.
    #[test]
    fn extension_headers_have_a_budget() {
        let large = [b"500000 comment=", vec![b'a'; 500_000 - 16].as_slice(), b"\n"].concat();
        for (headers, fine) in [(1, true), (2, true), (3, false), (3000, false)] {
            let tar = [pax(b'x', &large).repeat(headers), file()].concat();
            assert_eq!(Reader::new(&tar[..], Discard).entry().is_ok(), fine, "{headers}");
            // Each entry has it anew.
            let tar = [pax(b'x', &large), file()].concat().repeat(3);
            let mut reader = Reader::new(&tar[..], Discard);
            assert!((0..3).all(|_| reader.entry().is_ok_and(|e| e.is_some())));
        }
        for (attributes, fine) in [(header::MAX_XATTRS, true), (header::MAX_XATTRS + 1, false)] {
            let records: String = (0..attributes).map(|n| format!("28 SCHILY.xattr.user.{n:05}=\n")).collect();
            let tar = [pax(b'x', records.as_bytes()), file()].concat();
            assert_eq!(Reader::new(&tar[..], Discard).entry().is_ok(), fine, "{attributes}");
        }
    }

    #[test]
    fn the_last_global_owner_counts() {
        let tar =
            [pax(b'g', &b"8 uid=1\n".repeat(100)), pax(b'g', b"8 uid=2\n8 uid=3\n8 gid=4\n8 uid=5\n"), file()].concat();
        let mut reader = Reader::new(&tar[..], Discard);
        let entry = reader.entry().unwrap().unwrap();
        assert_eq!((entry.uid, entry.gid, reader.global.records.len()), (5, 4, 2));
    }
}
