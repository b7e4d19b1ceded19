//! Trees of strangers: the one that files are read from, and the one whose
//! symlinks a destination may lead through. Every path is resolved by `openat2`
//! inside its root.

use crate::error::{Error, Result};
use crate::sys::fs as sysfs;
use crate::util::order;
use crate::util::path::absolute;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Where sources are read.
#[derive(Clone)]
pub struct Root {
    pub fd: Arc<OwnedFd>,
    /// For messages: "build context", a stage, an image.
    pub name: Arc<str>,
}

/// The state of the stage's root file system, to resolve destinations in.
pub struct Target {
    pub fd: Option<OwnedFd>,
    pub workdir: String,
}

impl Root {
    pub(super) fn open_with(&self, path: &str, flags: OFlag) -> Result<OwnedFd> {
        let relative = path.trim_start_matches('/');
        let c = CString::new(if relative.is_empty() { "." } else { relative })
            .map_err(|_| Error::invalid(format!("{path:?} holds a NUL byte")))?;
        sysfs::open_in(self.fd.as_fd(), &c, flags | OFlag::O_CLOEXEC, Mode::empty())
            .map(Into::into)
            .map_err(|e| Error::from(e).context(format_args!("{path} in the {}", self.name)))
    }

    /// A regular file's content. O_NONBLOCK: what was a file may be a fifo now.
    pub fn open(&self, path: &str) -> Result<File> {
        Ok(self.open_with(path, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK)?.into())
    }

    pub(in crate::engine::build) fn open_dir(&self, path: &str) -> Result<OwnedFd> {
        self.open_with(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    /// The entry itself, a symlink not followed.
    pub(in crate::engine::build) fn stat(&self, path: &str) -> Result<FileStat> {
        let fd = self.open_with(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        Ok(fstat(&fd)?)
    }

    pub(in crate::engine::build) fn read_link(&self, path: &str) -> Result<Vec<u8>> {
        let fd = self.open_with(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        Ok(nix::fcntl::readlinkat(&fd, c"")?.into_encoded_bytes())
    }
}

/// Capabilities and the user's own attributes; what cannot be read is not there.
pub(super) fn xattrs(file: &File) -> Vec<(Vec<u8>, Vec<u8>)> {
    let names = sysfs::flistxattr(file.as_fd()).unwrap_or_default();
    let kept = |name: &[u8]| {
        name == b"security.capability"
            || (name.starts_with(b"user.")
                && !name.starts_with(b"user.overlay.")
                && !name.starts_with(b"user.containers."))
    };
    let mut found: Vec<_> = names
        .into_iter()
        .filter(|n| kept(n))
        .filter_map(|n| Some((n.clone(), sysfs::fgetxattr(file.as_fd(), &CString::new(n).ok()?).ok()?)))
        .collect();
    order::sort(&mut found);
    found
}

impl Target {
    pub(super) fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') { absolute(path) } else { absolute(&format!("{}/{path}", self.workdir)) }
    }

    /// The destination with symlinks replaced, as far as it exists.
    pub fn resolve(&self, path: &str) -> Result<String> {
        let mut left: Vec<String> =
            self.absolute(path).split('/').rev().filter(|p| !p.is_empty()).map(str::to_owned).collect();
        let mut done = String::new();
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                done.truncate(done.rfind('/').unwrap_or(0));
                continue;
            }
            let next = format!("{done}/{part}");
            let link = self.stat(&next).filter(|s| is(s, SFlag::S_IFLNK)).and_then(|_| self.link(&next));
            let Some(link) = link else {
                done = next;
                continue;
            };
            links += 1;
            if links > 40 {
                return Err(Error::invalid(format!("too many levels of symbolic links in {path}")));
            }
            if link.starts_with('/') {
                done.clear();
            }
            left.extend(link.split('/').rev().filter(|p| !p.is_empty() && *p != ".").map(str::to_owned));
        }
        Ok(if done.is_empty() { "/".into() } else { done })
    }

    pub(super) fn root(&self) -> Option<Root> {
        let fd = self.fd.as_ref()?.try_clone().ok()?;
        Some(Root { fd: Arc::new(fd), name: "stage".into() })
    }

    pub(super) fn stat(&self, path: &str) -> Option<FileStat> {
        self.root()?.stat(path).ok()
    }

    pub(super) fn link(&self, path: &str) -> Option<String> {
        String::from_utf8(self.root()?.read_link(path).ok()?).ok()
    }

    pub fn is_dir(&self, path: &str) -> bool {
        let resolved = self.resolve(path).unwrap_or_default();
        matches!(path.rsplit('/').next(), Some("." | ".."))
            || self.stat(&resolved).is_some_and(|s| is(&s, SFlag::S_IFDIR))
    }

    /// A small file of the stage, followed inside it: /etc/passwd.
    pub fn read(&self, path: &str) -> String {
        let Some(root) = self.root() else { return String::new() };
        let opened = root.open_with(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK);
        let mut text = String::new();
        if let Ok(fd) = opened {
            // 1 MiB is more than any passwd file; a device would never end.
            let _ = File::from(fd).take(1 << 20).read_to_string(&mut text);
        }
        text
    }
}

pub(super) fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

pub(super) fn join(dir: &str, name: &str) -> String {
    match (dir.trim_end_matches('/'), name) {
        (dir, "") => {
            if dir.is_empty() {
                "/".into()
            } else {
                dir.to_owned()
            }
        }
        (dir, name) => format!("{dir}/{name}"),
    }
}

pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
