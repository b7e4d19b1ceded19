//! Reading what the shims have logged. The shim writes, this reads: request
//! threads open the files of a container, newest first, and walk them in order.
//!
//! Invariant: an entry is given once and whole. Rotation renames files, so a
//! file is known by its inode, never by its name.

pub mod decode;
pub mod files;
pub mod notify;
pub mod read;
pub mod tail;

use crate::util::time::Timestamp;

pub use crate::runtime::logs::{Entry, Stream};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    JsonFile,
    Local,
}

/// What a reader asks for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub follow: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub timestamps: bool,
    pub details: bool,
    /// The last so many entries; none = all.
    pub tail: Option<usize>,
}
