//! What a test needs of its host, by name. A test that cannot run here says why
//! it skips and how to mend that; with CORACLE_NO_SKIPS set, a skip is a failure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Returns from the test with a reason unless every need holds.
#[macro_export]
macro_rules! need {
    ($($need:expr),+ $(,)?) => {
        $(if let Err(reason) = $need {
            $crate::harness::probe::skip(module_path!(), &reason);
            return;
        })+
    };
}

pub type Need = Result<(), String>;

pub fn skip(test: &str, reason: &str) {
    assert!(
        std::env::var_os("CORACLE_NO_SKIPS").is_none_or(|v| v.is_empty()),
        "{test} would skip, and skips are forbidden here: {reason}"
    );
    println!("\nskip: {test}: {reason}");
}

/// A program in PATH.
pub fn program(name: &str, package: &str) -> Need {
    find(name).map(|_| ()).ok_or_else(|| format!("no {name}; install it with: sudo apt-get install {package}"))
}

pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|p| p.is_file())
}

/// A statically linked busybox: the content of every small image.
pub fn busybox() -> Need {
    if Path::new("/bin/busybox").exists() || Path::new("/usr/bin/busybox").exists() {
        Ok(())
    } else {
        Err("no busybox; install it with: sudo apt-get install busybox-static".into())
    }
}

/// The Docker CLI of the originals, 28 or later.
pub fn real_docker() -> Need {
    if real_docker_path().exists() {
        Ok(())
    } else {
        Err("no Docker CLI of the original; `sudo make test` fetches one, or set CORACLE_REAL_DOCKER".into())
    }
}

pub fn real_docker_path() -> PathBuf {
    std::env::var_os("CORACLE_REAL_DOCKER").map_or_else(|| "/opt/coracle-test/docker".into(), PathBuf::from)
}

/// A plugin of the original's client, `compose` or `buildx`.
pub fn plugin(name: &str) -> Result<PathBuf, String> {
    let path = real_docker_path().with_file_name("plugins").join(format!("docker-{name}"));
    path.exists()
        .then_some(path)
        .ok_or_else(|| format!("no {name} plugin of the original; `sudo make test` fetches it"))
}

/// More than one id in our user namespace.
pub fn subordinate_ids() -> Need {
    program("newuidmap", "uidmap")?;
    let user = std::env::var("USER").unwrap_or_default();
    let ranges = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
    if user == "root" || ranges.lines().any(|l| l.starts_with(&format!("{user}:"))) {
        Ok(())
    } else {
        Err(format!(
            "no range for {user} in /etc/subuid; give one with: \
             sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
        ))
    }
}

pub fn fuse() -> Need {
    let open = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    open.map(|_| ()).map_err(|e| format!("/dev/fuse: {e}; open it with: sudo chmod 0666 /dev/fuse"))
}

/// Control groups, version 2, mounted anywhere.
pub fn cgroup2() -> Need {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let there = mounts.lines().any(|l| l.split(' ').nth(2) == Some("cgroup2"));
    if there { Ok(()) } else { Err("no cgroup2; mount it with: sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup".into()) }
}

/// A Python module of Debian's.
pub fn python(module: &str, package: &str) -> Need {
    let status = Command::new("python3")
        .args(["-c", &format!("import {module}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if status.is_ok_and(|s| s.success()) {
        Ok(())
    } else {
        Err(format!("no Python module {module}; install it with: sudo apt-get install {package}"))
    }
}
