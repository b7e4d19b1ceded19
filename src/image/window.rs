//! The memory that zstd frames ask for: a window each, 2 MiB at the usual level, 8 of
//! what BuildKit packs. Together they are bounded, whatever comes in at once; whoever
//! has to wait stores its stream meanwhile. Any thread.
//!
//! Invariant: who holds a window never waits for another one.

use super::flow::Source;
use super::layer::stream_error;
use crate::error::{Context, Error, Result};
use crate::storage::behind::Behind;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Two usual ones, or one that is larger.
const BUDGET: u64 = 4 << 20;
/// What a stream is taken to need that does not begin with a frame of its own.
const UNKNOWN: u64 = 8 << 20;
const CHUNK: usize = 64 * 1024;

static TAKEN: Mutex<u64> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// So much of the budget, until it is dropped.
#[derive(Debug)]
pub(super) struct Window(u64);

impl Drop for Window {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        FREED.notify_all();
    }
}

/// Bytes that a stream which begins so needs (RFC 8878, 3.1.1.1); 0 of other kinds.
pub(super) fn needed(head: &[u8]) -> u64 {
    match head {
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => UNKNOWN,
        [0x28, 0xb5, 0x2f, 0xfd, flags, rest @ ..] => {
            if flags & 0x20 == 0 {
                let descriptor = rest.first().copied().unwrap_or_default();
                let base = 1u64 << (10 + (descriptor >> 3));
                return base + base / 8 * u64::from(descriptor & 7);
            }
            // One segment: as much as the content has.
            let dictionary = [0, 1, 2, 4][usize::from(flags & 3)];
            let length = [1, 2, 4, 8][usize::from(flags >> 6)];
            let Some(size) = rest.get(dictionary..dictionary + length) else { return UNKNOWN };
            size.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
        }
        _ => 0,
    }
}

impl Window {
    fn now(bytes: u64) -> Option<Self> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        Self::take(&mut taken, bytes)
    }

    /// One that is larger than the budget has it alone.
    fn take(taken: &mut u64, bytes: u64) -> Option<Self> {
        let bytes = bytes.min(BUDGET);
        (*taken + bytes <= BUDGET).then(|| {
            *taken += bytes;
            Self(bytes)
        })
    }

    fn wait(bytes: u64, cancel: &AtomicBool) -> Result<Self> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(window) = Self::take(&mut taken, bytes) {
                return Ok(window);
            }
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::cancelled());
            }
            let glance = Duration::from_millis(100);
            taken = FREED.wait_timeout(taken, glance).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// For a stream of which `head` has been read. If it must wait and has a `store`,
    /// the stream goes there meanwhile, and begins again from it: `head` is empty then.
    pub fn claim<'a>(
        source: &mut Source<'a>,
        head: &mut Vec<u8>,
        store: Option<&'a File>,
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let bytes = needed(head);
        if let Some(window) = Self::now(bytes) {
            return Ok(window);
        }
        let Some(store) = store else { return Self::wait(bytes, cancel) };
        let mut stored = source.earlier.map_or(0, |e| e.1);
        if stored < head.len() as u64 {
            store.write_all_at(head, 0).context("store the compressed layer")?;
            stored = head.len() as u64;
        }
        head.clear();
        let mut behind = Behind::from(stored);
        let mut buffer = vec![0; CHUNK];
        loop {
            (source.earlier, source.at) = (Some((store, stored)), 0);
            if let Some(window) = Self::now(bytes) {
                return Ok(window);
            }
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::cancelled());
            }
            match source.input.read(&mut buffer) {
                Ok(0) => {
                    behind.finish(store, stored);
                    return Self::wait(bytes, cancel);
                }
                Ok(n) => {
                    store.write_all_at(&buffer[..n], stored).context("store the compressed layer")?;
                    stored += n as u64;
                    behind.grown(store, stored);
                    progress(stored);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    source.failed = true;
                    return Err(stream_error(e));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::io::Read;

    #[test]
    fn what_frames_say() {
        let magic = [0x28, 0xb5, 0x2f, 0xfd];
        let of = |rest: &[u8]| needed(&[&magic[..], rest].concat());
        // zstd -3 from a pipe; zstd -19; BuildKit's encoder; a mantissa.
        assert_eq!(of(&[0x04, 0x58]), 2 << 20);
        assert_eq!(of(&[0x04, 0x68]), 8 << 20);
        assert_eq!(of(&[0x00, 0x59]), (2 << 20) + (2 << 20) / 8);
        // The content is the window, with a length of one byte, of four, behind a dictionary's number.
        assert_eq!(of(&[0x20, 200]), 200);
        assert_eq!(of(&[0xa0, 0, 0, 0x10, 0]), 1 << 20);
        assert_eq!(of(&[0x23, 9, 9, 9, 9, 7]), 7);
        assert_eq!(of(&[0xa0, 0]), UNKNOWN);
        assert_eq!(needed(&[0x50, 0x2a, 0x4d, 0x18, 4]), UNKNOWN);
        assert_eq!(needed(&[0x1f, 0x8b, 8]), 0);
    }

    /// A stream that has to wait is stored and given again from its beginning.
    #[test]
    fn who_waits_goes_on_reading() {
        let dir = std::env::temp_dir().join(format!("coracle-window-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&dir).unwrap();
        let whole: Vec<u8> =
            [0x28, 0xb5, 0x2f, 0xfd, 4, 0x68].into_iter().chain((0..300_000u32).map(|n| (n % 251) as u8)).collect();
        let mut busy = Some(Window::wait(1, &AtomicBool::new(false)).unwrap());
        let mut input = &whole[6..];
        let mut source = Source { input: &mut input, earlier: None, at: 0, failed: false };
        let mut head = whole[..6].to_vec();
        let mut progress = |stored: u64| {
            if stored > 100_000 {
                busy = None;
            }
        };
        let cancel = AtomicBool::new(false);
        let window = Window::claim(&mut source, &mut head, Some(&file), &cancel, &mut progress).unwrap();
        let stored = source.earlier.unwrap().1;
        assert!(stored > 100_000 && head.is_empty(), "{stored}");
        let mut again = Vec::new();
        source.read_to_end(&mut again).unwrap();
        assert!(again == whole);
        cancel.store(true, Ordering::Relaxed);
        assert_eq!(Window::wait(1, &cancel).unwrap_err().kind(), Kind::Cancelled);
        drop(window);
        Window::wait(1, &AtomicBool::new(false)).unwrap();
        std::fs::remove_file(dir).unwrap();
    }
}
