//! Listening sockets: made, taken over, handed in by systemd. Main thread,
//! before the bootstrap, so that ports and paths are claimed under the caller's
//! own ids and a failure costs nothing.

use super::host::Host;
use super::ownership::dying;
use super::places::group_id;
use crate::error::{Error, Kind, Result, errno_text};
use crate::server::accept::Listener;
use crate::server::tls::Tls;
use crate::util::resolve::Resolver;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A listener and what to call it in the log.
pub struct Bound {
    pub listener: Listener,
    /// `/run/user/1001/docker.sock`, `127.0.0.1:2375`.
    pub name: String,
    /// To be removed at the end, if it is still ours.
    pub file: Option<SocketFile>,
    pub tcp: bool,
}

impl Bound {
    /// Puts TLS in front of a network listener; unix sockets stay plain.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<&Arc<Tls>>) -> Self {
        if let Listener::Tcp(_, slot) = &mut self.listener {
            *slot = tls.cloned();
        }
        self
    }
}

/// Dockerd's warnings for a network listener that takes everybody, its pauses
/// included. `explicit`: the flags say outright that this is meant.
pub fn warn_open(host: &Host, explicit: bool) {
    let Host::Tcp { host: name, .. } = host else { return };
    for text in [
        "Binding to IP address without --tlsverify is insecure and gives root access on this machine to everyone who has access to your network.",
        "Binding to an IP address, even on localhost, can also give access to scripts run in a browser. Be safe out there!",
        "[DEPRECATION NOTICE] In future versions this will be a hard failure preventing the daemon from starting! Learn more at: https://docs.docker.com/go/api-security/",
    ] {
        crate::warn!(text, "host" = host);
    }
    std::thread::sleep(Duration::from_secs(1));
    if explicit || address(name).is_some_and(|a| a.is_loopback()) {
        return;
    }
    for text in [
        "[DEPRECATION NOTICE] Binding to an IP address without --tlsverify is deprecated. Startup is intentionally being slowed down to show this message",
        "[DEPRECATION NOTICE] Please consider generating tls certificates with client validation to prevent exposing unauthenticated root access to your network",
        "[DEPRECATION NOTICE] You can override this by explicitly specifying '--tls=false' or '--tlsverify=false'",
        "[DEPRECATION NOTICE] Support for listening on TCP without authentication or explicit intent to run without authentication will be removed in the next release",
    ] {
        crate::warn!(text, "host" = host);
    }
    std::thread::sleep(Duration::from_secs(15));
}

/// A socket in the file system, known by inode: another daemon may have taken
/// the name meanwhile.
#[derive(Debug, Clone)]
pub struct SocketFile {
    pub path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::symlink_metadata(path)?;
        Ok(Self { path: path.into(), inode: (meta.dev(), meta.ino()) })
    }
    pub fn remove(&self) {
        if Self::of(&self.path).is_ok_and(|now| now.inode == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Errors are dockerd's: `failed to load listeners: …`.
pub fn bind(host: &Host, group: Option<&str>, rootless: bool) -> Result<Vec<Bound>> {
    let result = match host {
        Host::Unix(path) => unix(Path::new(path), group, rootless).map(|b| vec![b]),
        Host::Tcp { host, port } => tcp(host, *port).map(|b| vec![b]),
        Host::Activated(which) => super::activation::take(which),
    };
    result.map_err(|e| e.context("failed to load listeners"))
}

fn unix(path: &Path, group: Option<&str>, rootless: bool) -> Result<Bound> {
    let fail = |why: String| Error::system(format!("can't create unix socket {}: {why}", path.display()));
    if let Ok(meta) = fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(fail("a file that is no socket is in the way".into())
                .with_hint(format!("move {} away, or choose another -H", path.display())));
        }
        if answered(path) {
            return Err(fail("another daemon answers on it".into())
                .with_hint("stop that daemon, or give this one another socket with -H unix://PATH"));
        }
        fs::remove_file(path).map_err(|e| fail(errno_text(&e)))?;
    }
    let gid = match group.filter(|name| !name.is_empty()) {
        Some(name) => Some(group_id(name).ok_or_else(|| fail(format!("group {name} not found")))?),
        None if rootless => None,
        None => group_id("docker"),
    };
    // The mode must hold from the first instant. One thread exists.
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o117));
    let bound = UnixListener::bind(path);
    nix::sys::stat::umask(before);
    let listener = bound.map_err(|e| {
        let error = fail(errno_text(&e));
        if path.as_os_str().len() > 107 {
            error.with_hint("a socket's path has at most 107 bytes: set a shorter XDG_RUNTIME_DIR or -H")
        } else {
            error
        }
    })?;
    let file = SocketFile::of(path).map_err(|e| fail(errno_text(&e)))?;
    if let Some(gid) = gid
        && let Err(e) = nix::unistd::chown(path, None, Some(nix::unistd::Gid::from_raw(gid)))
    {
        file.remove();
        let why = format!("change its group to {}: {}", group.unwrap_or("docker"), e.desc().to_lowercase());
        return Err(fail(why).with_hint("the socket can belong only to a group that you are a member of (see: id)"));
    }
    Ok(Bound { listener: Listener::Unix(listener), name: path.display().to_string(), file: Some(file), tcp: false })
}

/// A stale socket refuses connections; one that answers has an owner, unless that
/// is a process which the kernel is taking apart.
fn answered(path: &Path) -> bool {
    let until = Instant::now() + Duration::from_secs(30);
    while let Ok(stream) = UnixStream::connect(path) {
        let owner = crate::sys::socket::peer(stream.as_fd()).map_or(0, |peer| peer.pid());
        if owner <= 0 || !dying(owner) || Instant::now() > until {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn tcp(host: &str, port: u16) -> Result<Bound> {
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let address = address(host).ok_or_else(|| {
        Error::new(Kind::System, format!("listen tcp: lookup {host}: no such host"))
            .with_hint("give an address, or a name of /etc/hosts")
    })?;
    let listener = TcpListener::bind(SocketAddr::new(address, port))
        .map_err(|e| Error::system(format!("listen tcp {shown}: bind: {}", errno_text(&e))))?;
    let name = listener.local_addr().map_or(shown, |a| a.to_string());
    Ok(Bound { listener: Listener::Tcp(listener, None), name, file: None, tcp: true })
}

/// The address to bind; a name is looked up as for a client.
pub fn address(host: &str) -> Option<IpAddr> {
    let found = Resolver::default().lookup(host, Duration::from_secs(5)).unwrap_or_default();
    found.first().copied().or_else(|| (host == "localhost").then_some(IpAddr::from([127, 0, 0, 1])))
}
