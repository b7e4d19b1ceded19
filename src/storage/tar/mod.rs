//! The tar format as layers use it: reading with every raw byte accounted for,
//! and writing as Go's `archive/tar` does. The `tar` crate hides the padding,
//! the extension headers and the order, which `split` needs to give a layer back
//! byte for byte. Any thread.
//!
//! Invariant: a reader never allocates by what a header claims; extension
//! headers are at most 1 MiB, sparse maps have at most 256 Ki pieces.

pub mod header;
pub mod read;
pub mod write;

use nix::sys::stat::{FileStat, SFlag, major, minor};

/// One block.
pub const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    #[default]
    File,
    HardLink,
    Symlink,
    Char,
    Block,
    Dir,
    Fifo,
    /// A type flag that this program has no meaning for.
    Other(u8),
}

/// Seconds and nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    pub secs: i64,
    pub nanos: u32,
}

/// One entry, extension headers merged in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// As written: may be absolute, hold `..`, end in `/`.
    pub name: Vec<u8>,
    /// Target of a hard or symbolic link.
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits with set-id and sticky, no type.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Payload bytes in the archive; of a sparse file less than its length.
    pub size: u64,
    pub mtime: Time,
    pub atime: Option<Time>,
    pub major: u32,
    pub minor: u32,
    /// Full attribute names with their values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Option<Sparse>,
}

/// Where the payload of a sparse file belongs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sparse {
    /// The file's length.
    pub length: u64,
    /// Offset and length of each piece, ascending.
    pub pieces: Vec<(u64, u64)>,
}

impl Kind {
    /// Sockets, which no archive holds, are of another kind.
    fn of(stat: &FileStat) -> Self {
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFDIR => Self::Dir,
            SFlag::S_IFLNK => Self::Symlink,
            SFlag::S_IFIFO => Self::Fifo,
            SFlag::S_IFCHR => Self::Char,
            SFlag::S_IFBLK => Self::Block,
            _ => Self::Other(b's'),
        }
    }
}

impl Entry {
    /// What its status says of a file; times have whole seconds, as layers write them.
    pub fn of(name: &[u8], stat: &FileStat) -> Self {
        let kind = Kind::of(stat);
        let device = matches!(kind, Kind::Char | Kind::Block);
        Self {
            name: name.to_vec(),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: u64::from(stat.st_uid),
            gid: u64::from(stat.st_gid),
            size: if kind == Kind::File { stat.st_size.unsigned_abs() } else { 0 },
            mtime: Time { secs: stat.st_mtime, nanos: 0 },
            major: if device { u32::try_from(major(stat.st_rdev)).unwrap_or(0) } else { 0 },
            minor: if device { u32::try_from(minor(stat.st_rdev)).unwrap_or(0) } else { 0 },
            ..Self::default()
        }
    }

    /// The length of the file that this entry makes.
    pub fn length(&self) -> u64 {
        self.sparse.as_ref().map_or(self.size, |s| s.length)
    }
}
