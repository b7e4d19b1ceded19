//! A listed layer as a digest and as a tar: the second pass of a COPY.

use super::Layer;
use super::tree::Root;
use crate::error::{Context, Error, Result};
use crate::image::digest::{Digest, Hasher};
use crate::storage::tar::write;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// What an entry's bytes are.
#[derive(Clone)]
pub(super) enum Content {
    /// A file below a root.
    File(Root, String),
    /// A heredoc or a download.
    Bytes(Arc<Vec<u8>>),
    None,
}

impl Layer {
    /// Names, modes, owners, targets and contents; times do not count.
    pub fn digest(&self) -> Result<Digest> {
        let mut hash = Hasher::new();
        let mut buffer = vec![0; 128 << 10];
        for (name, item) in &self.items {
            let e = &item.entry;
            if name.rsplit(|b| *b == b'/').next().is_some_and(|last| last.starts_with(b".wh.")) {
                let name = String::from_utf8_lossy(name);
                return Err(Error::invalid(format!(
                    "cannot copy {name}: in a layer, names that begin with .wh. stand for deleted files"
                )));
            }
            let head = format!("{:?} {:o} {} {} {} {}\n", e.kind, e.mode, e.uid, e.gid, e.size, name.len());
            hash.update(head.as_bytes());
            hash.update(name);
            hash.update(&e.link);
            for (name, value) in &e.xattrs {
                hash.update(name);
                hash.update(value);
            }
            item.content.read(&mut buffer, e.size, &mut |bytes| {
                hash.update(bytes);
                Ok(())
            })?;
        }
        Ok(hash.finish())
    }

    /// The layer's tar. `epoch` replaces later times.
    pub fn write(&self, out: &mut dyn Write, epoch: Option<i64>) -> Result<()> {
        let mut buffer = vec![0; 128 << 10];
        for (name, item) in &self.items {
            let mut entry = item.entry.clone();
            entry.name = name.strip_prefix(b"/").unwrap_or(name).to_vec();
            if entry.name.is_empty() {
                continue;
            }
            if let Some(epoch) = epoch {
                entry.mtime.secs = entry.mtime.secs.min(epoch);
            }
            out.write_all(&write::header(&entry))?;
            item.content.read(&mut buffer, entry.size, &mut |bytes| Ok(out.write_all(bytes)?))?;
            out.write_all(&vec![0; write::padding(entry.size)])?;
        }
        out.write_all(&write::END)?;
        Ok(())
    }
}

impl Content {
    /// Exactly `size` bytes.
    fn read(&self, buffer: &mut [u8], size: u64, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match self {
            Content::None => Ok(()),
            Content::Bytes(bytes) => take(bytes),
            Content::File(root, path) => {
                let mut file = root.open(path)?;
                let mut left = size;
                while left > 0 {
                    let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let n = file.read(&mut buffer[..want]).with_context(|| format!("read {path}"))?;
                    if n == 0 {
                        return Err(Error::system(format!("{path} in the {} changed while it was copied", root.name)));
                    }
                    take(&buffer[..n])?;
                    left -= n as u64;
                }
                Ok(())
            }
        }
    }
}

/// Turns a layer into something that can be read, written by a thread of its own.
pub fn stream(layer: Layer, epoch: Option<i64>) -> Result<impl Read + Send> {
    let (reader, writer) = io::pipe()?;
    let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
        let mut out = io::BufWriter::with_capacity(256 << 10, writer);
        let result = layer.write(&mut out, epoch);
        result.and_then(|()| Ok(out.flush()?))
    })?;
    Ok(Streamed { reader, thread: Some(thread) })
}

struct Streamed {
    reader: io::PipeReader,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Read for Streamed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        if n == 0
            && let Some(thread) = self.thread.take()
        {
            let result = thread.join().unwrap_or_else(|_| Err(Error::system("the layer's writer failed")));
            result.map_err(|e| io::Error::other(e.to_string()))?;
        }
        Ok(n)
    }
}
