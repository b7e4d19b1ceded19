//! Rootless bootstrap: how dockerd gets its own user and mount namespace, and
//! the processes that live beside it. Runs first of all in dockerd, while it has
//! one thread. The stages:
//!
//! 1. look: does a live spawner or shim of ours answer below the exec root?
//! 2. take over: enter its namespaces by setns (or, where only containers are
//!    left, theirs). Or else, unless we are root:
//! 3. helper: fork a process that stays outside and can run newuidmap;
//! 4. unshare: NEWUSER|NEWNS, same pid; the helper (or we, for the single own
//!    id) writes the maps; mounts become slaves of the host's;
//! 5. beside: start the spawner and netd, whichever does not live already.
//!
//! Invariant: the pid stays the same, the host's network namespace stays, and
//! only this file forks dockerd.

use super::ownership::dying;
use crate::error::{Context, Error, Result};
use crate::net::client as netd;
use crate::runtime::{spawner, userns};
use crate::sys::process::{self, Forked, Who};
use crate::sys::{cap, mount, socket};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How the ids of containers map to ids of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Real root: no user namespace of ours.
    Root,
    /// 0 is the caller, 1.. are the ranges of /etc/subuid and /etc/subgid.
    Mapped { uid: u32, gid: u32, uids: Vec<IdRange>, gids: Vec<IdRange> },
    /// Only 0 exists and is the caller. `reason` says why, with the remedy.
    SingleId { uid: u32, gid: u32, reason: String },
}

/// `count` ids from `host` on, counted from `container` on inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    pub container: u32,
    pub host: u32,
    pub count: u32,
}

#[derive(Debug)]
pub struct Bootstrap {
    pub mode: Mode,
    /// For `Runtime::new`.
    pub spawner: OwnedFd,
}

/// Enters the engine's namespaces and starts, or finds, the processes beside
/// dockerd. Must run before the first thread; refuses otherwise. `exec_root` exists,
/// mode 0700, ours.
pub fn enter(exec_root: &Path) -> Result<Bootstrap> {
    if !process::single_threaded() {
        return Err(Error::system("the bootstrap must run before the first thread"));
    }
    if !mount::supported() {
        return Err(Error::unavailable("this kernel is too old: the engine needs Linux 5.12 or later"));
    }
    let root = File::open(exec_root).with_context(|| format!("open {}", exec_root.display()))?;
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let is_root = uid == 0 && cap::get().is_ok_and(|(effective, _, _)| effective & (1 << CAP_SYS_ADMIN) != 0);

    let mut spawner = connect_live(root.as_fd(), spawner::SOCKET);
    let witness = match &spawner {
        Some((_, pid)) => Some((*pid, true, false)),
        None => live_shim(exec_root)
            .map(|pid| (pid, true, false))
            .or_else(|| spawner::orphan(exec_root).map(|(pid, nested)| (pid, false, nested))),
    };
    // A witness may die under our eyes: then there is nothing to take over.
    let joined = match (is_root, witness) {
        (false, Some((pid, ours, nested))) => join(pid, ours, nested).map_err(|e| crate::warn!(e)).is_ok(),
        (_, witness) => witness.is_some(),
    };
    if !joined {
        spawner = None;
    }
    let mode = match (is_root, joined) {
        (true, _) => Mode::Root,
        (false, true) => joined_mode(witness.is_some_and(|(_, ours, _)| ours), uid, gid)?,
        (false, false) => fresh(uid, gid)?,
    };
    let spawner_fd = match spawner.take() {
        Some((fd, _)) => fd,
        None => spawner::start(exec_root)?,
    };
    beside_netd(root.as_fd(), exec_root)?;
    // Passwords, keys and secrets of builds are in our memory.
    process::allow_cores(false);
    Ok(Bootstrap { mode, spawner: spawner_fd })
}

const CAP_SYS_ADMIN: u32 = 21;

/// A connection to a socket whose owner lives and is ours, with its pid.
fn connect_live(dir: BorrowedFd<'_>, name: &str) -> Option<(OwnedFd, i32)> {
    let fd = socket::connect_at(dir, name).ok()?;
    let peer = socket::peer(fd.as_fd()).ok()?;
    (peer.uid() == nix::unistd::geteuid().as_raw() && peer.pid() > 0 && !dying(peer.pid())).then(|| (fd, peer.pid()))
}

/// The pid of any shim that answers: it keeps the namespaces when the spawner
/// was killed.
fn live_shim(exec_root: &Path) -> Option<i32> {
    std::fs::read_dir(exec_root.join("containers")).ok()?.filter_map(|entry| entry.ok()).find_map(|entry| {
        let dir = File::open(entry.path()).ok()?;
        connect_live(dir.as_fd(), "shim.sock").map(|(_, pid)| pid)
    })
}

/// Enters the namespaces of a live process. `ours`: it is one of the engine's
/// own. Else it is a container's that nobody else survived: its user namespace
/// is the engine's, or (`nested`) lies in that; its mounts are its own. Err:
/// nothing has changed.
fn join(pid: i32, ours: bool, nested: bool) -> Result<()> {
    let what = "enter the namespaces of the running engine";
    let pidfd = process::pidfd_open(pid).context(what)?;
    let user = File::open(format!("/proc/{pid}/ns/user")).context(what)?;
    if nested {
        let above = File::from(process::parent_user_namespace(user.as_fd()).context(what)?);
        if std::fs::metadata("/proc/self/ns/user").context(what)?.ino() != above.metadata().context(what)?.ino() {
            nix::sched::setns(&above, CloneFlags::CLONE_NEWUSER).context(what)?;
        }
        return Ok(());
    }
    let user = user.metadata().context(what)?.ino();
    // Already inside (the daemon re-executed itself): setns to the own user
    // namespace is EINVAL.
    let mut namespaces = if ours { CloneFlags::CLONE_NEWNS } else { CloneFlags::empty() };
    if std::fs::metadata("/proc/self/ns/user").map(|m| m.ino()).ok() != Some(user) {
        namespaces |= CloneFlags::CLONE_NEWUSER;
    }
    if !namespaces.is_empty() {
        process::enter(pidfd.as_fd(), namespaces.bits() as u64).context(what)?;
    }
    Ok(())
}

fn joined_mode(ours: bool, uid: u32, gid: u32) -> Result<Mode> {
    become_root()?;
    if !ours {
        unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
        mount::set_root_propagation(libc::MS_SLAVE).context("detach the mounts from the host's")?;
    }
    current_mode(uid, gid, "an earlier daemon found no id ranges".to_owned())
}

fn current_mode(uid: u32, gid: u32, reason: String) -> Result<Mode> {
    let read = |path| -> Result<Vec<IdRange>> {
        Ok(userns::current(path)?
            .into_iter()
            .map(|(container, host, count)| IdRange { container, host, count })
            .collect())
    };
    let (uids, gids) = (read("/proc/self/uid_map")?, read("/proc/self/gid_map")?);
    let single = uids.len() == 1 && uids[0].count == 1;
    Ok(if single { Mode::SingleId { uid, gid, reason } } else { Mode::Mapped { uid, gid, uids, gids } })
}

/// Stages 3 and 4.
fn fresh(uid: u32, gid: u32) -> Result<Mode> {
    let ids = userns::available(uid);
    let helper = match &ids {
        userns::Ids::Ranges { .. } => Some(Helper::fork(&ids, uid, gid)?),
        userns::Ids::Single { .. } => None,
    };
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(userns::refusal)?;
    let refused = match (helper, ids) {
        (Some(helper), _) => helper.write_maps().err(),
        (None, userns::Ids::Single { reason }) => Some(reason),
        (None, userns::Ids::Ranges { .. }) => None,
    };
    if refused.is_some() {
        userns::map_single(uid, gid).map_err(|e| match std::fs::read_to_string("/proc/self/uid_map") {
            // AppArmor lets the namespace be made and takes its capabilities.
            Ok(map) if map.trim().is_empty() => userns::refusal(nix::errno::Errno::EPERM).with_source(e),
            _ => e,
        })?;
    }
    become_root()?;
    mount::set_root_propagation(libc::MS_SLAVE).map_err(|e| match e {
        nix::errno::Errno::EACCES | nix::errno::Errno::EPERM => userns::refusal(e),
        e => Error::from(e).context("detach the mounts from the host's"),
    })?;
    current_mode(uid, gid, refused.unwrap_or_default())
}

/// In the new namespace the caller is mapped to 0, but a process that keeps its
/// old ids may hold them in its saved ids only.
fn become_root() -> Result<()> {
    let (user, group) = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
    nix::unistd::setresgid(group, group, group).context("become root of the user namespace")?;
    nix::unistd::setresuid(user, user, user).context("become root of the user namespace")
}

/// A process that stays in the host's user namespace, where newuidmap has power
/// over the maps of its parent. Forked before unshare, ends after one answer.
struct Helper {
    socket: OwnedFd,
    pidfd: OwnedFd,
}

impl Helper {
    fn fork(ids: &userns::Ids, uid: u32, gid: u32) -> Result<Self> {
        let (ours, theirs) = socket::pair()?;
        let parent = nix::unistd::getpid().as_raw();
        match process::clone(0, None).context("fork the id map helper")? {
            Forked::Child => {
                drop(ours);
                let answer = match socket::receive(theirs.as_fd(), &mut [0; 1], true) {
                    Ok((1, _)) => helper_maps(ids, parent, uid, gid).err(),
                    _ => process::exit_now(0),
                };
                let text = answer.map(|e| e.message().to_owned()).unwrap_or_default();
                let _ = socket::send(theirs.as_fd(), text.as_bytes().get(..4000).unwrap_or(text.as_bytes()), &[]);
                process::exit_now(0)
            }
            Forked::Parent { pidfd, .. } => Ok(Self { socket: ours, pidfd }),
        }
    }

    /// Err is the reason why the ranges cannot be used.
    fn write_maps(self) -> std::result::Result<(), String> {
        let mut buffer = [0; 4096];
        let answer = socket::send(self.socket.as_fd(), b"m", &[])
            .and_then(|()| socket::receive(self.socket.as_fd(), &mut buffer, true));
        let _ = process::wait(Who::Pidfd(self.pidfd.as_fd()), true);
        let mapped = userns::current("/proc/self/uid_map").is_ok_and(|m| !m.is_empty());
        match answer {
            Ok((0, _)) if mapped => Ok(()),
            Ok((n, _)) if n > 0 => Err(String::from_utf8_lossy(&buffer[..n]).into_owned()),
            _ => Err("the id map helper died".to_owned()),
        }
    }
}

fn helper_maps(ids: &userns::Ids, pid: i32, uid: u32, gid: u32) -> Result<()> {
    let userns::Ids::Ranges { uids, gids, newuidmap, newgidmap } = ids else { return Ok(()) };
    // The group first: once the uid map is there, a failure could no longer fall
    // back to the single own id.
    userns::run_map_program(newgidmap, pid, &userns::layout(gid, gids))?;
    userns::run_map_program(newuidmap, pid, &userns::layout(uid, uids))
}

fn in_our_user_namespace(pid: i32) -> bool {
    let of = |who: &str| std::fs::metadata(format!("/proc/{who}/ns/user")).map(|m| m.ino());
    matches!((of("self"), of(&pid.to_string())), (Ok(ours), Ok(theirs)) if ours == theirs)
}

fn beside_netd(dir: BorrowedFd<'_>, exec_root: &Path) -> Result<()> {
    if let Some((_, pid)) = connect_live(dir, netd::SOCKET) {
        if in_our_user_namespace(pid) {
            return Ok(());
        }
        // What is left of an engine that ended: it outlives its last dockerd by
        // some seconds, and nobody could enter the namespaces that it makes.
        crate::debug!("ending the network process of an earlier engine", "pid" = pid);
        if let Ok(pidfd) = process::pidfd_open(pid) {
            let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }
    start_netd(exec_root)
}

/// Starts the network process: here, and whenever it has died. Any thread.
pub fn start_netd(exec_root: &Path) -> Result<()> {
    spawner::start_beside(crate::net::netd::NAME, exec_root, true).map(drop).context("start the network process")
}
