//! Encoding of headers: ustar where it fits, PAX records in front where it does
//! not, as Go's `archive/tar` does. Pure.

use super::{BLOCK, Entry, Kind};
use crate::util::order;

/// The end marker.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Zero bytes that follow a payload of `size`.
pub fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// The header blocks of `entry`; `entry.size` payload bytes and their padding
/// come after. Times are whole seconds, as Docker writes them; sparse maps are
/// not written, the payload is the whole file.
pub fn header(entry: &Entry) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut block = [0u8; BLOCK];
    let name = if entry.kind == Kind::Dir && !entry.name.ends_with(b"/") {
        [entry.name.as_slice(), b"/"].concat()
    } else {
        entry.name.clone()
    };
    if !place_name(&mut block, &name) {
        records.push((b"path".to_vec(), name.clone()));
        let cut = name.len().min(100);
        block[..cut].copy_from_slice(&name[..cut]);
    }
    if entry.link.len() > 100 || !entry.link.is_ascii() {
        records.push((b"linkpath".to_vec(), entry.link.clone()));
    }
    let cut = entry.link.len().min(100);
    block[157..157 + cut].copy_from_slice(&entry.link[..cut]);
    octal(&mut block[100..108], u64::from(entry.mode));
    let size = if entry.kind == Kind::File { entry.size } else { 0 };
    for (key, value, range) in [("uid", entry.uid, 108..116), ("gid", entry.gid, 116..124), ("size", size, 124..136)] {
        if !octal(&mut block[range], value) {
            records.push((key.into(), value.to_string().into_bytes()));
        }
    }
    match u64::try_from(entry.mtime.secs) {
        Ok(secs) if octal(&mut block[136..148], secs) => {}
        _ => records.push((b"mtime".to_vec(), entry.mtime.secs.to_string().into_bytes())),
    }
    octal(&mut block[329..337], u64::from(entry.major));
    octal(&mut block[337..345], u64::from(entry.minor));
    block[156] = match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Char => b'3',
        Kind::Block => b'4',
        Kind::Dir => b'5',
        Kind::Fifo => b'6',
        Kind::Other(flag) => flag,
    };
    block[257..265].copy_from_slice(b"ustar\x0000");
    for (attribute, value) in &entry.xattrs {
        records.push(([b"SCHILY.xattr.".as_slice(), attribute].concat(), value.clone()));
    }
    let mut out = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        order::sort(&mut records);
        extension(&mut out, &name, &records);
    }
    finish(&mut block);
    out.extend_from_slice(&block);
    out
}

fn extension(out: &mut Vec<u8>, name: &[u8], records: &[(Vec<u8>, Vec<u8>)]) {
    let mut body = Vec::new();
    for (key, value) in records {
        body.extend_from_slice(&pax_record(key, value));
    }
    let (dir, base) = match name.trim_ascii_end().strip_suffix(b"/").unwrap_or(name).iter().rposition(|b| *b == b'/') {
        Some(slash) => (&name[..slash + 1], &name[slash + 1..]),
        None => (&b""[..], name),
    };
    let mut full = [dir, b"PaxHeaders.0/", base].concat();
    full.truncate(100);
    let mut block = [0u8; BLOCK];
    block[..full.len()].copy_from_slice(&full);
    octal(&mut block[100..108], 0);
    octal(&mut block[108..116], 0);
    octal(&mut block[116..124], 0);
    octal(&mut block[124..136], body.len() as u64);
    octal(&mut block[136..148], 0);
    block[156] = b'x';
    block[257..265].copy_from_slice(b"ustar\x0000");
    finish(&mut block);
    out.extend_from_slice(&block);
    let pad = padding(body.len() as u64);
    out.extend_from_slice(&body);
    out.resize(out.len() + pad, 0);
}

/// `LEN KEY=VALUE\n`, where LEN counts itself.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// Into `name`, or `prefix` and `name` split at a slash.
fn place_name(block: &mut [u8; BLOCK], name: &[u8]) -> bool {
    if !name.is_ascii() {
        return false;
    }
    if name.len() <= 100 {
        block[..name.len()].copy_from_slice(name);
        return true;
    }
    if name.len() > 256 {
        return false;
    }
    let body = name.strip_suffix(b"/").unwrap_or(name);
    let Some(slash) = (1..body.len().min(156)).rev().find(|i| body[*i] == b'/') else { return false };
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    if rest.is_empty() || rest.len() > 100 {
        return false;
    }
    block[..rest.len()].copy_from_slice(rest);
    block[345..345 + prefix.len()].copy_from_slice(prefix);
    true
}

/// Zero-padded octal with a closing NUL; false (and zeros) if it does not fit.
fn octal(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    let fits = value >> (3 * digits) == 0;
    let text = format!("{:0digits$o}", if fits { value } else { 0 });
    field[..digits].copy_from_slice(text.as_bytes());
    field[digits] = 0;
    fits
}

fn finish(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::read::{Discard, Reader};
    use super::super::{Kind, Time};
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let plain = Entry { name: b"a/b".to_vec(), mode: 0o4755, uid: 7, gid: 8, size: 3, ..Entry::default() };
        let dir = Entry { name: b"d/".to_vec(), kind: Kind::Dir, mode: 0o755, ..Entry::default() };
        let hard = Entry {
            name: [vec![b'x'; 180], b"/y".to_vec()].concat(),
            uid: 5_000_000,
            size: 0,
            mtime: Time { secs: -5, nanos: 0 },
            xattrs: vec![(b"security.capability".to_vec(), vec![0, 10, b'=', 255])],
            ..Entry::default()
        };
        let link = Entry { name: b"\xc3\xa9".to_vec(), kind: Kind::Symlink, link: vec![b'l'; 300], ..Entry::default() };
        let entries = [plain, dir, hard, link];
        let mut bytes = Vec::new();
        for entry in &entries {
            bytes.extend(header(entry));
            bytes.resize(bytes.len() + entry.size as usize + padding(entry.size), 1);
        }
        bytes.extend(END);
        let mut reader = Reader::new(&bytes[..], Discard);
        for entry in &entries {
            assert_eq!(reader.entry().unwrap().as_ref(), Some(entry));
        }
        assert_eq!(reader.entry().unwrap(), None);
    }
}
