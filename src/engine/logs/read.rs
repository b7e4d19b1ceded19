//! `docker logs`: from the chosen beginning to the end, and on while the
//! container writes. Runs on a request thread; memory stays at one buffer.

use super::decode::{Next, next};
use super::files::{Key, Opened, Place};
use super::{Entry, Format, Options, Stream, tail};
use crate::engine::Engine;
use crate::engine::container::Container;
use crate::engine::watch::{Gone, Woken};
use crate::error::{Context, Error, Result};
use crate::util::query;
use crate::util::time::{now, rfc3339_nano_fixed};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

const BUFFER: usize = 64 << 10;
/// Enough of a file to know it by.
const HEAD: usize = 512;
/// A compressed log file that unpacks to more than this is not ours.
const MAX_UNPACKED: u64 = 1 << 30;

/// Writes what `options` choose to `out`; `framed` for containers without a
/// terminal. `client` is asked for its departure while nothing happens.
pub fn logs(
    engine: &Engine,
    container: &Arc<Container>,
    options: &Options,
    framed: bool,
    out: &mut dyn Write,
    client: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let place = Place::of(&container.record(), &container.dir)?;
    let watcher = container.output.watch()?;
    // The local driver's folder appears with the first start.
    let following = match options.follow && place.dir().exists() {
        true => Some(engine.log_hub.follow(container, place.dir())?),
        false => None,
    };
    // Asked before the files are read: what is written later is read too.
    let mut ended = !container.live().record.state.is_up();
    let mut sink = Sink { options, framed, out, done: false };
    let mut current = history(&place, options, &mut sink)?;
    sink.flush()?;
    if following.is_none() {
        return Ok(());
    }
    while !ended && !sink.done {
        let left = options.until.map(|until| until.since(now()) + Duration::from_millis(1));
        match watcher.wait(client.map(|c| (c, Gone::HalfClosed)), left)? {
            Woken::ClientGone => return Err(Error::cancelled()),
            Woken::TimedOut => return Ok(()),
            Woken::Changed => {}
        }
        ended = !container.live().record.state.is_up() || container.live().removed;
        catch_up(&place, &mut current, &mut sink)?;
        sink.flush()?;
    }
    Ok(())
}

/// A plain file and how far it has been read.
struct Reading {
    file: File,
    key: Key,
    format: Format,
    /// Read and not yet decoded.
    pending: Vec<u8>,
    /// The compressed file that was given after `file`, and how it begins. Held, because
    /// the inode of a file that is gone may be the next one's.
    unpacked: Option<(File, Vec<u8>)>,
}

/// Gives everything that is there; the newest file stays open to be followed.
fn history(place: &Place, options: &Options, sink: &mut Sink<'_>) -> Result<Option<Reading>> {
    let files = place.open_all()?;
    let (first, mut offset) = match options.tail {
        Some(wanted) => tail::start(place.format, &files, wanted)?,
        None => (0, 0),
    };
    let count = files.len();
    let mut current = None;
    for (index, mut opened) in files.into_iter().enumerate() {
        if index < first {
            continue;
        }
        if opened.compressed {
            let data = decompress(&opened)?;
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
            give(place.format, &data[from..], sink)?;
        } else {
            opened.file.seek(SeekFrom::Start(offset)).context("seek in a log")?;
            let mut reading = Reading::new(place.format, opened);
            reading.drain(sink)?;
            if index + 1 == count {
                current = Some(reading);
            }
        }
        offset = 0;
        if sink.done {
            break;
        }
    }
    Ok(current)
}

/// Reads on, over as many rotations as there were.
fn catch_up(place: &Place, current: &mut Option<Reading>, sink: &mut Sink<'_>) -> Result<()> {
    loop {
        let Some(reading) = current else {
            match place.open_current()? {
                Some(opened) => *current = Some(Reading::new(place.format, opened)),
                None => return Ok(()),
            }
            continue;
        };
        reading.drain(sink)?;
        let newest = std::fs::metadata(&place.path).map(|m| super::files::key_of(&m));
        if sink.done || newest.is_ok_and(|k| k == reading.key) {
            return Ok(());
        }
        // Renamed away. What was written between the last read and the rename is
        // still to come from the open file.
        reading.drain(sink)?;
        let head = reading.head();
        match place.open_after(|other| other.key == reading.key || (other.compressed && begins_with(other, &head)))? {
            Some(opened) if opened.compressed => {
                let data = decompress(&opened)?;
                give(place.format, &data, sink)?;
                reading.key = opened.key;
                reading.unpacked = Some((opened.file, data[..data.len().min(HEAD)].to_vec()));
            }
            Some(opened) => *current = Some(Reading::new(place.format, opened)),
            None => return Ok(()),
        }
    }
}

/// Whether a compressed file is the one that began with `head`: its inode is
/// new, its first record, with its nanoseconds, is not.
fn begins_with(opened: &Opened, head: &[u8]) -> bool {
    let unpacked = || -> Result<Vec<u8>> {
        let mut file = opened.file.try_clone()?;
        file.rewind()?;
        let mut begin = Vec::new();
        flate2::read::MultiGzDecoder::new(file).take(head.len() as u64).read_to_end(&mut begin)?;
        Ok(begin)
    };
    !head.is_empty() && unpacked().is_ok_and(|begin| begin == head)
}

impl Reading {
    fn new(format: Format, opened: Opened) -> Self {
        Self { file: opened.file, key: opened.key, format, pending: Vec::new(), unpacked: None }
    }

    /// How the file begins, by which it is known when it comes back compressed.
    fn head(&self) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        if let Some((_, head)) = &self.unpacked {
            return head.clone();
        }
        let mut head = vec![0; HEAD];
        let n = self.file.read_at(&mut head, 0).unwrap_or(0);
        head.truncate(n);
        head
    }

    /// To the end of what is written out.
    fn drain(&mut self, sink: &mut Sink<'_>) -> Result<()> {
        let mut chunk = vec![0u8; BUFFER];
        while !sink.done {
            let n = self.file.read(&mut chunk).context("read a log")?;
            if n == 0 {
                break;
            }
            self.pending.extend_from_slice(&chunk[..n]);
            let used = give(self.format, &self.pending, sink)?;
            self.pending.drain(..used);
        }
        Ok(())
    }
}

/// Decodes and gives entries; the number of bytes that are done with.
fn give(format: Format, data: &[u8], sink: &mut Sink<'_>) -> Result<usize> {
    let mut at = 0;
    while !sink.done {
        match next(format, &data[at..]) {
            Next::Entry(entry, used) => {
                at += used;
                sink.entry(entry)?;
            }
            Next::Skip(used) if used > 0 => at += used,
            Next::Skip(_) | Next::Incomplete => break,
        }
    }
    Ok(at)
}

pub fn decompress(opened: &Opened) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    let mut file = opened.file.try_clone().context("duplicate a log's descriptor")?;
    file.rewind().context("rewind a log")?;
    flate2::read::MultiGzDecoder::new(file)
        .take(MAX_UNPACKED)
        .read_to_end(&mut data)
        .context("unpack a rotated log")?;
    Ok(data)
}

/// Chooses, dresses and writes entries.
struct Sink<'a> {
    options: &'a Options,
    framed: bool,
    out: &'a mut dyn Write,
    /// `until` is reached.
    done: bool,
}

impl Sink<'_> {
    fn entry(&mut self, entry: Entry) -> Result<()> {
        let options = self.options;
        if options.until.is_some_and(|until| entry.time > until) {
            self.done = true;
            return Ok(());
        }
        let chosen = match entry.stream {
            Stream::Stdout => options.stdout,
            Stream::Stderr => options.stderr,
        };
        if !chosen || options.since.is_some_and(|since| entry.time < since) {
            return Ok(());
        }
        let mut text = Vec::with_capacity(entry.line.len() + 48);
        if self.framed {
            text.extend([entry.stream.number(), 0, 0, 0, 0, 0, 0, 0]);
        }
        if options.timestamps {
            text.extend_from_slice(rfc3339_nano_fixed(entry.time).as_bytes());
            text.push(b' ');
        }
        if options.details {
            let pairs: Vec<String> =
                entry.attrs.iter().map(|(k, v)| format!("{}={}", query::escape(k), query::escape(v))).collect();
            text.extend_from_slice(pairs.join(",").as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(&entry.line);
        if self.framed {
            let length = u32::try_from(text.len() - 8).unwrap_or(u32::MAX);
            text[4..8].copy_from_slice(&length.to_be_bytes());
        }
        self.out.write_all(&text).map_err(|_| Error::cancelled())
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(|_| Error::cancelled())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::time::Timestamp;
    use std::path::PathBuf;

    fn line(n: u32) -> String {
        format!("{{\"log\":\"l{n}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:{n:02}Z\"}}\n")
    }

    fn sink<'a>(options: &'a Options, out: &'a mut Vec<u8>) -> Sink<'a> {
        Sink { options, framed: false, out, done: false }
    }

    #[test]
    fn rotations_lose_and_repeat_nothing() {
        let dir: PathBuf = std::env::temp_dir().join(format!("coracle-rotate-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("log");
        let place = Place { format: Format::JsonFile, path: path.clone() };
        let write = |text: &str| {
            use std::io::Write as _;
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let rotate = || {
            let _ = std::fs::rename(dir.join("log.1"), dir.join("log.2"));
            std::fs::rename(&path, dir.join("log.1")).unwrap();
        };
        let options = Options { stdout: true, stderr: true, follow: true, ..Options::default() };
        let mut out = Vec::new();
        let mut sink = sink(&options, &mut out);
        write(&line(1));
        let mut current = history(&place, &options, &mut sink).unwrap();
        write(&line(2)[..10]);
        catch_up(&place, &mut current, &mut sink).unwrap();
        write(&line(2)[10..]);
        rotate();
        write(&line(3));
        rotate();
        write(&line(4));
        catch_up(&place, &mut current, &mut sink).unwrap();
        write(&line(5));
        catch_up(&place, &mut current, &mut sink).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "l1\nl2\nl3\nl4\nl5\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_file_is_known_again_when_it_is_compressed() {
        let dir: PathBuf = std::env::temp_dir().join(format!("coracle-squeeze-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("log");
        let place = Place { format: Format::JsonFile, path: path.clone() };
        let squeezed = |number: u32, text: &str| {
            let file = File::create(dir.join(format!("log.{number}.gz"))).unwrap();
            let mut gz = flate2::write::GzEncoder::new(file, flate2::Compression::default());
            gz.write_all(text.as_bytes()).unwrap();
            gz.finish().unwrap();
        };
        let options = Options { stdout: true, stderr: true, follow: true, ..Options::default() };
        let mut out = Vec::new();
        let mut sink = sink(&options, &mut out);
        std::fs::write(&path, line(1)).unwrap();
        let mut current = history(&place, &options, &mut sink).unwrap();
        // Three rotations between two looks; all lines carry one time.
        squeezed(3, &line(1));
        squeezed(2, &line(1).replace("l1", "l2"));
        squeezed(1, &line(1).replace("l1", "l3"));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, line(1).replace("l1", "l4")).unwrap();
        catch_up(&place, &mut current, &mut sink).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "l1\nl2\nl3\nl4\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn entries_are_chosen_and_dressed() {
        let at = |n: i128| Timestamp(n * 1_000_000_000);
        let entry = |n, stream| Entry {
            time: at(n),
            stream,
            line: b"x\n".to_vec(),
            attrs: vec![("a b".to_owned(), "c".to_owned())],
        };
        let options = Options {
            stderr: true,
            since: Some(at(2)),
            until: Some(at(3)),
            timestamps: true,
            details: true,
            ..Options::default()
        };
        let mut out = Vec::new();
        let mut sink = Sink { framed: true, ..sink(&options, &mut out) };
        for n in 1..5 {
            sink.entry(entry(n, Stream::Stderr)).unwrap();
            sink.entry(entry(n, Stream::Stdout)).unwrap();
        }
        assert!(sink.done);
        let text = "1970-01-01T00:00:02.000000000Z a+b=c x\n";
        assert_eq!(out[..8], [2, 0, 0, 0, 0, 0, 0, text.len() as u8]);
        assert_eq!(&out[8..8 + text.len()], text.as_bytes());
        assert_eq!(out.len(), 2 * (8 + text.len()));
    }
}
