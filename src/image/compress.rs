//! What a stream is packed with, by its first bytes, and the way out of it.
//! Streaming, bounded memory; any thread.

use super::gzip::Gzip;
use crate::error::{Error, Result};
use std::io::{self, BufRead, Read};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

/// Log2 of the largest window that is taken (zstd -19 uses 8 MiB, `--long` 128).
const ZSTD_WINDOW: u32 = 27;
/// KiB: xz -9 needs 65 MiB.
const XZ_MEMORY: u32 = 128 << 10;
/// Bytes that `detect` wants to see, and the longest head of a zstd frame.
pub const MAGIC: usize = 18;

impl Compression {
    /// By the first bytes; what is unknown is taken as plain.
    pub fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame may come first (zstd:chunked, pzstd).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            _ => Self::None,
        }
    }

    /// The OCI media type of a layer so packed; none for those that registries
    /// do not know.
    pub fn media_type(self) -> Option<&'static str> {
        match self {
            Self::None => Some(super::manifest::OCI_LAYER),
            Self::Gzip => Some(super::manifest::OCI_LAYER_GZIP),
            Self::Zstd => Some(super::manifest::OCI_LAYER_ZSTD),
            Self::Xz | Self::Bzip2 => None,
        }
    }

    /// Boxed on both sides: one copy of each decoder in the program.
    pub fn decoder<'a>(self, input: Box<dyn BufRead + 'a>) -> Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => input,
            Self::Gzip => Box::new(Gzip::new(input)),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Box::new(Zstd(decoder))
            }
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, XZ_MEMORY)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        })
    }
}

/// Looks at the first bytes and gives back the whole stream.
pub fn peek<R: Read>(mut input: R) -> io::Result<(Compression, io::Chain<io::Cursor<Vec<u8>>, R>)> {
    let mut head = vec![0; MAGIC];
    let mut have = 0;
    while have < head.len() {
        match input.read(&mut head[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    head.truncate(have);
    Ok((Compression::detect(&head), io::Cursor::new(head).chain(input)))
}

/// A decompressed stream, whatever it was packed with.
pub fn auto<'a, R: Read + 'a>(input: R) -> Result<Box<dyn Read + 'a>> {
    let (compression, input) = peek(input).map_err(Error::from)?;
    compression.decoder(Box::new(io::BufReader::with_capacity(128 * 1024, input)))
}

/// Says of what the library's words are: "Unknown frame descriptor" alone helps nobody.
struct Zstd<R>(R);

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out).map_err(|e| match e.get_ref() {
            // What the input brought is an error of ours, and says enough.
            Some(inner) if e.kind() == io::ErrorKind::Other && !inner.is::<Error>() => {
                io::Error::new(io::ErrorKind::InvalidData, format!("zstd: {e}"))
            }
            _ => e,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn unpacks_what_it_detects() {
        let data: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&data).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&data[..], 1).unwrap();
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd, &zstd].concat();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&data).unwrap();
        let bzip2 = bzip2.finish().unwrap();
        for (packed, kind, times) in [
            (data.clone(), Compression::None, 1),
            (gzip.clone(), Compression::Gzip, 1),
            ([gzip.clone(), gzip.clone()].concat(), Compression::Gzip, 2),
            (zstd.clone(), Compression::Zstd, 1),
            (skippable, Compression::Zstd, 2),
            (bzip2, Compression::Bzip2, 1),
        ] {
            assert_eq!(Compression::detect(&packed), kind);
            let mut out = Vec::new();
            auto(&packed[..]).unwrap().read_to_end(&mut out).unwrap();
            assert!(out == data.repeat(times), "{kind:?}");
        }
        let mut cut = gzip.clone();
        cut.truncate(cut.len() - 4);
        assert!(io::copy(&mut auto(&cut[..]).unwrap(), &mut io::sink()).is_err());
        let mut followed = zstd::encode_all(&data[..], 1).unwrap();
        followed.extend_from_slice(b"junk");
        let told = io::copy(&mut auto(&followed[..]).unwrap(), &mut io::sink()).unwrap_err().to_string();
        assert!(told.starts_with("zstd: "), "{told}");
        let mut broken = gzip;
        let at = broken.len() - 6;
        broken[at] ^= 1;
        assert!(io::copy(&mut auto(&broken[..]).unwrap(), &mut io::sink()).is_err());
    }
}
