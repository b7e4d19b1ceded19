//! One daemon per data root: the pid file by dockerd's rules, and a lock that a
//! killed daemon cannot leave behind. Main thread.

use crate::error::{Context, Error, Result};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Held for the daemon's life.
#[derive(Debug)]
pub struct Ownership {
    _lock: Flock<File>,
    pid_file: Option<PathBuf>,
}

impl Ownership {
    /// `pid_file` empty: none is written.
    pub fn take(data_root: &Path, pid_file: &Path) -> Result<Self> {
        make_dir(data_root, 0o710)?;
        let path = data_root.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
            nix::Error::EWOULDBLOCK => {
                let owner = fs::read_to_string(&path).unwrap_or_default();
                Error::system(format!(
                    "failed to start daemon: {} is in use by another daemon (process {})",
                    data_root.display(),
                    owner.trim()
                ))
                .with_hint("stop that daemon, or give this one its own --data-root, --exec-root and -H")
            }
            e => Error::from(e).context(format!("lock {}", path.display())),
        })?;
        let _ = lock.set_len(0);
        let _ = write!(lock, "{}", std::process::id());
        let pid_file = if pid_file.as_os_str().is_empty() {
            None
        } else {
            claim(pid_file)?;
            Some(pid_file.to_owned())
        };
        Ok(Self { _lock: lock, pid_file })
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        if let Some(path) = &self.pid_file
            && fs::read_to_string(path).is_ok_and(|text| text == std::process::id().to_string())
        {
            let _ = fs::remove_file(path);
        }
    }
}

fn claim(path: &Path) -> Result<()> {
    if let Ok(text) = fs::read_to_string(path)
        && let Ok(pid) = text.trim().parse::<i32>()
        && pid > 0
        && pid != std::process::id() as i32
        && is_daemon(pid)
    {
        return Err(Error::system(format!(
            "failed to start daemon, ensure docker is not running or delete {}: process with PID {pid} is still running",
            path.display()
        )));
    }
    if let Some(parent) = path.parent() {
        make_dir(parent, 0o755)?;
    }
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
        .with_context(|| format!("failed to start daemon: write pid file {}", path.display()))?;
    write!(file, "{}", std::process::id()).with_context(|| format!("write {}", path.display()))
}

/// A pid that was given to another program since does not count, nor one that is
/// dead and not yet reaped.
fn is_daemon(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((head, tail)) = stat.rsplit_once(')') else { return false };
    let comm = head.split_once('(').map_or("", |(_, comm)| comm);
    !tail.trim_start().starts_with('Z') && matches!(comm, "dockerd" | "coracle" | "docker")
}

pub fn make_dir(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).with_context(|| format!("create {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_and_a_stale_pid_is_not() {
        let dir = std::env::temp_dir().join(format!("coracle-own-{}", crate::util::id::random()));
        let pid = dir.join("run/docker.pid");
        fs::create_dir_all(dir.join("run")).unwrap();
        fs::write(&pid, "1").unwrap();
        let first = Ownership::take(&dir, &pid).unwrap();
        assert_eq!(fs::read_to_string(&pid).unwrap(), std::process::id().to_string());
        let second = Ownership::take(&dir, Path::new("")).unwrap_err();
        assert!(second.to_string().contains("is in use by another daemon"), "{second}");
        drop(first);
        assert!(!pid.exists());
        drop(Ownership::take(&dir, Path::new("")).unwrap());
        fs::remove_dir_all(&dir).unwrap();
    }
}
