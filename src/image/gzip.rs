//! gzip (RFC 1952), as many members as there are. Streaming; any thread.
//!
//! Of our own because of the checksum: the decoder's library computes it by
//! code that is slower than the hash beside it, and says less than Go does when
//! it does not fit.

use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress, Status};
use std::io::{self, BufRead, Read};

const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const HEADER_SUM: u8 = 2;

pub(super) struct Gzip<R> {
    input: R,
    inflate: Decompress,
    sum: Hasher,
    /// Of this member, as far as its trailer counts: modulo 2³².
    length: u32,
    /// In a member that has not been read to its end.
    open: bool,
    members: u64,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("gzip: {what}"))
}

impl<R: BufRead> Gzip<R> {
    pub fn new(input: R) -> Self {
        let inflate = Decompress::new(false);
        Self { input, inflate, sum: Hasher::new(), length: 0, open: false, members: 0 }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// False at the end of the input behind a member.
    fn next_member(&mut self) -> io::Result<bool> {
        if self.members > 0 && self.input.fill_buf()?.is_empty() {
            return Ok(false);
        }
        let mut head = [0; 10];
        self.input.read_exact(&mut head)?;
        let flags = head[3];
        if head[..3] != [0x1f, 0x8b, 8] || flags & 0xe0 != 0 {
            return Err(bad("invalid header"));
        }
        if flags & EXTRA != 0 {
            let length = u16::from_le_bytes([self.byte()?, self.byte()?]);
            for _ in 0..length {
                self.byte()?;
            }
        }
        for text in [NAME, COMMENT] {
            if flags & text != 0 {
                while self.byte()? != 0 {}
            }
        }
        if flags & HEADER_SUM != 0 {
            self.byte()?;
            self.byte()?;
        }
        self.inflate.reset(false);
        self.sum.reset();
        self.length = 0;
        self.open = true;
        self.members += 1;
        Ok(true)
    }

    fn end_of_member(&mut self) -> io::Result<()> {
        let mut trailer = [0; 8];
        self.input.read_exact(&mut trailer)?;
        self.open = false;
        let ours = [self.sum.clone().finalize().to_le_bytes(), self.length.to_le_bytes()].concat();
        if ours == trailer { Ok(()) } else { Err(bad("invalid checksum")) }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.open && !self.next_member()? {
                return Ok(0);
            }
            let data = self.input.fill_buf()?;
            let ended = data.is_empty();
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(data, out, FlushDecompress::None).map_err(|_| bad("corrupt input"))?;
            let (read, written) = (self.inflate.total_in() - read, (self.inflate.total_out() - written) as usize);
            self.input.consume(read as usize);
            self.sum.update(&out[..written]);
            self.length = self.length.wrapping_add(written as u32);
            if status == Status::StreamEnd {
                self.end_of_member()?;
            } else if written == 0 && ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if written > 0 {
                return Ok(written);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, GzBuilder};
    use std::io::Write;

    fn pack(data: &[u8]) -> Vec<u8> {
        let all = GzBuilder::new().filename("name").comment("why").extra(vec![1; 300]);
        let mut gz = all.write(Vec::new(), Compression::fast());
        gz.write_all(data).unwrap();
        gz.finish().unwrap()
    }

    fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        // As a slow link gives it.
        let input = io::BufReader::with_capacity(7, packed);
        Gzip::new(input).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn members_follow_one_another() {
        let data: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect();
        for part in [&data[..], b"", b"x"] {
            assert!(unpack(&pack(part)).unwrap() == part);
        }
        let two = [pack(&data), pack(b""), pack(b"end")].concat();
        assert!(unpack(&two).unwrap() == [&data[..], b"end"].concat());
    }

    #[test]
    fn what_is_broken_is_named() {
        let whole = pack(b"some content that is long enough to be cut in places");
        for cut in 0..whole.len() {
            assert_eq!(unpack(&whole[..cut]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{cut}");
        }
        let text = |bytes: &[u8]| unpack(bytes).unwrap_err().to_string();
        for at in whole.len() - 8..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            assert_eq!(text(&broken), "gzip: invalid checksum");
        }
        assert_eq!(text(&[&whole[..], &[0; 20]].concat()), "gzip: invalid header");
        let mut broken = whole;
        broken[3] |= 0x80;
        assert_eq!(text(&broken), "gzip: invalid header");
    }
}
