//! Decoding of the 512-byte header, of PAX records and of GNU sparse maps.
//! Pure; errors are `InvalidData` with Go's words, which users know.

use super::{BLOCK, Entry, Kind, Sparse, Time};
use std::io;

/// Pieces of one sparse map that are taken before the entry is refused.
pub const MAX_PIECES: usize = 256 * 1024;

/// Extended attributes of one entry; file systems take a few hundred at most.
pub const MAX_XATTRS: usize = 1024;

pub fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "archive/tar: invalid tar header")
}

pub type Block = [u8; BLOCK];

/// Type flags of headers that speak about the next one.
pub const PAX: u8 = b'x';
pub const PAX_GLOBAL: u8 = b'g';
pub const GNU_LONG_NAME: u8 = b'L';
pub const GNU_LONG_LINK: u8 = b'K';
pub const GNU_SPARSE: u8 = b'S';

pub fn is_zero(block: &Block) -> bool {
    block.iter().all(|b| *b == 0)
}

pub fn type_flag(block: &Block) -> u8 {
    block[156]
}

/// The sum is of unsigned bytes; some old programs summed signed ones.
pub fn check_sum(block: &Block) -> io::Result<()> {
    let stored = number(&block[148..156])?;
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (i, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&i) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte as i8);
    }
    if stored == unsigned || stored == signed { Ok(()) } else { Err(malformed()) }
}

/// Octal text, or GNU's base-256 where the first bit is set.
pub fn number(field: &[u8]) -> io::Result<i64> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (i, byte) in field.iter().enumerate() {
            let byte = if i == 0 { if negative { byte | 0x80 } else { byte & 0x7f } } else { *byte };
            value = (value << 8) | i128::from(byte);
            if !(-(1i128 << 63)..1i128 << 63).contains(&value) {
                return Err(malformed());
            }
        }
        return Ok(value as i64);
    }
    let text = field.split(|b| *b == 0).next().unwrap_or_default().trim_ascii();
    if text.is_empty() {
        return Ok(0);
    }
    let mut value: i64 = 0;
    for byte in text {
        if !(b'0'..=b'7').contains(byte) {
            return Err(malformed());
        }
        value = value.checked_mul(8).and_then(|v| v.checked_add(i64::from(byte - b'0'))).ok_or_else(malformed)?;
    }
    Ok(value)
}

fn unsigned(field: &[u8]) -> io::Result<u64> {
    u64::try_from(number(field)?).map_err(|_| malformed())
}

pub fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// The payload size that the header declares; of kinds that have none, 0.
pub fn size(block: &Block) -> io::Result<u64> {
    unsigned(&block[124..136])
}

/// The header alone, without what extension headers say.
pub fn entry(block: &Block) -> io::Result<Entry> {
    let ustar = &block[257..263] == b"ustar\0";
    let gnu = &block[257..265] == b"ustar  \0";
    let mut name = text(&block[..100]).to_vec();
    if ustar && block[345] != 0 {
        let mut full = text(&block[345..500]).to_vec();
        full.push(b'/');
        full.append(&mut name);
        name = full;
    }
    let kind = match type_flag(block) {
        0 if name.ends_with(b"/") => Kind::Dir,
        0 | b'0' | b'7' | GNU_SPARSE => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Char,
        b'4' => Kind::Block,
        b'5' => Kind::Dir,
        b'6' => Kind::Fifo,
        other => Kind::Other(other),
    };
    let (major, minor) = if ustar || gnu { (unsigned(&block[329..337])?, unsigned(&block[337..345])?) } else { (0, 0) };
    Ok(Entry {
        name,
        link: text(&block[157..257]).to_vec(),
        kind,
        mode: unsigned(&block[100..108])? as u32 & 0o7777,
        uid: unsigned(&block[108..116])?,
        gid: unsigned(&block[116..124])?,
        size: size(block)?,
        mtime: Time { secs: number(&block[136..148])?, nanos: 0 },
        major: major as u32,
        minor: minor as u32,
        ..Entry::default()
    })
}

/// What PAX headers have said so far about the next entry.
#[derive(Debug, Default, Clone)]
pub struct Extension {
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
    pub long_name: Option<Vec<u8>>,
    pub long_link: Option<Vec<u8>>,
}

/// Splits `LEN KEY=VALUE\n` records.
pub fn pax_records(mut data: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !data.is_empty() {
        let space = data.iter().position(|b| *b == b' ').ok_or_else(malformed)?;
        let length: usize =
            std::str::from_utf8(&data[..space]).ok().and_then(|t| t.parse().ok()).ok_or_else(malformed)?;
        if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
            return Err(malformed());
        }
        let body = &data[space + 1..length - 1];
        let equals = body.iter().position(|b| *b == b'=').ok_or_else(malformed)?;
        records.push((body[..equals].to_vec(), body[equals + 1..].to_vec()));
        data = &data[length..];
    }
    Ok(records)
}

impl Extension {
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.records.iter().rev().find(|(k, _)| k == key.as_bytes()).map(|(_, v)| v.as_slice())
    }

    /// Applies what was said to the header that followed.
    pub fn merge(&self, entry: &mut Entry) -> io::Result<()> {
        if let Some(name) = &self.long_name {
            entry.name.clone_from(name);
        }
        if let Some(link) = &self.long_link {
            entry.link.clone_from(link);
        }
        for (key, value) in &self.records {
            // An empty value takes a record back (POSIX).
            match key.as_slice() {
                b"path" if !value.is_empty() => entry.name.clone_from(value),
                b"linkpath" if !value.is_empty() => entry.link.clone_from(value),
                b"size" if !value.is_empty() => entry.size = decimal(value)?,
                b"uid" if !value.is_empty() => entry.uid = decimal(value)?,
                b"gid" if !value.is_empty() => entry.gid = decimal(value)?,
                b"mtime" if !value.is_empty() => entry.mtime = time(value)?,
                b"atime" if !value.is_empty() => entry.atime = Some(time(value)?),
                key => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        entry.xattrs.retain(|(n, _)| n != name);
                        if entry.xattrs.len() == MAX_XATTRS {
                            return Err(malformed());
                        }
                        entry.xattrs.push((name.to_vec(), value.clone()));
                    }
                }
            }
        }
        if entry.kind == Kind::File && self.get("GNU.sparse.name").is_some_and(|n| !n.is_empty()) {
            entry.name = self.get("GNU.sparse.name").unwrap_or_default().to_vec();
        }
        Ok(())
    }

    /// GNU sparse format 1.0: the map stands before the payload.
    pub fn map_is_in_payload(&self) -> bool {
        self.get("GNU.sparse.major") == Some(b"1") && self.get("GNU.sparse.minor") == Some(b"0")
    }

    /// The file's length in any of the PAX sparse formats.
    pub fn sparse_length(&self) -> io::Result<Option<u64>> {
        self.get("GNU.sparse.realsize").or_else(|| self.get("GNU.sparse.size")).map(decimal).transpose()
    }

    /// Formats 0.0 (repeated records) and 0.1 (one list).
    pub fn sparse_map(&self) -> io::Result<Option<Sparse>> {
        let Some(length) = self.sparse_length()? else { return Ok(None) };
        let numbers: Vec<u64> = if let Some(map) = self.get("GNU.sparse.map") {
            map.split(|b| *b == b',').map(decimal).collect::<io::Result<_>>()?
        } else if self.get("GNU.sparse.numblocks").is_some() {
            let wanted = |k: &[u8]| matches!(k, b"GNU.sparse.offset" | b"GNU.sparse.numbytes");
            self.records.iter().filter(|(k, _)| wanted(k)).map(|(_, v)| decimal(v)).collect::<io::Result<_>>()?
        } else {
            return Ok(None);
        };
        pieces(length, &numbers).map(Some)
    }
}

/// Pairs of offset and length, checked to ascend within the file.
pub fn pieces(length: u64, numbers: &[u64]) -> io::Result<Sparse> {
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > MAX_PIECES {
        return Err(malformed());
    }
    let mut sparse = Sparse { length, pieces: Vec::with_capacity(numbers.len() / 2) };
    let mut end = 0u64;
    for pair in numbers.chunks_exact(2) {
        let after = pair[0].checked_add(pair[1]).ok_or_else(malformed)?;
        if pair[0] < end || after > length {
            return Err(malformed());
        }
        end = after;
        if pair[1] > 0 {
            sparse.pieces.push((pair[0], pair[1]));
        }
    }
    Ok(sparse)
}

/// Numbers of an old GNU sparse header or its continuation block; the second
/// value says whether another block follows.
pub fn gnu_pieces(area: &[u8], flag: u8, numbers: &mut Vec<u64>) -> io::Result<bool> {
    for pair in area.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        numbers.push(unsigned(&pair[..12])?);
        numbers.push(unsigned(&pair[12..])?);
    }
    if numbers.len() / 2 > MAX_PIECES {
        return Err(malformed());
    }
    Ok(flag != 0)
}

pub fn decimal(text: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(text).map_err(|_| malformed())?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed());
    }
    text.parse().ok().filter(|n| *n <= i64::MAX as u64).ok_or_else(malformed)
}

/// `-12.5` is half a second after minus thirteen.
fn time(text: &[u8]) -> io::Result<Time> {
    let text = std::str::from_utf8(text).map_err(|_| malformed())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let secs: i64 = whole.parse().map_err(|_| malformed())?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed());
    }
    let nanos: u32 =
        fraction.chars().chain("000000000".chars()).take(9).collect::<String>().parse().map_err(|_| malformed())?;
    if whole.starts_with('-') && nanos > 0 {
        return Ok(Time { secs: secs.checked_sub(1).ok_or_else(malformed)?, nanos: 1_000_000_000 - nanos });
    }
    Ok(Time { secs, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_both_forms() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b"    12 \0").unwrap(), 0o12);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]).unwrap(), 256);
        assert_eq!(number(&[0xff; 12]).unwrap(), -1);
        assert!(number(b"0009\0\0\0\0").is_err());
        assert!(number(&[0xbf; 12]).is_err());
    }

    #[test]
    fn records_and_times() {
        let r = pax_records(b"19 path=some/where\n30 mtime=1350244992.023960108\n").unwrap();
        assert_eq!(r[0], (b"path".to_vec(), b"some/where".to_vec()));
        assert_eq!(time(&r[1].1).unwrap(), Time { secs: 1_350_244_992, nanos: 23_960_108 });
        assert_eq!(time(b"-1.25").unwrap(), Time { secs: -2, nanos: 750_000_000 });
        for bad in [&b"5 a=b"[..], b"99 a=b\n", b"x", b"3 \n", b"0 a=b\n"] {
            assert!(pax_records(bad).is_err());
        }
    }

    #[test]
    fn sparse_maps_must_ascend() {
        assert!(pieces(10, &[0, 5, 4, 1]).is_err());
        assert!(pieces(10, &[0, 11]).is_err());
        assert!(pieces(u64::MAX, &[u64::MAX, 2]).is_err());
        assert_eq!(pieces(10, &[0, 5, 7, 0, 8, 2]).unwrap().pieces, [(0, 5), (8, 2)]);
    }
}
