//! One daemon per data root: the pid file by dockerd's rules, and a lock that a
//! killed daemon cannot leave behind. Main thread.

use crate::error::{Context, Error, Result};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Held for the daemon's life.
#[derive(Debug)]
pub struct Ownership {
    _lock: Flock<File>,
    pid_file: Option<PathBuf>,
}

impl Ownership {
    /// `pid_file` empty: none is written.
    pub fn take(data_root: &Path, pid_file: &Path) -> Result<Self> {
        own_dir(data_root)
            .map_err(|e| e.with_hint("give a folder of yours on a local disk with --data-root (or XDG_DATA_HOME)"))?;
        let path = data_root.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        let mut lock = lock(file, &path, data_root)?;
        let _ = lock.set_len(0);
        let _ = write!(lock, "{}", std::process::id());
        let pid_file = if pid_file.as_os_str().is_empty() {
            None
        } else {
            claim(pid_file).map_err(|e| match e.hint() {
                None => e.with_hint("give another file with --pidfile, or a folder of yours with XDG_RUNTIME_DIR"),
                Some(_) => e,
            })?;
            Some(pid_file.to_owned())
        };
        Ok(Self { _lock: lock, pid_file })
    }
}

/// A daemon that was killed keeps its lock until the kernel has taken it apart.
fn lock(mut file: File, path: &Path, data_root: &Path) -> Result<Flock<File>> {
    let until = Instant::now() + PATIENCE;
    loop {
        let errno = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, errno)) => {
                file = back;
                errno
            }
        };
        if errno != nix::Error::EWOULDBLOCK {
            return Err(Error::from(errno).context(format!("lock {}", path.display())));
        }
        let owner = fs::read_to_string(path).unwrap_or_default();
        // An empty file: its owner is between the lock and the number.
        let gone = owner.trim().parse().is_ok_and(dying);
        if !gone || Instant::now() > until {
            let root = data_root.display();
            return Err(Error::system(format!(
                "failed to start daemon: {root} is in use by another daemon (process {})",
                owner.trim()
            ))
            .with_hint("stop that daemon, or give this one its own --data-root, --exec-root and -H"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

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
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    matches!(comm.trim_end(), "dockerd" | "coracle" | "docker") && !dying(pid)
}

/// A process that was killed is there until the kernel has taken it apart, which
/// takes long where namespaces hang on it; it even answers. Signal 9 is bit 8 of
/// the pending set.
pub fn dying(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim).unwrap_or_default();
    let killed = |name| u64::from_str_radix(field(name), 16).is_ok_and(|set| set & (1 << 8) != 0);
    status.is_empty() || field("State:").starts_with(['Z', 'X']) || killed("SigPnd:") || killed("ShdPnd:")
}

/// A folder that nobody else enters, also if it was here before: what images and
/// containers have made set-id below it would run as our user for everybody on the
/// machine who can name it (CVE-2021-41091). No container comes in by this path.
pub fn own_dir(path: &Path) -> Result<()> {
    make_dir(path, 0o700)?;
    let mode = fs::metadata(path).with_context(|| format!("stat {}", path.display()))?.permissions().mode();
    if mode & 0o077 != 0
        && let Err(e) = fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7700))
    {
        crate::warn!("other users can enter a folder of the daemon's", "path" = path.display(), "error" = e);
    }
    Ok(())
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
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
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o775)).unwrap();
        let first = Ownership::take(&dir, &pid).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_to_string(&pid).unwrap(), std::process::id().to_string());
        let second = Ownership::take(&dir, Path::new("")).unwrap_err();
        assert!(second.to_string().contains("is in use by another daemon"), "{second}");
        drop(first);
        assert!(!pid.exists());
        drop(Ownership::take(&dir, Path::new("")).unwrap());
        fs::remove_dir_all(&dir).unwrap();
    }
}
