//! Where the daemon keeps what: the caller's own folders, or the system's for
//! root. Read once from the environment, before any thread exists.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub struct Places {
    /// No real root: the state is one user's.
    pub rootless: bool,
    home: PathBuf,
    runtime: Option<PathBuf>,
    data: PathBuf,
    config: PathBuf,
}

impl Places {
    /// Where devices are described by default: the machine's, then the user's own.
    pub fn cdi_dirs(&self) -> Vec<String> {
        let own = [Some(self.config.join("cdi")), self.runtime.as_ref().map(|r| r.join("cdi"))];
        let own = own.into_iter().flatten().filter(|_| self.rootless).map(|p| p.display().to_string());
        ["/etc/cdi", "/var/run/cdi"].map(str::to_owned).into_iter().chain(own).collect()
    }

    /// From the environment. Only what is used later may be missing.
    pub fn find() -> Self {
        let dir = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let uid = nix::unistd::geteuid();
        let rootless = !uid.is_root();
        let home = dir("HOME").or_else(|| home_of(uid.as_raw())).unwrap_or_else(|| PathBuf::from("/"));
        Self {
            rootless,
            runtime: dir("XDG_RUNTIME_DIR"),
            data: dir("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share")),
            config: dir("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")),
            home,
        }
    }

    /// Everything below one folder.
    #[cfg(test)]
    pub fn of(dir: &Path) -> Self {
        Self {
            rootless: true,
            home: dir.into(),
            runtime: Some(dir.join("run")),
            data: dir.join("data"),
            config: dir.join("config"),
        }
    }

    fn run(&self) -> &Path {
        match &self.runtime {
            Some(dir) if self.rootless => dir,
            _ => Path::new("/var/run"),
        }
    }
    /// The default socket needs a place to be.
    pub fn require_runtime(&self) -> Result<()> {
        if !self.rootless {
            return Ok(());
        }
        let uid = nix::unistd::geteuid();
        match &self.runtime {
            None => Err(Error::invalid("XDG_RUNTIME_DIR is not set").with_hint(format!(
                "log in as the user itself (not through su), or: export XDG_RUNTIME_DIR=/run/user/{uid} (mkdir -m 700 it first where no login manager does)"
            ))),
            Some(dir) if !dir.is_dir() => {
                Err(Error::invalid(format!("XDG_RUNTIME_DIR {} does not exist", dir.display()))
                    .with_hint(format!("as root: mkdir -m 700 -p {0} && chown {uid} {0}", dir.display())))
            }
            Some(_) => Ok(()),
        }
    }
    pub fn socket(&self) -> String {
        self.run().join("docker.sock").display().to_string()
    }
    pub fn pid_file(&self) -> PathBuf {
        self.run().join("docker.pid")
    }
    pub fn exec_root(&self) -> PathBuf {
        if self.rootless { self.run().join("coracle") } else { PathBuf::from("/run/coracle") }
    }
    pub fn data_root(&self) -> PathBuf {
        if self.rootless { self.data.join("coracle") } else { PathBuf::from("/var/lib/coracle") }
    }
    pub fn config_file(&self) -> PathBuf {
        if self.rootless { self.config.join("docker/daemon.json") } else { PathBuf::from("/etc/docker/daemon.json") }
    }
    /// What `--tls-init` and `docker tls` keep.
    pub fn authority(&self) -> PathBuf {
        self.config_file().with_file_name("tls")
    }
    /// `ca.pem`, `cert.pem`, `key.pem`.
    pub fn certificates(&self) -> PathBuf {
        let dir = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| !p.as_os_str().is_empty());
        dir("DOCKER_CERT_PATH").or_else(|| dir("DOCKER_CONFIG")).unwrap_or_else(|| self.home.join(".docker"))
    }
}

/// getpwuid would load NSS modules, which a static program cannot.
fn home_of(uid: u32) -> Option<PathBuf> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)?.parse::<u32>() == Ok(uid)).then(|| PathBuf::from(fields.get(5).copied().unwrap_or("/")))
    })
}

/// A group's id by name or number.
pub fn group_id(name: &str) -> Option<u32> {
    let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let named = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.first() == Some(&name)).then(|| fields.get(2).and_then(|g| g.parse().ok())).flatten()
    });
    named.or_else(|| name.parse().ok())
}
