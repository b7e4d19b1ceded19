//! `docker tls`: certificates for the API over the network, one command instead
//! of twelve. Works on this machine's files; needs no daemon.

pub mod client;
pub mod init;
pub mod list;
pub mod revoke;

use crate::error::Result;
use crate::util::authority::Authority;
use std::path::PathBuf;

/// Where dockerd looks as well.
pub fn folder() -> PathBuf {
    let dir = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    if nix::unistd::geteuid().is_root() {
        return "/etc/docker/tls".into();
    }
    let config = dir("XDG_CONFIG_HOME").or_else(|| dir("HOME").map(|h| h.join(".config")));
    config.unwrap_or_else(|| "/".into()).join("docker/tls")
}

fn chosen(dir: Option<&str>) -> PathBuf {
    dir.map_or_else(folder, PathBuf::from)
}

fn open(dir: Option<&str>) -> Result<Authority> {
    Authority::open(&chosen(dir))
}

/// Tells a running daemon of this user to read its certificates again.
fn tell_daemon() -> bool {
    let run = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from("/var/run"), PathBuf::from);
    let run = if nix::unistd::geteuid().is_root() { PathBuf::from("/var/run") } else { run };
    let pid = std::fs::read_to_string(run.join("docker.pid")).ok().and_then(|t| t.trim().parse::<i32>().ok());
    pid.is_some_and(|pid| pid > 1 && crate::sys::signal::kill(pid, libc::SIGHUP).is_ok())
}
