//! The mounts of a container for its spec: its own files, volumes, binds, tmpfs
//! and /dev/shm, from the outside in. Runs on the thread of the start.

use super::record::{MountKind, MountRecord, Record};
use super::spec::Fds;
use super::{Container, keep_id, mounts};
use crate::engine::Engine;
use crate::engine::volume::Data;
use crate::error::{Context, Error, Result};
use crate::runtime::spec::{Mount, Propagation, Source};
use crate::storage::owners::Owners;
use crate::sys::fs::open_beneath;
use crate::util::id;
use crate::util::order;
use crate::util::path;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A bind or file system without any restriction.
fn mount(source: Source, target: &str) -> Mount {
    Mount {
        source,
        target: target.to_owned(),
        readonly: false,
        recursive_readonly: false,
        propagation: Propagation::RPrivate,
        nosuid: false,
        nodev: false,
        noexec: false,
    }
}

pub fn mounts(engine: &Engine, container: &Container, record: &Record, fds: &mut Fds) -> Result<Vec<Mount>> {
    let host = &record.host_config;
    let mut list = Vec::new();
    if let Some(shm) = shm(engine, record, fds)? {
        list.push(shm);
    }
    if host.privileged {
        list.push(Mount { nosuid: true, nodev: true, noexec: true, ..mount(sysfs(), "/sys") });
        list.push(Mount { nosuid: true, nodev: true, noexec: true, ..mount(Source::Cgroup, "/sys/fs/cgroup") });
    }
    let asked = |target: &str| record.mounts.iter().any(|m| m.destination == target);
    for file in FILES {
        let (path, target) = (files_dir(engine, container, record).join(file), format!("/etc/{file}"));
        if !asked(&target) {
            let file = mount(Source::Path { path, recursive: false }, &target);
            list.push(Mount { readonly: host.readonly_rootfs, ..file });
        }
    }
    for (target, options) in host.tmpfs.iter().flatten() {
        list.push(tmpfs(&path::absolute(target), options)?);
    }
    for point in &record.mounts {
        list.push(point_mount(engine, record, point, fds)?);
    }
    // Stable: what is equally deep keeps its order.
    order::sort_by_key(&mut list, |m| mounts::depth(&m.target));
    Ok(list)
}

/// Containers that share a network share its files too.
fn files_dir(engine: &Engine, container: &Container, record: &Record) -> PathBuf {
    match record.host_config.network_mode.strip_prefix("container:") {
        Some(other) => engine.containers.get(other).map_or_else(|_| container.dir.clone(), |c| c.dir.clone()),
        None => container.dir.clone(),
    }
}

fn sysfs() -> Source {
    Source::Filesystem { fstype: "sysfs".into(), data: String::new() }
}

/// None where the runtime's standard one will do.
fn shm(engine: &Engine, record: &Record, fds: &mut Fds) -> Result<Option<Mount>> {
    const SHM: &str = "/dev/shm";
    let host = &record.host_config;
    if record.mounts.iter().any(|m| m.destination == SHM) || host.tmpfs.iter().flatten().any(|(t, _)| t == SHM) {
        return Ok(None);
    }
    let restricted = |source| Mount { nosuid: true, nodev: true, noexec: true, ..mount(source, SHM) };
    if let Some(other) = host.ipc_mode.strip_prefix("container:") {
        let other = engine.containers.get(other)?;
        let fd = fds.add(engine.runtime.clone_mount(&other.id, SHM)?);
        return Ok(Some(restricted(Source::Fd { fd, recursive: false })));
    }
    if host.ipc_mode == "host" {
        return Ok(Some(restricted(Source::Path { path: SHM.into(), recursive: false })));
    }
    if host.shm_size == 64 << 20 {
        return Ok(None);
    }
    let data = format!("mode=1777,size={}", host.shm_size);
    Ok(Some(restricted(Source::Filesystem { fstype: "tmpfs".into(), data })))
}

fn point_mount(engine: &Engine, record: &Record, point: &MountRecord, fds: &mut Fds) -> Result<Mount> {
    let source = match point.kind {
        MountKind::Tmpfs => return tmpfs(&point.destination, &point.tmpfs_options),
        MountKind::Bind => {
            let source = bind_source(engine, point)?;
            if let Source::Path { path, .. } = &source {
                check_propagation(path, propagation(&point.propagation))?;
            }
            source
        }
        MountKind::Volume => match engine.volumes.get(&point.name)?.data()? {
            Data::Tmpfs(options) => {
                // A file system like any other: nothing is forbidden that `o` does not forbid.
                let made = tmpfs(&point.destination, &format!("suid,dev,exec,{options}"))?;
                return Ok(Mount { readonly: made.readonly || !point.rw, ..made });
            }
            Data::Folder(folder) if point.subpath.is_empty() => Source::Path { path: folder, recursive: true },
            Data::Folder(folder) => {
                let open = File::open(&folder).with_context(|| format!("open {}", folder.display()))?;
                Source::Fd { fd: fds.add(subpath(open.as_fd(), &folder, &point.subpath)?), recursive: true }
            }
        },
        MountKind::Image => {
            keep_id::prepare(engine, &point.layers, record.owners.as_ref())?;
            let root = engine.driver.mount_ro(&record.lowers_of(&point.layers))?;
            let fd = if point.subpath.is_empty() { root } else { part_of_mount(engine, root, &point.subpath)? };
            Source::Fd { fd: fds.add(fd), recursive: true }
        }
    };
    Ok(Mount {
        readonly: !point.rw,
        recursive_readonly: !point.rw && !point.read_only_non_recursive,
        propagation: propagation(&point.propagation),
        ..mount(source, &point.destination)
    })
}

fn bind_source(engine: &Engine, point: &MountRecord) -> Result<Source> {
    let mut path = PathBuf::from(&point.source);
    // Who asks for Docker's socket means the engine that it runs in.
    if matches!(point.source.as_str(), "/var/run/docker.sock" | "/run/docker.sock")
        && let Some(socket) = &engine.config.socket
    {
        path.clone_from(socket);
    }
    match std::fs::metadata(&path) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && point.create_source => {
            std::fs::create_dir_all(&path).map_err(|e| {
                Error::system(format!(
                    "error while creating mount source path '{0}': mkdir {0}: {1}",
                    path.display(),
                    crate::error::errno_text(&e)
                ))
            })?;
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                path.display()
            )));
        }
        Err(e) => return Err(e).with_context(|| format!("stat {}", path.display())),
    }
    Ok(Source::Path { path, recursive: !point.non_recursive })
}

/// A part of a detached mount as a mount of its own. The kernel copies only from
/// mounts that are attached, so it is attached for that moment at a place of ours
/// in dockerd's own mount namespace; a kill in between leaves it there until the
/// namespace ends, where nobody looks.
fn part_of_mount(engine: &Engine, root: OwnedFd, path: &str) -> Result<OwnedFd> {
    let place = engine.config.exec_root.join("parts").join(&id::random()[..16]);
    std::fs::create_dir_all(&place).with_context(|| format!("create {}", place.display()))?;
    let name = CString::new(place.as_os_str().as_encoded_bytes()).map_err(|_| Error::invalid("NUL in exec-root"))?;
    let part = crate::sys::mount::attach_at(root.as_fd(), &name).map_err(Error::from).and_then(|()| {
        let part = subpath(root.as_fd(), Path::new("/"), path)
            .and_then(|part| crate::sys::mount::clone_tree(Some(part.as_fd()), c"", true).map_err(Error::from));
        nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH)?;
        part
    });
    let _ = std::fs::remove_dir(&place);
    part.context(format_args!("mount {path} of an image"))
}

/// A place below a volume's or image's root. A symlink that leads out of it is refused,
/// as the original does, and not resolved inside. `shown` is the root's name for people.
pub(super) fn subpath(root: BorrowedFd<'_>, shown: &Path, path: &str) -> Result<OwnedFd> {
    let text = CString::new(path).map_err(|_| Error::invalid("subpath: invalid path"))?;
    let found = open_beneath(root, &text, OFlag::O_PATH, Mode::empty()).map_err(|e| match e {
        Errno::EXDEV => {
            let base = shown.display();
            Error::system(format!("path concatenation escapes the base directory, base: {base}, subpath: {path}"))
        }
        e => {
            let whole = shown.join(path);
            Error::system(format!("cannot access path {0}: lstat {0}: {1}", whole.display(), e.desc().to_lowercase()))
        }
    })?;
    Ok(found.into())
}

/// Shared and slave mounts hear of each other only where the source's own mount
/// takes part; Docker refuses what would silently be private.
fn check_propagation(path: &Path, wanted: Propagation) -> Result<()> {
    let (tags, text): (&[&str], _) = match wanted {
        Propagation::Private | Propagation::RPrivate => return Ok(()),
        Propagation::Shared | Propagation::RShared => (&["shared:"], "a shared mount"),
        Propagation::Slave | Propagation::RSlave => (&["shared:", "master:"], "a shared or slave mount"),
    };
    let Some((place, fields)) = mount_of(path) else { return Ok(()) };
    if fields.split(' ').any(|f| tags.iter().any(|t| f.starts_with(t))) {
        return Ok(());
    }
    Err(Error::system(format!("path {} is mounted on {place} but it is not {text}", path.display())))
}

/// Where the mount that `path` lies on is mounted, and its optional fields.
fn mount_of(path: &Path) -> Option<(String, String)> {
    use std::os::fd::AsRawFd;
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
    let fd = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).ok()?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let id = info.lines().find_map(|l| l.strip_prefix("mnt_id:"))?.trim().to_owned();
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = table.lines().find(|l| l.split(' ').next() == Some(id.as_str()))?;
    let (fields, _) = line.split_once(" - ")?;
    let mut words = fields.splitn(7, ' ');
    let place = words.nth(4)?.to_owned();
    Some((place, words.nth(1).unwrap_or_default().to_owned()))
}

fn propagation(word: &str) -> Propagation {
    match word {
        "private" => Propagation::Private,
        "slave" => Propagation::Slave,
        "rslave" => Propagation::RSlave,
        "shared" => Propagation::Shared,
        "rshared" => Propagation::RShared,
        _ => Propagation::RPrivate,
    }
}

/// Docker's defaults are rw,noexec,nosuid,nodev; each word may undo one.
fn tmpfs(target: &str, options: &str) -> Result<Mount> {
    let (mut readonly, mut nosuid, mut nodev, mut noexec) = (false, true, true, true);
    let mut data: Vec<&str> = Vec::new();
    for word in options.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match word {
            "ro" => readonly = true,
            "rw" => readonly = false,
            "exec" => noexec = false,
            "noexec" => noexec = true,
            "suid" => nosuid = false,
            "nosuid" => nosuid = true,
            "dev" => nodev = false,
            "nodev" => nodev = true,
            "defaults" | "async" | "atime" | "noatime" | "relatime" | "norelatime" | "strictatime" | "diratime"
            | "nodiratime" | "private" | "rprivate" => {}
            _ if ["size=", "mode=", "uid=", "gid=", "nr_inodes=", "nr_blocks=", "mpol=", "huge="]
                .iter()
                .any(|k| word.starts_with(k)) =>
            {
                data.push(word);
            }
            _ => return Err(Error::invalid(format!("invalid tmpfs option \"{word}\""))),
        }
    }
    if !data.iter().any(|d| d.starts_with("mode=")) {
        data.push("mode=1777");
    }
    let source = Source::Filesystem { fstype: "tmpfs".into(), data: data.join(",") };
    Ok(Mount { readonly, nosuid, nodev, noexec, ..mount(source, target) })
}

pub const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// The container's own files belong to its root.
pub fn own_files(dir: &Path, owners: &Owners) -> Result<()> {
    let (uid, gid) = owners.stored(0, 0);
    for name in FILES {
        let path = dir.join(name);
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).with_context(|| format!("chown {}", path.display()))?;
    }
    Ok(())
}

/// Writes hosts, hostname and resolv.conf into the container's folder. In place:
/// a running container has the old files bound.
pub fn write_files(dir: &Path, hostname: &str, hosts: &str, resolv_conf: &str) -> Result<()> {
    for (name, text) in [("hostname", &*format!("{hostname}\n")), ("hosts", hosts), ("resolv.conf", resolv_conf)] {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_options_undo_the_defaults() {
        let made = tmpfs("/t", "exec,size=1m,ro").unwrap();
        assert!(made.readonly && made.nosuid && made.nodev && !made.noexec);
        let Source::Filesystem { data, .. } = made.source else { panic!("no file system") };
        assert_eq!(data, "size=1m,mode=1777");
        assert_eq!(tmpfs("/t", "bogus").unwrap_err().message(), "invalid tmpfs option \"bogus\"");
    }
}
