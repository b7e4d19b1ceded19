//! The inside of taking a layer in: where the bytes pass by. One thread reads,
//! hashes what comes and decompresses it into buffers, a second one hashes and
//! untars those; the buffers go round, so that memory is neither made nor zeroed
//! while a layer flows.

use super::compress::Compression;
use super::digest::{Digest, Hasher};
use super::layer::{Place, stream_error};
use crate::error::{Context, Error, Result};
use crate::storage::Staging;
use crate::storage::apply::{self, Limits, Outcome};
use crate::storage::behind::Behind;
use crate::storage::split::SPLIT;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

const CHUNK: usize = 128 * 1024;
const IN_FLIGHT: usize = 4;
/// Deepest frames are a decoder's tables and one path buffer.
const STACK: usize = 512 * 1024;
const WRITER_GONE: &str = "the unpacking thread has stopped";

/// Decompresses; `sink` gets the tar in buffers that `spare` gives. `seen` counts
/// the tar's bytes, also of a stream that breaks.
fn drain(
    compression: Compression,
    input: &mut dyn BufRead,
    seen: &Cell<u64>,
    mut spare: impl FnMut() -> Option<Vec<u8>>,
    mut sink: impl FnMut(Vec<u8>) -> Result<()>,
) -> Result<()> {
    let mut decoder = compression.decoder(Box::new(input))?;
    loop {
        let mut buffer = spare().unwrap_or_default();
        buffer.resize(CHUNK, 0);
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
            return Ok(());
        }
        buffer.truncate(have);
        seen.set(seen.get() + have as u64);
        sink(buffer)?;
    }
}

/// The diff ID of a stream that is not unpacked yet.
pub(super) fn diff_id_alone(compression: Compression, input: &mut dyn BufRead, seen: &Cell<u64>) -> Result<Digest> {
    let mut hasher = Hasher::new();
    let hash = |buffer: Vec<u8>| {
        hasher.update(&buffer);
        Ok(())
    };
    drain(compression, input, seen, || None, hash)?;
    Ok(hasher.finish())
}

/// Unpacks the stream into `staging`, with its tar record beside it.
pub(super) fn untar(
    place: &Place<'_>,
    compression: Compression,
    input: &mut dyn BufRead,
    staging: &dyn Staging,
    cancel: &AtomicBool,
    seen: &Cell<u64>,
) -> Result<(Outcome, Digest)> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let split = File::from(openat(staging.aside(), SPLIT, flags, Mode::from_bits_truncate(0o600))?);
    let (sender, receiver) = sync_channel(IN_FLIGHT);
    let (back, spare) = channel();
    // The reader failed or was cancelled: the end of the channel is then no end
    // of the tar.
    let broken = AtomicBool::new(false);
    // Hashed by the thread that has less to do.
    let packed = compression != Compression::None;
    let mut hasher = (!packed).then(Hasher::new);
    let (single_id, devices) = (place.single_id, place.devices);
    std::thread::scope(|scope| {
        let broken = &broken;
        let writer =
            std::thread::Builder::new().name("untar".into()).stack_size(STACK).spawn_scoped(scope, move || {
                let cancelled = || cancel.load(Ordering::Relaxed);
                let options = apply::Options { limits: Limits::default(), cancelled: &cancelled, single_id, devices };
                let hasher = packed.then(Hasher::new);
                let mut pipe = Pipe { receiver, back, current: Vec::new(), at: 0, broken, hasher };
                let applied = apply::apply(&mut pipe, staging, Some(BufWriter::new(split)), options)?;
                Ok((applied, pipe.hasher))
            })?;
        let forward = |buffer: Vec<u8>| {
            if let Some(hasher) = &mut hasher {
                hasher.update(&buffer);
            }
            sender.send(buffer).map_err(|_| Error::system(WRITER_GONE))
        };
        let sent = drain(compression, input, seen, || spare.try_recv().ok(), forward);
        broken.store(sent.is_err(), Ordering::Release);
        drop(sender);
        let written: Result<_> = writer.join().map_err(|_| Error::system("the unpacking thread panicked"))?;
        match (sent, written) {
            // A gone writer is only the symptom.
            (Err(e), Err(w)) => Err(if e.message() == WRITER_GONE { w } else { e }),
            (Err(e), Ok(_)) | (Ok(_), Err(e)) => Err(e),
            (Ok(()), Ok(((outcome, split), theirs))) => {
                if let Some(mut split) = split {
                    split.flush().context("write the layer's tar record")?;
                }
                Ok((outcome, hasher.or(theirs).unwrap_or_default().finish()))
            }
        }
    })
}

/// The receiving end as a reader; what was read goes back to be filled again.
struct Pipe<'a> {
    receiver: Receiver<Vec<u8>>,
    back: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    broken: &'a AtomicBool,
    /// The unpacker reads all that there is, up to the end behind the end marker.
    hasher: Option<Hasher>,
}

impl BufRead for Pipe<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            self.at = 0;
            let next = self.receiver.recv().unwrap_or_default();
            let used = std::mem::replace(&mut self.current, next);
            // Nobody fills it any more if the stream has ended.
            let _ = self.back.send(used);
            if self.current.is_empty() && self.broken.load(Ordering::Acquire) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&self.current);
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

/// What an earlier try stored, then the input.
pub(super) struct Source<'a> {
    pub input: &'a mut dyn Read,
    /// The file and how much of it there was.
    pub earlier: Option<(&'a File, u64)>,
    pub at: u64,
    /// The input broke off, which says nothing against what it gave before.
    pub failed: bool,
}

impl Read for Source<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Some((file, length)) = self.earlier
            && self.at < length
        {
            let room = usize::try_from(length - self.at).unwrap_or(usize::MAX).min(out.len());
            let n = file.read_at(&mut out[..room], self.at)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.at += n as u64;
            return Ok(n);
        }
        let result = self.input.read(out);
        self.failed |= result.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::Interrupted);
        result
    }
}

/// Where the stream is stored as it came: behind the first `have` bytes, which
/// are there already.
pub(super) struct Copy<'a> {
    pub file: &'a File,
    pub have: u64,
    pub behind: Behind,
}

/// Counts, hashes and copies bytes as they pass.
pub(super) struct Meter<'a, R> {
    pub input: R,
    pub hasher: Option<Hasher>,
    pub count: u64,
    pub limit: Option<u64>,
    pub copy: Option<Copy<'a>>,
    pub cancel: &'a AtomicBool,
    pub progress: &'a mut dyn FnMut(u64),
    /// What stopped the stream here: decompressors tell it in words of their own.
    pub failure: Option<Error>,
}

impl<R: Read> Meter<'_, R> {
    fn pass(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::other(Error::cancelled()));
        }
        let n = self.input.read(out)?;
        let (data, before) = (&out[..n], self.count);
        self.count += n as u64;
        if let Some(limit) = self.limit.filter(|limit| self.count > *limit) {
            return Err(io::Error::other(Error::invalid(format!("layer has more than the announced {limit} bytes"))));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(data);
        }
        if let Some(copy) = &mut self.copy {
            let known = usize::try_from(copy.have.saturating_sub(before)).unwrap_or(n).min(n);
            if known < n {
                let stored = copy.file.write_all_at(&data[known..], before + known as u64);
                stored.map_err(|e| io::Error::other(Error::from(e).context("store the compressed layer")))?;
                copy.behind.grown(copy.file, self.count);
            }
        }
        if n > 0 {
            (self.progress)(self.count);
        }
        Ok(n)
    }
}

impl<R: Read> Read for Meter<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.pass(out).map_err(|e| {
            if e.kind() == io::ErrorKind::Interrupted {
                return e;
            }
            let again = io::Error::new(e.kind(), "the layer's stream broke");
            self.failure = Some(stream_error(e));
            again
        })
    }
}
