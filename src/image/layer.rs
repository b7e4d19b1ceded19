//! Taking a layer in: stream → digest → decompress → diff ID → untar, in one
//! pass (`flow` has the threads and buffers), so memory does not grow with the
//! layer, and what was written or read is dropped from the page cache.
//!
//! Fidelity: what arrived compressed is kept compressed (the blob), because a
//! deflate stream cannot be made again: every encoder has its own, and a push
//! must give the digest that was pulled. It costs what the download cost, 30 to
//! 45 percent of the unpacked size; `--keep-blobs=false` gives the space back and
//! lets a push recompress, under another digest. What arrived plain is never
//! stored twice: the tar is made again from the tree and the tar record
//! (`storage::split`), which every layer has, so `save` and diff IDs do not depend
//! on the blob.

use super::compress::{self, Compression};
use super::digest::{Digest, Hasher};
use super::flow::{Copy, Meter, Source, diff_id_alone, untar};
use super::room::{self, Reached};
use super::unfinished::Partial;
use super::window::Window;
use crate::error::{Context, Error, Result};
use crate::storage::apply::Outcome;
use crate::storage::behind::Behind;
use crate::storage::{Driver, Staging};
use crate::util::id;
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const READ: usize = 64 * 1024;

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
    /// What an earlier try has already; the input goes on behind it.
    pub partial: Option<Partial>,
    /// The input is a blob of the store: it is not stored again.
    pub stored: bool,
}

impl<'a> Ingest<'a> {
    pub fn new(expected: Expected, cancel: &'a AtomicBool, progress: &'a mut dyn FnMut(u64)) -> Self {
        Self { expected, cancel, progress, partial: None, stored: false }
    }
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
    /// Of the bytes as they came.
    pub digest: Digest,
    /// Length of the tar.
    pub tar_size: u64,
    pub(super) blob: Option<Blob>,
    pub(super) body: Body,
}

pub(super) enum Body {
    Tree(Box<dyn Staging>, Outcome),
    /// The driver needs the parent first (vfs): the bytes wait here.
    Spooled(TempFile),
}

/// Removed when dropped, unless it is renamed away or a later try may go on
/// with it.
#[derive(Debug)]
pub(super) struct TempFile {
    pub path: PathBuf,
    pub file: File,
    pub resumable: bool,
}

impl TempFile {
    pub fn new(dir: &Path) -> Result<Self> {
        let path = dir.join(&id::random()[..20]);
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        Ok(Self { file: file.with_context(|| format!("create {}", path.display()))?, path, resumable: false })
    }
    pub fn keep(mut self, target: &Path) -> Result<()> {
        fs::rename(&self.path, target).with_context(|| format!("rename to {}", target.display()))?;
        // The old name may be somebody else's by now.
        self.resumable = true;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // Gone already if it was kept.
        if !self.resumable {
            let _ = fs::remove_file(&self.path);
        }
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
    let Ingest { expected, cancel, progress, partial, stored } = ingest;
    let spool = !place.driver.independent_layers() && parent.is_none();
    let have = partial.as_ref().map_or(0, |p| p.length);
    let mut earlier = partial.map(|p| p.file);
    let mut source = Source { input, earlier: earlier.as_ref().map(|e| (&e.file, have)), at: 0, failed: false };
    let (compression, stream) = compress::peek(&mut source).map_err(stream_error)?;
    let mut head = stream.into_inner().0.into_inner();
    let packed = matches!(compression, Compression::Gzip | Compression::Zstd);
    let keep = spool || (place.keep_blobs && packed && !stored);
    let fresh = if keep && earlier.is_none() { Some(TempFile::new(place.tmp)?) } else { None };
    let file = earlier.as_ref().or(fresh.as_ref()).filter(|_| keep).map(|f| &f.file);
    let claimed = Window::claim(&mut source, &mut head, file, cancel, progress);
    let _window = match claimed {
        Ok(window) => window,
        Err(e) => {
            let (failed, stored) = (source.failed, source.earlier.map_or(0, |e| e.1));
            if let Some(earlier) = &mut earlier {
                earlier.resumable = failed || cancel.load(Ordering::Relaxed);
            }
            let reached = Reached { announced: expected.size, read: stored, unpacked: 0, kept: keep };
            return Err(room::explain(e, place.tmp, reached));
        }
    };
    let have = source.earlier.map_or(0, |e| e.1);
    let stream = io::Cursor::new(head).chain(&mut source);
    let meter = Meter {
        input: stream,
        hasher: (compression != Compression::None).then(Hasher::new),
        count: 0,
        limit: expected.size,
        copy: file.map(|file| Copy { file, have, behind: Behind::from(have) }),
        cancel,
        progress,
        failure: None,
    };
    let mut stream = BufReader::with_capacity(READ, meter);
    let seen = Cell::new(0);
    let unpacked = if spool {
        diff_id_alone(compression, &mut stream, &seen).map(|diff_id| (None, diff_id))
    } else {
        place.driver.stage(parent.flatten()).and_then(|staging| {
            let (outcome, diff_id) = untar(place, compression, &mut stream, &*staging, cancel, &seen)?;
            Ok((Some((staging, outcome)), diff_id))
        })
    };
    // Bytes after the end of the packed stream belong to the blob as well.
    let rest = |done| io::copy(&mut stream, &mut io::sink()).map(|_| done).map_err(stream_error);
    let unpacked = unpacked.and_then(rest);
    let Meter { hasher, count: size, failure, copy, .. } = stream.into_inner();
    if let Some(copy) = copy {
        copy.behind.finish(copy.file, size);
    }
    let verified = unpacked.map_err(|e| failure.unwrap_or(e)).and_then(|(body, diff_id)| {
        let digest = hasher.map_or(diff_id, Hasher::finish);
        verify(&expected, digest, size, diff_id).map(|()| (body, diff_id, digest))
    });
    // A cut link says nothing against what came before; all else does.
    let broken_off = source.failed || cancel.load(Ordering::Relaxed);
    if let Some(earlier) = &mut earlier {
        earlier.resumable = keep && (verified.is_ok() || broken_off);
    }
    let reached = Reached { announced: expected.size, read: size, unpacked: seen.get(), kept: keep };
    let (body, diff_id, digest) = verified.map_err(|e| room::explain(e, place.tmp, reached))?;
    let (body, blob) = match (body, earlier.or(fresh).filter(|_| keep)) {
        (Some((staging, outcome)), blob) => (Body::Tree(staging, outcome), blob),
        (None, Some(file)) => (Body::Spooled(file), None),
        (None, None) => return Err(Error::system("layer was neither unpacked nor spooled")),
    };
    let blob = blob.map(|file| Blob { digest, size, compression, file });
    Ok(Staged { diff_id, digest, tar_size: seen.get(), blob, body })
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
    let mut input = BufReader::with_capacity(READ, input);
    let (outcome, _) = untar(place, compression, &mut input, &*staging, cancel, &Cell::new(0))?;
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
