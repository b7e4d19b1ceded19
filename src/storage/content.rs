//! A file's content from a layer's tar to the disk. Runs on the thread that
//! unpacks the layer.
//!
//! Invariant: what a tar merely claims costs nothing: a file that is larger than
//! the free space is refused before its first byte is written, and long runs of
//! zeros become holes, so that a bomb of them fills no disk.

use super::apply::{Tap, tar_error};
use super::behind::Behind;
use super::tar::read::Reader;
use crate::error::{Error, Result};
use crate::util::units::human_size;
use crc32fast::Hasher;
use nix::errno::Errno;
use nix::sys::statvfs::fstatvfs;
use std::fs::File;
use std::io::{BufRead, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// Smaller files are simply written: looking costs a system call.
const LARGE: u64 = 16 << 20;
/// Shorter runs of zeros are written: a hole each would only be more extents.
const HOLE: usize = 32 << 10;

/// Writes the payload, `size` bytes, and gives its CRC.
pub(super) fn whole<R: BufRead, W: Write>(
    reader: &mut Reader<R, Tap<W>>,
    mut file: &File,
    size: u64,
    behind: &mut Behind,
    cancelled: &dyn Fn() -> bool,
) -> Result<u32> {
    if size >= LARGE {
        fits(file, size)?;
    }
    let mut crc = Hasher::new();
    let (mut end, mut hole) = (0, false);
    loop {
        let data = reader.payload().map_err(tar_error)?;
        if data.is_empty() {
            break;
        }
        crc.update(data);
        let n = data.len();
        hole = n >= HOLE && data.iter().all(|b| *b == 0);
        if hole {
            file.seek(SeekFrom::Current(n as i64))?;
        } else {
            file.write_all(data)?;
        }
        reader.consume(n);
        end += n as u64;
        behind.grown(file, end);
        if cancelled() {
            return Err(Error::cancelled());
        }
    }
    if hole {
        file.set_len(end)?;
    }
    Ok(crc.finalize())
}

/// A claim that cannot come true.
fn fits(file: &File, size: u64) -> Result<()> {
    let stat = fstatvfs(file)?;
    if size <= stat.blocks_available() * stat.fragment_size() {
        return Ok(());
    }
    Err(Error::from(Errno::ENOSPC).followed_by(format!("a file of {}", human_size(size))))
}

/// Writes the payload to where the pieces (offset, length) say.
pub(super) fn pieces<R: BufRead, W: Write>(
    reader: &mut Reader<R, Tap<W>>,
    file: &File,
    pieces: &[(u64, u64)],
) -> Result<u32> {
    let mut crc = Hasher::new();
    for (offset, length) in pieces {
        let mut done = 0;
        while done < *length {
            let data = reader.payload().map_err(tar_error)?;
            if data.is_empty() {
                return Err(Error::invalid("unexpected EOF"));
            }
            let n = data.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
            crc.update(&data[..n]);
            file.write_all_at(&data[..n], offset + done)?;
            reader.consume(n);
            done += n as u64;
        }
    }
    Ok(crc.finalize())
}
