//! Bulk writes and reads that leave the page cache as they found it: an image
//! must not push out what a small machine works with. Any thread.
//!
//! A file is written back in windows while it grows, one window ahead of the one
//! that is waited for and dropped, so that the disk is always busy and the writer
//! seldom waits. Nothing here is a promise of durability: the image store syncs.

use crate::sys::fs::{drop_cached, write_back};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

const WINDOW: u64 = 4 << 20;
/// Smaller files stay cached: two system calls for each would cost more than
/// what their few pages do.
const SMALL: u64 = 256 << 10;
/// Of finished files, so much is on its way to the disk at a time.
const TRAIL: u64 = 8 << 20;

/// Follows one file as it is written from its start.
#[derive(Debug, Default)]
pub struct Behind {
    /// End of what was handed to the disk.
    begun: u64,
}

impl Behind {
    /// From here on: what is before `offset` is there already.
    pub fn from(offset: u64) -> Self {
        Self { begun: offset }
    }

    /// The file has grown to `end`.
    pub fn grown(&mut self, file: &File, end: u64) {
        while end - self.begun >= WINDOW {
            let _ = write_back(file.as_fd(), self.begun, WINDOW, false);
            if let Some(before) = self.begun.checked_sub(WINDOW) {
                settle(file, before, WINDOW);
            }
            self.begun += WINDOW;
        }
    }

    /// The file is whole: the rest goes to the disk and out of the cache.
    pub fn finish(self, file: &File, end: u64) {
        if end >= SMALL {
            let from = self.begun.saturating_sub(WINDOW);
            settle(file, from, end - from);
        }
    }
}

fn settle(file: &File, offset: u64, length: u64) {
    if write_back(file.as_fd(), offset, length, true).is_ok() {
        drop_cached(file.as_fd(), offset, length);
    }
}

/// The tails of files that were just finished: dropped when others have followed.
#[derive(Debug, Default)]
pub struct Trail {
    files: VecDeque<(File, u64, u64)>,
    bytes: u64,
}

impl Trail {
    /// Takes a finished file over; `behind` followed it up to `end`.
    pub fn push(&mut self, file: File, behind: &Behind, end: u64) {
        if end < SMALL {
            return;
        }
        let from = behind.begun.saturating_sub(WINDOW);
        let _ = write_back(file.as_fd(), from, end - from, false);
        self.bytes += end - from;
        self.files.push_back((file, from, end - from));
        while self.bytes > TRAIL {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((file, from, length)) = self.files.pop_front() {
            settle(&file, from, length);
            self.bytes -= length;
        }
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        while !self.files.is_empty() {
            self.pop();
        }
    }
}

/// A file was read to its end and will not be read again soon.
pub fn done_reading(file: &File, length: u64) {
    if length >= SMALL {
        drop_cached(file.as_fd(), 0, length);
    }
}

/// A file that is read once, from its start to its end.
#[derive(Debug)]
pub struct Once {
    file: File,
    at: u64,
    dropped: u64,
}

impl Once {
    pub fn new(file: File) -> Self {
        Self { file, at: 0, dropped: 0 }
    }
}

impl Read for Once {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(out)?;
        self.at += n as u64;
        if n == 0 || self.at - self.dropped >= WINDOW {
            drop_cached(self.file.as_fd(), self.dropped, self.at - self.dropped);
            self.dropped = self.at;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn content_is_what_was_written() {
        let path = std::env::temp_dir().join(format!("coracle-behind-{}", std::process::id()));
        let data: Vec<u8> = (0..9_500_000u32).map(|i| (i >> 8) as u8).collect();
        let mut file = File::create(&path).unwrap();
        let mut behind = Behind::default();
        let mut end = 0;
        for part in data.chunks(300_000) {
            file.write_all(part).unwrap();
            end += part.len() as u64;
            behind.grown(&file, end);
        }
        let mut trail = Trail::default();
        trail.push(file, &behind, end);
        drop(trail);
        let mut back = Vec::new();
        Once::new(File::open(&path).unwrap()).read_to_end(&mut back).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(back == data);
    }
}
