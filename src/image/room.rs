//! What a full disk is told as: how much more the layer would have needed, and
//! how much there is. Pure but for one statvfs.

use crate::error::Error;
use crate::util::units::human_size;
use nix::sys::statvfs::statvfs;
use std::path::Path;

/// How far a layer had come when the disk was full.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    /// Length of the stream, if it was announced.
    pub announced: Option<u64>,
    pub read: u64,
    /// Bytes of the tar so far.
    pub unpacked: u64,
    /// The stream itself is stored beside the tree.
    pub kept: bool,
}

impl Reached {
    /// An estimate: the rest unpacks as the beginning did.
    fn missing(&self) -> Option<u64> {
        let rest = self.announced?.saturating_sub(self.read);
        let ratio = if self.read > 0 { self.unpacked as f64 / self.read as f64 } else { 1.0 };
        let tree = (rest as f64 * ratio.max(1.0)) as u64;
        Some(tree + if self.kept { rest } else { 0 })
    }
}

/// Adds the numbers to an error that is about space; others pass.
pub(super) fn explain(e: Error, place: &Path, reached: Reached) -> Error {
    if !e.is_no_space() {
        return e;
    }
    let free = statvfs(place).map(|s| s.blocks_available() * s.fragment_size()).unwrap_or_default();
    let free = format!("{} free in {}", human_size(free), place.parent().unwrap_or(place).display());
    match reached.missing() {
        Some(missing) if missing > 0 => {
            e.followed_by(format!("about {} more needed for this layer, {free}", human_size(missing)))
        }
        _ => e.followed_by(free),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_unpacks_as_the_beginning_did() {
        let reached = Reached { announced: Some(100), read: 25, unpacked: 75, kept: true };
        assert_eq!(reached.missing(), Some(75 * 3 + 75));
        assert_eq!(Reached { announced: None, ..reached }.missing(), None);
        let full = Error::from(std::io::Error::from_raw_os_error(libc::ENOSPC)).context("write /a");
        let text = explain(full, Path::new("/tmp"), reached).to_string();
        assert!(
            text.starts_with("write /a: no space left on device (about 300B more needed for this layer, "),
            "{text}"
        );
        assert_eq!(explain(Error::system("x"), Path::new("/tmp"), reached).to_string(), "x");
    }
}
