//! What a layer's tar has besides file contents, so that the very same bytes
//! can be made again from the extracted tree: headers, padding, order and which
//! file stands where. One gzip file per layer, about one percent of it.
//!
//! Format: a sequence of records, each a tag byte and its fields (numbers are
//! LEB128): RAW length bytes · FILE path size crc · SPARSE path count (offset
//! length)… crc · END. The CRC finds files that were changed on disk and names
//! them; the layer's diff ID, which the caller checks, finds everything.
//!
//! A tar may write one path twice. What the later entry displaced is kept aside
//! (`MOVED` file: path, number of the record that it is valid before, name aside).

use crate::error::Result;
use crate::storage::tar::read::Capture;
use crate::util::json;
use crc32fast::Hasher;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;

const END: u8 = 0;
const RAW: u8 = 1;
const FILE: u8 = 2;
const SPARSE: u8 = 3;
/// Raw bytes are collected up to this before a record is written.
const CHUNK: usize = 64 * 1024;

/// Writes the record of one layer.
pub struct Writer<W: Write> {
    out: GzEncoder<W>,
    /// Whole records: the encoder is called for many of them at a time.
    ready: Vec<u8>,
    pending: Vec<u8>,
    /// FILE and SPARSE records so far.
    pub files: u64,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        let out = GzEncoder::new(out, flate2::Compression::fast());
        Self { out, ready: Vec::with_capacity(CHUNK), pending: Vec::with_capacity(CHUNK), files: 0 }
    }

    fn number(&mut self, mut n: u64) {
        loop {
            let byte = (n & 0x7f) as u8;
            n >>= 7;
            self.ready.push(if n == 0 { byte } else { byte | 0x80 });
            if n == 0 {
                return;
            }
        }
    }

    fn flush_raw(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.ready.push(RAW);
            self.number(self.pending.len() as u64);
            if self.ready.len() + self.pending.len() > CHUNK {
                self.flush()?;
            }
            self.ready.append(&mut self.pending);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.ready)?;
        self.ready.clear();
        Ok(())
    }

    fn path(&mut self, path: &[u8]) {
        self.number(path.len() as u64);
        self.ready.extend_from_slice(path);
    }

    /// The payload that follows is the whole file at `path`.
    pub fn file(&mut self, path: &[u8], size: u64, crc: u32) -> io::Result<()> {
        self.flush_raw()?;
        self.ready.push(FILE);
        self.path(path);
        self.number(size);
        self.number(u64::from(crc));
        self.files += 1;
        Ok(())
    }

    /// The payload that follows is these pieces of the file at `path`.
    pub fn sparse(&mut self, path: &[u8], pieces: &[(u64, u64)], crc: u32) -> io::Result<()> {
        self.flush_raw()?;
        self.ready.push(SPARSE);
        self.path(path);
        self.number(pieces.len() as u64);
        for (offset, length) in pieces {
            self.number(*offset);
            self.number(*length);
        }
        self.number(u64::from(crc));
        self.files += 1;
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<W> {
        self.flush_raw()?;
        self.ready.push(END);
        self.flush()?;
        self.out.finish()
    }
}

impl<W: Write> Capture for Writer<W> {
    fn raw(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = bytes.len().min(CHUNK - self.pending.len());
            self.pending.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.pending.len() == CHUNK {
                self.flush_raw()?;
            }
        }
        Ok(())
    }
}

/// A path whose content was put aside when record number `before` came.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Moved {
    pub path: Vec<u8>,
    pub before: u64,
    pub name: String,
}

/// The tar again, as a stream. Errors say which file is not what it was.
pub struct Assemble {
    records: BufReader<GzDecoder<BufReader<File>>>,
    root: File,
    aside: File,
    moved: Vec<Moved>,
    seen: u64,
    state: State,
}

enum State {
    Next,
    /// Bytes of a RAW record that are left.
    Raw(u64),
    Payload(Payload),
    Done,
}

struct Payload {
    file: File,
    path: Vec<u8>,
    pieces: Vec<(u64, u64)>,
    /// Index of the piece and offset in it.
    at: (usize, u64),
    crc: Hasher,
    expected: u32,
}

impl Assemble {
    /// `root` is the layer's tree, `aside` what was displaced.
    pub fn new(split: File, root: File, aside: File, moved: Vec<Moved>) -> Self {
        Self {
            records: BufReader::new(GzDecoder::new(BufReader::new(split))),
            root,
            aside,
            moved,
            seen: 0,
            state: State::Next,
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.records.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "tar record: number too long"))
    }

    fn path(&mut self) -> io::Result<Vec<u8>> {
        let length = self.number()?;
        if length > 16 * 1024 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "tar record: path too long"));
        }
        let mut path = vec![0; length as usize];
        self.records.read_exact(&mut path)?;
        Ok(path)
    }

    fn next_record(&mut self) -> io::Result<State> {
        match self.byte()? {
            END => Ok(State::Done),
            RAW => Ok(State::Raw(self.number()?)),
            FILE => {
                let path = self.path()?;
                let size = self.number()?;
                self.open(path, vec![(0, size)])
            }
            SPARSE => {
                let path = self.path()?;
                let count = self.number()?;
                let pieces = (0..count).map(|_| Ok((self.number()?, self.number()?))).collect::<io::Result<_>>()?;
                self.open(path, pieces)
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "tar record: unknown tag")),
        }
    }

    fn open(&mut self, path: Vec<u8>, pieces: Vec<(u64, u64)>) -> io::Result<State> {
        let expected = self.number()? as u32;
        let number = self.seen;
        self.seen += 1;
        // The first displacement after this record is where the content went.
        let aside = self.moved.iter().find_map(|m| {
            let rest = path.strip_prefix(m.path.as_slice())?;
            let inside = rest.is_empty() || rest.first() == Some(&b'/');
            (m.before > number && inside).then(|| [m.name.as_bytes(), rest].concat())
        });
        let (dir, place) = match &aside {
            Some(place) => (&self.aside, place),
            None => (&self.root, &path),
        };
        let place = CString::new(place.clone()).map_err(|_| changed(&path, "its name has a NUL"))?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = crate::sys::fs::open_beneath(dir.as_fd(), &place, flags, Mode::empty())
            .map_err(|e| changed(&path, e.desc()))?;
        let file = File::from(file);
        if !file.metadata()?.is_file() {
            return Err(changed(&path, "it is another kind of file"));
        }
        Ok(State::Payload(Payload { file, path, pieces, at: (0, 0), crc: Hasher::new(), expected }))
    }
}

fn changed(path: &[u8], why: &str) -> io::Error {
    let text = format!("file {:?} is not as it was in the layer: {why}", String::from_utf8_lossy(path));
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl Payload {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        while let Some((offset, length)) = self.pieces.get(self.at.0).copied() {
            let left = length - self.at.1;
            if left == 0 {
                self.at = (self.at.0 + 1, 0);
                continue;
            }
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
            let n = self.file.read_at(&mut out[..n], offset + self.at.1)?;
            if n == 0 {
                return Err(changed(&self.path, "it is shorter"));
            }
            self.crc.update(&out[..n]);
            self.at.1 += n as u64;
            return Ok(n);
        }
        if self.crc.clone().finalize() != self.expected {
            return Err(changed(&self.path, "its content differs"));
        }
        super::behind::done_reading(&self.file, self.pieces.iter().map(|p| p.1).sum());
        Ok(0)
    }
}

impl Read for Assemble {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            match &mut self.state {
                State::Done => return Ok(0),
                State::Next | State::Raw(0) => self.state = self.next_record()?,
                State::Raw(left) => {
                    let buffer = self.records.fill_buf()?;
                    if buffer.is_empty() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len()).min(out.len());
                    out[..n].copy_from_slice(&buffer[..n]);
                    self.records.consume(n);
                    *left -= n as u64;
                    return Ok(n);
                }
                State::Payload(payload) => match payload.read(out)? {
                    0 => self.state = State::Next,
                    n => return Ok(n),
                },
            }
        }
    }
}

/// Reads what was put aside; absent is none.
pub fn read_moved(aside: &File) -> Result<Vec<Moved>> {
    match crate::sys::fs::open_beneath(aside.as_fd(), MOVED, OFlag::O_RDONLY, Mode::empty()) {
        Ok(file) => {
            let mut bytes = Vec::new();
            File::from(file).read_to_end(&mut bytes)?;
            Ok(json::from_slice(&bytes)?)
        }
        Err(nix::errno::Errno::ENOENT) => Ok(Vec::new()),
        Err(e) => Err(e.into()),
    }
}

/// Names in a layer's aside directory.
pub const MOVED: &std::ffi::CStr = c"moved.json";
pub const SPLIT: &std::ffi::CStr = c"tar-split.gz";
