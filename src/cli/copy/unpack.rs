//! A tar stream of a container unpacked on this machine as the caller's own files.
//!
//! The stream is not to be trusted: a container decides what stands in it. Every
//! path is opened below the destination with openat2, so that neither `..` nor a
//! link that the stream itself has just made leads out of it (CVE-2018-15664,
//! CVE-2019-14271 are this command's past).

use crate::error::{Context as _, Error, Result};
use crate::sys::fs::{InRoot, open_beneath};
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, UtimensatFlags, fchmodat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Unpacks into `dir`. `rename` gives each entry its name; returns the bytes of
/// all files.
pub fn read(from: &mut dyn Read, dir: &str, rename: &dyn Fn(&str) -> String) -> Result<u64> {
    let root: OwnedFd = File::open(dir).context(format!("open {dir}"))?.into();
    let mut unpacker = Unpacker { root, bytes: 0, times: Vec::new() };
    let mut archive = tar::Archive::new(from);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = rename(&name);
        unpacker.entry(&mut entry, name.trim_matches('/'), rename).context(name.as_str())?;
    }
    // Last, since making files in them changed the folders' times.
    for (name, time) in unpacker.times.iter().rev() {
        unpacker.set_time(name, *time);
    }
    Ok(unpacker.bytes)
}

struct Unpacker {
    root: OwnedFd,
    bytes: u64,
    times: Vec<(String, i64)>,
}

fn c(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid("a name in the archive has a NUL in it"))
}

impl Unpacker {
    /// The folder that `name` stands in, opened below the root, and the last part.
    fn parent<'n>(&self, name: &'n str) -> Result<(InRoot, &'n str)> {
        let (dir, last) = name.rsplit_once('/').unwrap_or((".", name));
        if matches!(last, ".." | "") {
            return Err(Error::invalid("leads out of the destination"));
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let dir = open_beneath(self.root.as_fd(), &c(dir)?, flags, Mode::empty())?;
        Ok((dir, last))
    }

    fn entry(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        name: &str,
        rename: &dyn Fn(&str) -> String,
    ) -> Result<()> {
        let header = entry.header();
        let kind = header.entry_type();
        let mode = Mode::from_bits_truncate(header.mode().unwrap_or(0o644) & 0o7777);
        let time = header.mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0);
        if matches!(name, "" | ".") {
            return Ok(());
        }
        let (dir, last) = self.parent(name)?;
        let last_c = c(last)?;
        let existing = nix::sys::stat::fstatat(&dir, last_c.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        let there_dir = existing.is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFDIR);
        if there_dir != kind.is_dir() && existing.is_ok() {
            let what = if there_dir { "a directory with a non-directory" } else { "a non-directory with a directory" };
            return Err(Error::invalid(format!("cannot overwrite {what}")));
        }
        if existing.is_ok() && !there_dir {
            unlinkat(&dir, last_c.as_c_str(), UnlinkatFlags::NoRemoveDir)?;
        }
        if kind.is_dir() {
            if !there_dir {
                mkdirat(&dir, last_c.as_c_str(), Mode::S_IRWXU)?;
            }
            // Its owner, who is us, must be able to fill it.
            set_mode(&dir, last, mode | Mode::S_IRWXU)?;
            self.times.push((name.to_owned(), time));
            return Ok(());
        }
        if kind.is_symlink() {
            let target = entry.link_name_bytes().unwrap_or_default();
            symlinkat(c(&String::from_utf8_lossy(&target))?.as_c_str(), &dir, last_c.as_c_str())?;
        } else if kind.is_hard_link() {
            let target = entry.link_name_bytes().unwrap_or_default();
            let target = rename(&String::from_utf8_lossy(&target));
            let (from, from_name) = self.parent(target.trim_matches('/'))?;
            linkat(&from, c(from_name)?.as_c_str(), &dir, last_c.as_c_str(), AtFlags::empty())?;
        } else if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
            let created = Mode::S_IRUSR | Mode::S_IWUSR;
            let mut file: File = open_beneath(dir.as_fd(), &last_c, flags, created)?.into();
            self.bytes += io::copy(entry, &mut file)?;
            nix::sys::stat::fchmod(&file, mode)?;
        } else if kind.is_fifo() {
            nix::sys::stat::mknodat(&dir, last_c.as_c_str(), nix::sys::stat::SFlag::S_IFIFO, mode, 0)?;
        } else {
            // Devices need privileges that a copy should not ask for.
            return Ok(());
        }
        self.set_time(name, time);
        Ok(())
    }

    fn set_time(&self, name: &str, time: i64) {
        let at = TimeSpec::new(time, 0);
        if let Ok((dir, last)) = self.parent(name) {
            let _ = utimensat(&dir, Path::new(last), &at, &at, UtimensatFlags::NoFollowSymlink);
        }
    }
}

fn set_mode(dir: &InRoot, name: &str, mode: Mode) -> Result<()> {
    // It was made or found as a folder through this very descriptor.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    match open_beneath(dir.as_fd(), &c(name)?, flags, Mode::empty()) {
        Ok(fd) => {
            let _ = nix::sys::stat::fchmod(fd.as_fd(), mode);
        }
        // A folder of somebody else's: its mode is theirs.
        Err(_) => {
            let _ = fchmodat(dir, Path::new(name), mode, nix::sys::stat::FchmodatFlags::NoFollowSymlink);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_size(if kind.is_file() { content.len() as u64 } else { 0 });
            // Written raw: the builder would refuse what a hostile one writes.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            if !kind.is_file() && !content.is_empty() {
                header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_cksum();
            builder.append(&header, if kind.is_file() { content.as_bytes() } else { b"" }).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn stays_inside() {
        use tar::EntryType as T;
        let dir = std::env::temp_dir().join(format!("coracle-unpack-{}", std::process::id()));
        let (inside, outside) = (dir.join("in"), dir.join("out"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        let at = inside.to_str().unwrap();
        let plain = |n: &str| n.to_owned();
        let good = archive(&[("d/", T::Directory, ""), ("d/f", T::Regular, "hi"), ("d/l", T::Symlink, "f")]);
        assert_eq!(read(&mut good.as_slice(), at, &plain).unwrap(), 2);
        assert_eq!(std::fs::read(inside.join("d/l")).unwrap(), b"hi");
        for hostile in [
            archive(&[("../out/f", T::Regular, "x")]),
            archive(&[("e", T::Symlink, outside.to_str().unwrap()), ("e/f", T::Regular, "x")]),
            archive(&[("e2", T::Symlink, "../out"), ("e2/f", T::Regular, "x")]),
            archive(&[("h", T::Link, "../out/secret")]),
        ] {
            assert!(read(&mut hostile.as_slice(), at, &plain).is_err());
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
