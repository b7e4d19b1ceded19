//! `--install-service`: what starts the daemon with the machine or with a user's
//! session. The files are those of `services/`, with the paths of this machine in
//! them. No daemon runs meanwhile.
//!
//! Invariant: a file that is not ours, and settings that somebody may have edited,
//! are never overwritten.

use crate::error::{Context, Error, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    SystemdUser,
    Systemd,
    Openrc,
    Sysv,
    Runit,
}

const KINDS: [(&str, Kind); 5] = [
    ("systemd-user", Kind::SystemdUser),
    ("systemd", Kind::Systemd),
    ("openrc", Kind::Openrc),
    ("sysv", Kind::Sysv),
    ("runit", Kind::Runit),
];

/// One file to write.
struct File {
    path: PathBuf,
    text: &'static str,
    program: bool,
    /// Kept as it is when it is there.
    settings: bool,
}

impl File {
    fn unit(path: impl Into<PathBuf>, text: &'static str) -> Self {
        Self { path: path.into(), text, program: false, settings: false }
    }
    fn program(path: &str, text: &'static str) -> Self {
        Self { path: path.into(), text, program: true, settings: false }
    }
    fn settings(path: &str) -> Self {
        Self { path: path.into(), text: include_str!("../../services/docker.conf"), program: false, settings: true }
    }
}

/// Writes the files below `root` and tells what to type next.
pub fn install(kind: Option<&str>, root: Option<&str>) -> Result<String> {
    let root = PathBuf::from(root.unwrap_or("/"));
    let kind = match kind {
        None => find_out(&root)?,
        Some(name) => KINDS.iter().find(|(n, _)| *n == name).map(|(_, k)| *k).ok_or_else(|| {
            let names: Vec<&str> = KINDS.iter().map(|(n, _)| *n).collect();
            Error::invalid(format!("unknown service kind {name:?}: one of {}", names.join(", ")))
        })?,
    };
    let (program, user) = (program(&root)?, user());
    let mut said = String::new();
    for file in files(kind) {
        let path = root.join(file.path.strip_prefix("/").unwrap_or(&file.path));
        let shown = path.display();
        match fs::read_to_string(&path) {
            Ok(_) if file.settings => {
                said.push_str(&format!("kept {shown}\n"));
                continue;
            }
            Ok(old) if !old.contains("Coracle") => {
                return Err(Error::conflict(format!("{shown} belongs to another Docker"))
                    .with_hint(format!("remove that package, or move the file away: mv {shown} {shown}.old")));
            }
            _ => {}
        }
        let dir = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(dir).with_context(|| format!("mkdir {}", dir.display()))?;
        let text = file.text.replace("@DOCKERD@", &program).replace("@USER@", &user);
        fs::write(&path, text).with_context(|| format!("write {shown}"))?;
        let mode = if file.program { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).with_context(|| format!("chmod {shown}"))?;
        said.push_str(&format!("wrote {shown}\n"));
    }
    said.push_str(&next(kind, &user));
    Ok(said)
}

fn files(kind: Kind) -> Vec<File> {
    match kind {
        Kind::SystemdUser => {
            let dir = unit_dir();
            vec![
                File::unit(dir.join("docker.service"), include_str!("../../services/docker.service")),
                File::unit(dir.join("docker.socket"), include_str!("../../services/docker.socket")),
            ]
        }
        Kind::Systemd => {
            vec![File::unit("/etc/systemd/system/docker@.service", include_str!("../../services/docker@.service"))]
        }
        Kind::Openrc => vec![
            File::program("/etc/init.d/docker", include_str!("../../services/docker.openrc")),
            File::settings("/etc/conf.d/docker"),
        ],
        Kind::Sysv => vec![
            File::program("/etc/init.d/docker", include_str!("../../services/docker.sysv")),
            File::settings("/etc/default/docker"),
        ],
        Kind::Runit => vec![
            File::program("/etc/sv/docker/run", include_str!("../../services/docker.runit")),
            File::program("/etc/sv/docker/log/run", include_str!("../../services/docker.runit-log")),
            File::settings("/etc/default/docker"),
        ],
    }
}

/// Units of one user, or for the sessions of all.
fn unit_dir() -> PathBuf {
    let dir = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    if nix::unistd::geteuid().is_root() {
        return "/etc/systemd/user".into();
    }
    let config = dir("XDG_CONFIG_HOME").or_else(|| Some(dir("HOME")?.join(".config")));
    config.unwrap_or_else(|| "/etc".into()).join("systemd/user")
}

/// Which service manager this machine has.
fn find_out(root: &Path) -> Result<Kind> {
    let there = |path: &str| root.join(path).exists();
    let systemd = there("run/systemd/system");
    if !nix::unistd::geteuid().is_root() {
        return if systemd {
            Ok(Kind::SystemdUser)
        } else {
            Err(Error::not_found("no service manager for ordinary users found")
                .with_hint("as root: dockerd --install-service (it will run as you); or name one with --service-kind"))
        };
    }
    if systemd {
        Ok(Kind::Systemd)
    } else if there("sbin/openrc-run") || there("usr/sbin/openrc-run") {
        Ok(Kind::Openrc)
    } else if there("etc/sv") || there("etc/runit") {
        Ok(Kind::Runit)
    } else if there("etc/init.d") {
        Ok(Kind::Sysv)
    } else {
        Err(Error::not_found("no service manager found").with_hint("name one with --service-kind"))
    }
}

/// Where dockerd will be found; what lies below `root` is there without it. The role
/// is the file's name, so the link is wanted, not what it leads to.
fn program(root: &Path) -> Result<String> {
    let called = std::env::args_os().next().map(PathBuf::from).filter(|p| p.components().count() > 1);
    let called = called.and_then(|p| std::path::absolute(p).ok()).filter(|p| p.ends_with("dockerd"));
    let beside = std::env::current_exe().context("find our own program")?.with_file_name("dockerd");
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&search).map(|dir| dir.join("dockerd"));
    let own = called.into_iter().chain([beside]).chain(found).find(|p| p.is_absolute() && p.exists());
    let own = own.ok_or_else(|| {
        Error::not_found("no program of the name dockerd found").with_hint("install it first: make install")
    })?;
    let inside = own.strip_prefix(root).map_or_else(|_| own.clone(), |p| Path::new("/").join(p));
    Ok(inside.display().to_string())
}

/// Whose daemon it shall be.
fn user() -> String {
    let uid = nix::unistd::geteuid();
    let name = if uid.is_root() { std::env::var("SUDO_USER").ok() } else { std::env::var("USER").ok() };
    name.filter(|n| !n.is_empty() && n != "root").unwrap_or_else(|| "docker".into())
}

fn next(kind: Kind, user: &str) -> String {
    let reach = format!("export DOCKER_HOST=unix:///run/docker-{user}/docker.sock");
    let lines = match kind {
        Kind::SystemdUser => "systemctl --user daemon-reload\n  systemctl --user enable --now docker.socket\n  loginctl enable-linger   # also when nobody is logged in".to_owned(),
        Kind::Systemd => format!("systemctl daemon-reload\n  systemctl enable --now docker@{user}\n  {reach}"),
        Kind::Openrc => format!("rc-update add docker\n  rc-service docker start\n  {reach}"),
        Kind::Sysv => format!("update-rc.d docker defaults   # or chkconfig --add docker\n  service docker start\n  {reach}"),
        Kind::Runit => format!("ln -s /etc/sv/docker /var/service/\n  {reach}"),
    };
    format!("Next:\n  {lines}\n")
}
