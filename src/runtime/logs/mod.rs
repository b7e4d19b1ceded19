//! Log files of containers: how output becomes records, the two formats, and
//! rotation. The shim writes; dockerd decodes with the same code.
//!
//! Invariant: a record is written by one write(2), so a reader that follows the
//! file sees whole records or, at the very end, a part that it waits for.

pub mod file;
pub mod json_file;
pub mod local;
mod ring;
pub mod split;

use crate::runtime::spec::{LogDriver, LogSpec};
use crate::util::time::{self, Timestamp};
use split::{Piece, Splitter};
use std::os::fd::BorrowedFd;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// What attach and log frames call it.
    pub fn number(self) -> u8 {
        match self {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        }
    }
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
    pub fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"stdout" => Some(Stream::Stdout),
            b"stderr" => Some(Stream::Stderr),
            _ => None,
        }
    }
}

/// One record as a reader gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub stream: Stream,
    pub time: Timestamp,
    /// With the newline, unless it is a part of a longer line.
    pub line: Vec<u8>,
    /// The `attrs` of json-file (labels, env, tag).
    pub attrs: Vec<(String, String)>,
}

enum Format {
    Json { attrs: String },
    Local,
}

/// Where records go: into the files at once, or by way of a buffer.
enum Sink {
    Files(file::Rotating),
    Ring(ring::Ring),
}

/// The shim's end of a container's log.
pub struct Writer {
    sink: Sink,
    format: Format,
    splitters: [Splitter; 2],
    buffer: Vec<u8>,
}

impl Writer {
    /// None for the driver `none`.
    pub fn open(spec: &LogSpec) -> std::io::Result<Option<Self>> {
        let (format, file) = match &spec.driver {
            LogDriver::None => return Ok(None),
            LogDriver::JsonFile { path, max_size, max_file, compress, attrs } => (
                Format::Json { attrs: attrs.clone() },
                file::Rotating::open(path, max_size.unwrap_or(u64::MAX), *max_file, *compress)?,
            ),
            LogDriver::Local { path, max_size, max_file, compress } => {
                (Format::Local, file::Rotating::open(path, *max_size, *max_file, *compress)?)
            }
        };
        let sink = match spec.ring_bytes {
            Some(limit) => Sink::Ring(ring::Ring::start(file, limit)?),
            None => Sink::Files(file),
        };
        Ok(Some(Self { sink, format, splitters: [Splitter::new(), Splitter::new()], buffer: Vec::new() }))
    }

    /// Output as it was read. Errors are not the container's business: a full
    /// disk loses log lines, not the container.
    pub fn write(&mut self, stream: Stream, data: &[u8]) {
        let Self { sink, format, splitters, buffer } = self;
        splitters[stream as usize].feed(data, |piece| append(sink, format, buffer, stream, &piece));
        sink.flush(buffer);
    }

    /// The stream has ended: what is left of an unfinished line.
    pub fn finish(&mut self, stream: Stream) {
        let Self { sink, format, splitters, buffer } = self;
        splitters[stream as usize].finish(|piece| append(sink, format, buffer, stream, &piece));
        sink.flush(buffer);
        *buffer = Vec::new();
    }

    /// Readable never, writable when [`Writer::pump`] can go on; none if nothing waits.
    pub fn wants(&self) -> Option<BorrowedFd<'_>> {
        match &self.sink {
            Sink::Files(_) => None,
            Sink::Ring(ring) => ring.wants(),
        }
    }

    pub fn pump(&mut self) {
        if let Sink::Ring(ring) = &mut self.sink {
            ring.send();
        }
    }

    /// Everything is in the files when this returns, unless the disk is stuck.
    pub fn close(&mut self) {
        if let Sink::Ring(ring) = &mut self.sink {
            ring.close();
        }
    }
}

impl Sink {
    fn flush(&mut self, buffer: &mut Vec<u8>) {
        match self {
            Sink::Files(file) => file.flush(buffer),
            Sink::Ring(ring) => ring.send(),
        }
    }
}

fn append(sink: &mut Sink, format: &Format, buffer: &mut Vec<u8>, stream: Stream, piece: &Piece<'_>) {
    if let Sink::Files(file) = sink
        && file.full(buffer.len() as u64)
    {
        file.flush(buffer);
        file.rotate();
    }
    match format {
        Format::Json { attrs } => json_file::encode(buffer, stream, piece, attrs),
        Format::Local => local::encode(buffer, stream, piece),
    }
    match sink {
        Sink::Files(file) if buffer.len() > 64 * 1024 => file.flush(buffer),
        Sink::Files(_) => {}
        Sink::Ring(ring) => {
            ring.push(buffer);
            buffer.clear();
        }
    }
}

/// The time of a record is that of its first byte's arrival.
fn now() -> Timestamp {
    time::now()
}
