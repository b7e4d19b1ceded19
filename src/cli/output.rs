//! Files that a command writes as a whole: made beside their name and renamed, so
//! that a command that fails leaves what was there.

use crate::error::{Context as _, Error, Result, errno_text};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

pub struct File {
    path: PathBuf,
    temporary: PathBuf,
    file: fs::File,
    done: bool,
}

impl File {
    /// Checks the place before anything is asked of the daemon.
    pub fn create(path: &str) -> Result<Self> {
        let path = PathBuf::from(path);
        let parent = parent(&path);
        let stat = |p: &Path| fs::metadata(p);
        if let Err(e) = stat(parent) {
            let text = format!("invalid output path: stat {}: {}", parent.display(), errno_text(&e));
            return Err(Error::invalid(text));
        }
        if let Ok(there) = stat(&path) {
            use std::os::unix::fs::FileTypeExt;
            let kind = there.file_type();
            if there.is_dir() {
                let text = format!("invalid output path: \"{}\" must be a regular file", path.display());
                return Err(Error::invalid(text));
            }
            if kind.is_block_device() || kind.is_char_device() || kind.is_fifo() || kind.is_socket() {
                // Renaming over /dev/null would replace it: such a name is written to.
                let file =
                    fs::OpenOptions::new().write(true).open(&path).context(format!("open {}", path.display()))?;
                return Ok(Self { temporary: path.clone(), path, file, done: true });
            }
        }
        let name = format!(".coracle-{}.tmp", std::process::id());
        let temporary = parent.join(name);
        let file = fs::File::create(&temporary).context(format!("open {}", temporary.display()))?;
        Ok(Self { path, temporary, file, done: false })
    }

    /// Copies everything into the file and gives it its name.
    pub fn fill(&mut self, from: &mut dyn Read) -> Result<u64> {
        let n = std::io::copy(from, &mut self.file)?;
        if !self.done {
            fs::rename(&self.temporary, &self.path).context(format!("rename to {}", self.path.display()))?;
            self.done = true;
        }
        Ok(n)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// The folder a path lies in, `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
