//! Files of this machine as a tar stream, made as it is read: a thread walks the
//! tree and writes into a pipe whose other end is the request's body.
//!
//! Symbolic links are packed as links, except the source itself with -L. Sockets
//! are left out, as tar does it.

use crate::cli::copy::{rebase, split};
use crate::error::{Error, Result, errno_text};
use crate::util::order;
use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What is copied.
#[derive(Debug)]
pub struct Source {
    /// The folder that the entries' names start from.
    dir: PathBuf,
    /// The name of the first entry.
    pub name: String,
    pub is_dir: bool,
}

impl Source {
    /// Looks at the path. `follow`: what a link points to is meant.
    pub fn look(path: &str, follow: bool) -> Result<Self> {
        let (dir, name) = split(path);
        let shown = if name == "." { format!("{dir}/.") } else { format!("{dir}/{name}") };
        let missing = |e: io::Error| Error::invalid(format!("lstat {shown}: {}", errno_text(&e)));
        let trailing = path.ends_with('/') || name == ".";
        let full = if name == "." { PathBuf::from(&dir) } else { Path::new(&dir).join(&name) };
        let stat = fs::symlink_metadata(&full).map_err(missing)?;
        if !stat.file_type().is_symlink() || !(follow || trailing) {
            if trailing && !stat.is_dir() {
                return Err(Error::invalid("not a directory"));
            }
            return Ok(Self { dir: dir.into(), name, is_dir: stat.is_dir() });
        }
        // The link's target under the link's own name.
        let target = fs::canonicalize(&full).map_err(missing)?;
        let is_dir = target.is_dir();
        if trailing && !is_dir {
            return Err(Error::invalid("not a directory"));
        }
        if name == "." {
            return Ok(Self { dir: target, name, is_dir });
        }
        Ok(Self { dir: target, name: format!("\0{name}"), is_dir })
    }

    /// The name of the first entry in the archive.
    pub fn base(&self) -> &str {
        self.name.strip_prefix('\0').unwrap_or(&self.name)
    }

    fn root(&self) -> PathBuf {
        match self.name.as_str() {
            "." => self.dir.clone(),
            name if name.starts_with('\0') => self.dir.clone(),
            name => self.dir.join(name),
        }
    }
}

/// Writes the archive; `rename` is what the first entry is called instead.
pub fn write(source: &Source, rename: Option<&str>, out: &mut dyn Write) -> io::Result<u64> {
    let mut packer = Packer { tar: tar::Builder::new(out), links: HashMap::new(), bytes: 0 };
    packer.tar.follow_symlinks(false);
    let base = source.base();
    let name = rename.map_or_else(|| base.to_owned(), |new| rebase(base, base, new));
    packer.tree(&source.root(), &name)?;
    packer.tar.finish()?;
    Ok(packer.bytes)
}

struct Packer<'w> {
    tar: tar::Builder<&'w mut dyn Write>,
    /// First name of each file that has several.
    links: HashMap<(u64, u64), String>,
    bytes: u64,
}

impl Packer<'_> {
    fn tree(&mut self, path: &Path, name: &str) -> io::Result<()> {
        let stat = fs::symlink_metadata(path)?;
        self.entry(path, name, &stat)?;
        if stat.is_dir() {
            let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
            order::sort_by_key(&mut entries, fs::DirEntry::file_name);
            for entry in entries {
                let below = format!("{name}/{}", entry.file_name().to_string_lossy());
                match self.tree(&entry.path(), &below) {
                    // Files come and go while a tree is walked.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &str, stat: &Metadata) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(stat.mode() & 0o7777);
        header.set_uid(stat.uid().into());
        header.set_gid(stat.gid().into());
        header.set_mtime(stat.mtime().try_into().unwrap_or(0));
        header.set_size(0);
        let kind = stat.file_type();
        if kind.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            return self.tar.append_data(&mut header, format!("{name}/"), io::empty());
        }
        if kind.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            return self.tar.append_link(&mut header, name, fs::read_link(path)?);
        }
        if kind.is_socket() {
            return Ok(());
        }
        if kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
            header.set_entry_type(match () {
                () if kind.is_fifo() => tar::EntryType::Fifo,
                () if kind.is_char_device() => tar::EntryType::Char,
                () => tar::EntryType::Block,
            });
            header.set_device_major(nix::sys::stat::major(stat.rdev()).try_into().unwrap_or(0))?;
            header.set_device_minor(nix::sys::stat::minor(stat.rdev()).try_into().unwrap_or(0))?;
            return self.tar.append_data(&mut header, name, io::empty());
        }
        if stat.nlink() > 1
            && let Some(first) = self.links.insert((stat.dev(), stat.ino()), name.to_owned())
        {
            header.set_entry_type(tar::EntryType::Link);
            self.links.insert((stat.dev(), stat.ino()), first.clone());
            return self.tar.append_link(&mut header, name, first);
        }
        let file = File::open(path)?;
        header.set_size(stat.size());
        self.bytes += stat.size();
        // A file that grows meanwhile must not overrun its header, one that
        // shrinks is filled up.
        let exact = io::Read::chain(file, io::repeat(0));
        self.tar.append_data(&mut header, name, io::Read::take(exact, stat.size()))
    }
}
