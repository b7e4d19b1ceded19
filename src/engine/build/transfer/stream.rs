//! A listed layer as a digest and as a tar: the second pass of a COPY.

use super::tree::{self, Root};
use super::{Item, Layer};
use crate::error::{Context, Error, Result};
use crate::image::digest::{Digest, Hasher};
use crate::storage::tar::{Entry, Time, write};
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// What an entry's bytes are.
#[derive(Clone)]
pub(super) enum Content {
    /// A file of a tree.
    File(Arc<Origin>),
    /// A heredoc.
    Bytes(Arc<Vec<u8>>),
    None,
}

/// The tree that entries were taken from, all of them alike: there may be a million.
pub(super) struct Origin {
    pub(super) root: Root,
    /// What stands in the tree for the first `skip` bytes of an entry's name.
    pub(super) from: String,
    pub(super) skip: usize,
}

impl Origin {
    fn path(&self, name: &[u8]) -> Result<String> {
        let rest = std::str::from_utf8(name.get(self.skip..).unwrap_or_default());
        Ok(format!("{}{}", self.from, rest.map_err(|_| Error::invalid("a file name is not UTF-8"))?))
    }
}

/// An entry's attributes and bytes, as they are now.
struct Opened<'a> {
    content: &'a Content,
    file: Option<(File, String)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Layer {
    /// Names, modes, owners, targets and contents; times do not count.
    pub fn digest(&self) -> Result<Digest> {
        let mut hash = Hasher::new();
        let mut buffer = vec![0; 128 << 10];
        for (name, item) in &self.items {
            if name.rsplit(|b| *b == b'/').next().is_some_and(|last| last.starts_with(b".wh.")) {
                let name = String::from_utf8_lossy(name);
                return Err(Error::invalid(format!(
                    "cannot copy {name}: in a layer, names that begin with .wh. stand for deleted files"
                )));
            }
            let Item { kind, mode, uid, gid, size, .. } = item;
            hash.update(format!("{kind:?} {mode:o} {uid} {gid} {size} {}\n", name.len()).as_bytes());
            hash.update(name);
            hash.update(&item.link);
            let opened = item.content.open(name)?;
            for (name, value) in &opened.xattrs {
                hash.update(name);
                hash.update(value);
            }
            opened.read(&mut buffer, item.size, &mut |bytes| {
                hash.update(bytes);
                Ok(())
            })?;
        }
        Ok(hash.finish())
    }

    /// The layer's tar. `epoch` replaces later times.
    pub fn write(&self, out: &mut dyn Write, epoch: Option<i64>) -> Result<()> {
        let mut buffer = vec![0; 128 << 10];
        for (path, item) in &self.items {
            let name = path.strip_prefix(b"/").unwrap_or(path);
            if name.is_empty() {
                continue;
            }
            let opened = item.content.open(path)?;
            let entry = Entry {
                name: name.to_vec(),
                link: item.link.to_vec(),
                kind: item.kind,
                mode: item.mode,
                uid: item.uid,
                gid: item.gid,
                size: item.size,
                mtime: Time { secs: epoch.map_or(item.mtime, |epoch| item.mtime.min(epoch)), nanos: 0 },
                xattrs: opened.xattrs.clone(),
                ..Entry::default()
            };
            out.write_all(&write::header(&entry))?;
            opened.read(&mut buffer, item.size, &mut |bytes| Ok(out.write_all(bytes)?))?;
            out.write_all(&vec![0; write::padding(item.size)])?;
        }
        out.write_all(&write::END)?;
        Ok(())
    }
}

impl Content {
    fn open(&self, name: &[u8]) -> Result<Opened<'_>> {
        let Content::File(origin) = self else { return Ok(Opened { content: self, file: None, xattrs: Vec::new() }) };
        let path = origin.path(name)?;
        let file = origin.root.open(&path)?;
        let xattrs = tree::xattrs(&file);
        Ok(Opened { content: self, file: Some((file, path)), xattrs })
    }
}

impl Opened<'_> {
    /// Exactly `size` bytes.
    fn read(self, buffer: &mut [u8], size: u64, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if let Content::Bytes(bytes) = self.content {
            return take(bytes);
        }
        let Some((mut file, path)) = self.file else { return Ok(()) };
        let mut left = size;
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = file.read(&mut buffer[..want]).with_context(|| format!("read {path}"))?;
            if n == 0 {
                return Err(Error::system(format!("{path} changed while it was copied")));
            }
            take(&buffer[..n])?;
            left -= n as u64;
        }
        Ok(())
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
