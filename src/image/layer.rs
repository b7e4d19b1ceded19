//! Taking a layer in: stream → digest → decompress → diff ID → untar, in one
//! pass. The calling thread reads, hashes and decompresses; a second one writes
//! the tree. Between them stand four buffers of 256 KiB, so memory does not grow
//! with the layer.
//!
//! Fidelity: what arrived compressed is kept compressed (the blob), because a
//! deflate stream cannot be made again: every encoder has its own, and a push
//! must give the digest that was pulled. It costs what the download cost, 30 to
//! 45 percent of the unpacked size; `keep_blobs: false` gives the space back and
//! lets a push recompress. What arrived plain is never stored twice: the tar is
//! made again from the tree and the tar record (`storage::split`), which every
//! layer has, so `save` and diff IDs do not depend on the blob.

use super::compress::{self, Compression};
use super::digest::{Digest, Hasher};
use crate::error::{Context, Error, Result};
use crate::storage::apply::{self, Limits, Outcome};
use crate::storage::split::SPLIT;
use crate::storage::{Driver, Staging};
use crate::util::id;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// What is known of a layer before it comes. Everything may be unknown.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Of the bytes as they come.
    pub digest: Option<Digest>,
    pub size: Option<u64>,
    /// Of the tar inside.
    pub diff_id: Option<Digest>,
}

/// How to take it in.
pub struct Ingest<'a> {
    pub expected: Expected,
    /// Stops at the next buffer when set.
    pub cancel: &'a AtomicBool,
    /// Gets the count of bytes read so far (compressed).
    pub progress: &'a mut dyn FnMut(u64),
}

/// The bytes of a layer as they came, kept for pushing.
#[derive(Debug)]
pub struct Blob {
    pub digest: Digest,
    pub size: u64,
    pub compression: Compression,
    file: TempFile,
}

/// A layer that is on disk and verified but has no place yet: its chain ID
/// depends on its parent. Dropped, it is removed.
pub struct Staged {
    pub diff_id: Digest,
    /// Digest and size of the bytes as they came.
    pub digest: Digest,
    pub compressed_size: u64,
    /// Length of the tar.
    pub tar_size: u64,
    pub compression: Compression,
    pub(super) blob: Option<Blob>,
    pub(super) body: Body,
}

pub(super) enum Body {
    Tree(Box<dyn Staging>, Outcome),
    /// The driver needs the parent first (vfs): the bytes wait here.
    Spooled(TempFile),
}

/// Removed when dropped, unless it is renamed away.
#[derive(Debug)]
pub(super) struct TempFile {
    pub path: PathBuf,
    pub file: File,
}

impl TempFile {
    pub fn new(dir: &Path) -> Result<Self> {
        let path = dir.join(&id::random()[..20]);
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        Ok(Self { file: file.with_context(|| format!("create {}", path.display()))?, path })
    }
    pub fn keep(self, target: &Path) -> Result<()> {
        fs::rename(&self.path, target).with_context(|| format!("rename to {}", target.display()))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // Gone already if it was kept.
        let _ = fs::remove_file(&self.path);
    }
}

impl Staged {
    /// Its compressed form is of no use to anybody.
    pub fn discard_blob(&mut self) {
        self.blob = None;
    }
}

impl Blob {
    pub(super) fn keep(self, target: &Path) -> Result<()> {
        self.file.keep(target)
    }
}

/// What taking in needs of its surroundings.
pub(super) struct Place<'a> {
    pub driver: &'a dyn Driver,
    pub tmp: &'a Path,
    pub keep_blobs: bool,
    pub single_id: bool,
    pub devices: bool,
}

/// Reads a layer to its end. `parent` (chain ID) is used by drivers that need
/// it; `None` inside says "the bottom", `None` outside "not known yet".
pub(super) fn take_in(
    place: &Place<'_>,
    input: &mut dyn Read,
    parent: Option<Option<&str>>,
    ingest: Ingest<'_>,
) -> Result<Staged> {
    let Ingest { expected, cancel, progress } = ingest;
    let (compression, input) = compress::peek(input).map_err(stream_error)?;
    let spool = !place.driver.independent_layers() && parent.is_none();
    let keep = spool || (place.keep_blobs && matches!(compression, Compression::Gzip | Compression::Zstd));
    let blob = if keep { Some(TempFile::new(place.tmp)?) } else { None };
    let meter = Meter {
        input,
        hasher: (compression != Compression::None).then(Hasher::new),
        count: 0,
        limit: expected.size,
        copy: blob.as_ref().map(|b| &b.file),
        cancel,
        progress,
    };
    let mut input = BufReader::with_capacity(128 * 1024, meter);
    let (body, diff_id, tar_size) = if spool {
        let (diff_id, size) = drain(compression, &mut input, |_| Ok(()))?;
        (None, diff_id, size)
    } else {
        let staging = place.driver.stage(parent.flatten())?;
        let (outcome, diff_id, size) = untar(place, compression, &mut input, &*staging, cancel)?;
        (Some((staging, outcome)), diff_id, size)
    };
    // Bytes after the end of the packed stream belong to the blob as well.
    io::copy(&mut input, &mut io::sink()).map_err(stream_error)?;
    let meter = input.into_inner();
    let digest = meter.hasher.map_or(diff_id, Hasher::finish);
    let size = meter.count;
    verify(&expected, digest, size, diff_id)?;
    let (body, blob) = match (body, blob) {
        (Some((staging, outcome)), blob) => (Body::Tree(staging, outcome), blob),
        (None, Some(file)) => (Body::Spooled(file), None),
        (None, None) => return Err(Error::system("layer was neither unpacked nor spooled")),
    };
    let blob = blob.map(|file| Blob { digest, size, compression, file });
    Ok(Staged { diff_id, digest, compressed_size: size, tar_size, compression, blob, body })
}

fn verify(expected: &Expected, digest: Digest, size: u64, diff_id: Digest) -> Result<()> {
    if let Some(wanted) = expected.size
        && wanted != size
    {
        return Err(Error::invalid(format!("layer {digest} has {size} bytes where {wanted} were announced")));
    }
    if let Some(wanted) = expected.digest
        && wanted != digest
    {
        return Err(Error::invalid(format!("filesystem layer verification failed for digest {wanted}: got {digest}")));
    }
    if let Some(wanted) = expected.diff_id
        && wanted != diff_id
    {
        return Err(Error::invalid(format!("invalid diffID: expected \"{wanted}\", got \"{diff_id}\"")));
    }
    Ok(())
}

/// Unpacks what was spooled, now that the parent is known.
pub(super) fn unspool(
    place: &Place<'_>,
    spool: &TempFile,
    parent: Option<&str>,
    cancel: &AtomicBool,
) -> Result<(Box<dyn Staging>, Outcome)> {
    let file = File::open(&spool.path)?;
    let (compression, input) = compress::peek(file).map_err(Error::from)?;
    let staging = place.driver.stage(parent)?;
    let mut input = BufReader::with_capacity(128 * 1024, input);
    let (outcome, _, _) = untar(place, compression, &mut input, &*staging, cancel)?;
    Ok((staging, outcome))
}

/// Our own errors that travelled through `io::Error` come out whole.
pub(super) fn stream_error(e: io::Error) -> Error {
    match e.downcast::<Error>() {
        Ok(inner) => inner,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Error::invalid("unexpected EOF"),
        Err(e) if e.raw_os_error().is_some() => e.into(),
        Err(e) => Error::invalid(e.to_string()),
    }
}

/// Decompresses and hashes; `sink` gets the tar.
fn drain<R: BufRead>(
    compression: Compression,
    input: &mut R,
    mut sink: impl FnMut(Vec<u8>) -> Result<()>,
) -> Result<(Digest, u64)> {
    let mut hasher = Hasher::new();
    let mut size = 0;
    let mut decoder = compression.decoder(input);
    loop {
        let mut buffer = vec![0; CHUNK];
        let mut have = 0;
        while have < CHUNK {
            match decoder.read(&mut buffer[have..]) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(stream_error(e)),
            }
        }
        if have == 0 {
            return Ok((hasher.finish(), size));
        }
        buffer.truncate(have);
        hasher.update(&buffer);
        size += have as u64;
        sink(buffer)?;
    }
}

const CHUNK: usize = 256 * 1024;
const IN_FLIGHT: usize = 4;
/// Deepest frames are a decoder's tables and one path buffer.
const STACK: usize = 512 * 1024;

fn untar<R: BufRead>(
    place: &Place<'_>,
    compression: Compression,
    input: &mut R,
    staging: &dyn Staging,
    cancel: &AtomicBool,
) -> Result<(Outcome, Digest, u64)> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let split = File::from(openat(staging.aside(), SPLIT, flags, Mode::from_bits_truncate(0o600))?);
    let (sender, receiver) = sync_channel(IN_FLIGHT);
    // The reader failed or was cancelled: the end of the channel is then no end
    // of the tar.
    let broken = AtomicBool::new(false);
    let (single_id, devices) = (place.single_id, place.devices);
    std::thread::scope(|scope| {
        let (broken, cancel) = (&broken, cancel);
        let writer =
            std::thread::Builder::new().name("untar".into()).stack_size(STACK).spawn_scoped(scope, move || {
                let cancelled = || cancel.load(Ordering::Relaxed);
                let options = apply::Options { limits: Limits::default(), cancelled: &cancelled, single_id, devices };
                let pipe = Pipe { receiver, current: Vec::new(), at: 0, broken };
                apply::apply(pipe, staging, Some(BufWriter::new(split)), options)
            })?;
        let sent = drain(compression, input, |buffer| send(&sender, buffer));
        broken.store(sent.is_err(), Ordering::Release);
        drop(sender);
        let written = writer.join().map_err(|_| Error::system("the unpacking thread panicked"))?;
        match (sent, written) {
            // A gone writer is only the symptom.
            (Err(e), Err(w)) => Err(if e.message() == WRITER_GONE { w } else { e }),
            (Err(e), Ok(_)) | (Ok(_), Err(e)) => Err(e),
            (Ok((diff_id, size)), Ok((outcome, split))) => {
                if let Some(mut split) = split {
                    split.flush().context("write the layer's tar record")?;
                }
                Ok((outcome, diff_id, size))
            }
        }
    })
}

const WRITER_GONE: &str = "the unpacking thread has stopped";

fn send(sender: &SyncSender<Vec<u8>>, buffer: Vec<u8>) -> Result<()> {
    sender.send(buffer).map_err(|_| Error::system(WRITER_GONE))
}

/// The receiving end as a reader.
struct Pipe<'a> {
    receiver: Receiver<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    broken: &'a AtomicBool,
}

impl BufRead for Pipe<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            self.at = 0;
            self.current = self.receiver.recv().unwrap_or_default();
            if self.current.is_empty() && self.broken.load(Ordering::Acquire) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(&self.current[self.at..])
    }
    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for Pipe<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let buffer = self.fill_buf()?;
        let n = buffer.len().min(out.len());
        out[..n].copy_from_slice(&buffer[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// Counts, hashes and copies bytes as they pass.
struct Meter<'a, R> {
    input: R,
    hasher: Option<Hasher>,
    count: u64,
    limit: Option<u64>,
    copy: Option<&'a File>,
    cancel: &'a AtomicBool,
    progress: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Meter<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::other(Error::cancelled()));
        }
        let n = self.input.read(out)?;
        let data = &out[..n];
        self.count += n as u64;
        if self.limit.is_some_and(|limit| self.count > limit) {
            let limit = self.limit.unwrap_or_default();
            return Err(io::Error::other(Error::invalid(format!("layer has more than the announced {limit} bytes"))));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(data);
        }
        if let Some(mut copy) = self.copy {
            copy.write_all(data)?;
        }
        if n > 0 {
            (self.progress)(self.count);
        }
        Ok(n)
    }
}
