//! A log file that is rotated by size: FILE, FILE.1, FILE.2 ... (.gz). Runs in
//! the shim, which has one thread: compression happens in a forked process.
//!
//! Invariant: a record never spans two files; a reader that holds the old file
//! open finds its end there and the rest in the new FILE.

use crate::sys::process::{self, Forked, Who};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub struct Rotating {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: u64,
    max_file: u32,
    compress: bool,
    /// The process that compresses FILE.1, until it is reaped.
    compressor: Option<OwnedFd>,
}

impl Rotating {
    pub fn open(path: &Path, max_size: u64, max_file: u32, compress: bool) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = options().append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, max_size, max_file: max_file.max(1), compress, compressor: None })
    }

    /// Whether the next record belongs into a new file, `unwritten` bytes being
    /// still on their way. Docker lets the record that crosses the limit in.
    pub fn full(&self, unwritten: u64) -> bool {
        self.size + unwritten >= self.max_size
    }

    /// Writes and empties the buffer.
    pub fn flush(&mut self, buffer: &mut Vec<u8>) {
        if !buffer.is_empty() {
            // A full disk loses lines; the container goes on.
            let _ = self.file.write_all(buffer);
            self.size += buffer.len() as u64;
            buffer.clear();
        }
        self.reap(false);
    }

    pub fn rotate(&mut self) {
        self.reap(true);
        if self.max_file > 1 {
            let suffix = if self.compress { ".gz" } else { "" };
            for n in (2..self.max_file).rev() {
                let _ = fs::rename(self.numbered(n - 1, suffix), self.numbered(n, suffix));
            }
            let first = self.numbered(1, "");
            if fs::rename(&self.path, &first).is_ok() && self.compress {
                self.compress(&first);
            }
        }
        match options()
            .write(true)
            .truncate(true)
            .open(&self.path)
            .and_then(|_| options().append(true).open(&self.path))
        {
            Ok(file) => {
                self.file = file;
                self.size = 0;
            }
            // No room for a new file: go on in the old one, try again later.
            Err(_) => self.size = 0,
        }
    }

    fn numbered(&self, n: u32, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{n}{suffix}"));
        name.into()
    }

    fn compress(&mut self, from: &Path) {
        let to = self.numbered(1, ".gz");
        match process::clone(0, None) {
            Ok(Forked::Child) => process::exit_now(i32::from(gzip(from, &to).is_err())),
            Ok(Forked::Parent { pidfd, .. }) => self.compressor = Some(pidfd),
            Err(_) => {
                let _ = gzip(from, &to);
            }
        }
    }

    fn reap(&mut self, block: bool) {
        if let Some(pidfd) = &self.compressor
            && !matches!(process::wait(Who::Pidfd(pidfd.as_fd()), block), Ok(None))
        {
            self.compressor = None;
        }
    }
}

impl AsFd for Rotating {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o640);
    options
}

fn gzip(from: &Path, to: &Path) -> io::Result<()> {
    let part = to.with_extension("gz.tmp");
    let mut input = File::open(from)?;
    let mut output = flate2::write::GzEncoder::new(
        options().write(true).truncate(true).open(&part)?,
        flate2::Compression::default(),
    );
    io::copy(&mut input, &mut output)?;
    output.finish()?;
    fs::rename(&part, to)?;
    fs::remove_file(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotates_by_size() {
        let dir = std::env::temp_dir().join(format!("coracle-rotate-{}", std::process::id()));
        let path = dir.join("x.log");
        let mut log = Rotating::open(&path, 10, 3, false).unwrap();
        for n in 0..6 {
            if log.full(0) {
                log.rotate();
            }
            log.flush(&mut format!("{n}234567890").into_bytes());
        }
        let read = |s: &str| fs::read_to_string(dir.join(s)).unwrap();
        assert_eq!(
            (read("x.log"), read("x.log.1"), read("x.log.2")),
            ("5234567890".into(), "4234567890".into(), "3234567890".into())
        );
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 3);
        fs::remove_dir_all(&dir).unwrap();
    }
}
