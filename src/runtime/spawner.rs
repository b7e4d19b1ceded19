//! The spawner: a small process with one thread that holds the engine's
//! namespaces, forks shims for dockerd, and as child subreaper inherits the
//! containers whose shim was killed.
//!
//! Invariant: one thread, no state worth saving: what it must know of a dead
//! shim's container it reads from that shim's state file. It ends when no
//! dockerd is connected and no shim or orphan of its own is left.

use crate::error::{Context, Error, Result};
use crate::runtime::handle::ExitRecord;
use crate::runtime::wire::{FromShim, Names, Spawn, State};
use crate::runtime::{shim, wire};
use crate::sys::process::{self, Forked, Status, Who};
use crate::sys::role::{self, Role};
use crate::sys::{fd, mount, socket};
use crate::util::json;
use crate::util::{atomic_file, time};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// argv[0] of the role.
pub const NAME: &str = "coracle-spawner";
pub const SOCKET: &str = "spawner.sock";
/// Its first message.
const READY: &[u8] = b"ready 1";

/// Where our program lies, for the one file that a container is shown of it.
/// Kept from the arguments, which the shims overwrite with their title.
pub static PROGRAM: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();

/// Whom a child of ours belongs to.
struct Child {
    id: String,
    run_dir: PathBuf,
    exec: bool,
    /// A shim, or a container's process that was reparented to us.
    orphan: bool,
}

struct Spawner {
    listener: OwnedFd,
    daemons: Vec<OwnedFd>,
    children: HashMap<i32, Child>,
}

/// Starts a spawner for dockerd: at the bootstrap, and again if it was killed.
pub fn start(exec_root: &Path) -> Result<OwnedFd> {
    start_beside(NAME, exec_root, false).context("start the spawner")
}

/// Starts one of the processes beside dockerd and waits until it is ready. A
/// program of its own and not a bare fork, so that it begins small and may be
/// started beside threads; from a read-only mount, so that nothing a container
/// could reach through /proc/PID/exe of any process of ours is ever writable
/// (CVE-2019-5736). It forks once more and is nobody's child.
pub fn start_beside(name: &str, exec_root: &Path, logs: bool) -> Result<OwnedFd> {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    let (ours, theirs) = socket::pair()?;
    let program = own_program()?;
    // Containers may leave cores, and what begins here hands its limits down to them.
    process::allow_cores(true);
    // The path is resolved in the new process, which still has our descriptors.
    let child = Command::new(fd::proc_path(&program))
        .arg0(name)
        .arg(exec_root)
        // Its own /proc/self/exe leads into a mount that has no path.
        .arg(std::env::current_exe().unwrap_or_default())
        .current_dir("/")
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(if logs { Stdio::inherit() } else { Stdio::null() })
        .spawn();
    process::allow_cores(false);
    let status = child?.wait()?;
    let mut hello = [0; 256];
    match socket::receive(ours.as_fd(), &mut hello, true) {
        Ok((n, _)) if hello[..n] == *READY => Ok(ours),
        Ok((n, _)) if n > 0 => Err(Error::system(String::from_utf8_lossy(&hello[..n]).into_owned())),
        _ => Err(Error::system(format!("it ended at once: {status}"))),
    }
}

/// A connection to a live spawner of ours.
pub fn connect(exec_root: &Path) -> Option<OwnedFd> {
    let dir = File::open(exec_root).ok()?;
    let spawner = socket::connect_at(dir.as_fd(), SOCKET).ok()?;
    let uid = nix::unistd::geteuid().as_raw();
    socket::peer(spawner.as_fd()).is_ok_and(|p| p.uid() == uid).then_some(spawner)
}

/// Our own executable, opened through a read-only copy of the mount it lies on.
fn own_program() -> Result<OwnedFd> {
    use nix::fcntl::{OFlag, open, openat};
    use nix::sys::stat::{Mode, fstat};
    let plain = open(c"/proc/self/exe", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let path = std::env::current_exe()?;
    let same = |file: &OwnedFd| -> nix::Result<bool> {
        let (a, b) = (fstat(file)?, fstat(&plain)?);
        Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    };
    let protected = (|| -> nix::Result<OwnedFd> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Err(nix::errno::Errno::ENOENT) };
        let dir = CString::new(dir.as_os_str().as_bytes()).map_err(|_| nix::errno::Errno::EINVAL)?;
        let tree = mount::clone_tree(None, &dir, false)?;
        mount::set_attributes(tree.as_fd(), mount::ATTR_RDONLY, 0, false)?;
        let file = openat(&tree, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        if same(&file)? { Ok(file) } else { Err(nix::errno::Errno::ESTALE) }
    })();
    // Mounts below the folder (a program in / has them all) are locked to it: the file alone, by its path where
    // that still is the file; by descriptor it would be of the mount namespace that we came from.
    let protected = protected.or_else(|_| {
        let whole = CString::new(path.as_os_str().as_bytes()).map_err(|_| nix::errno::Errno::EINVAL)?;
        let tree = match mount::clone_tree(None, &whole, false) {
            Ok(tree) if same(&tree)? => tree,
            _ => mount::clone_tree(Some(plain.as_fd()), c"", false)?,
        };
        mount::set_attributes(tree.as_fd(), mount::ATTR_RDONLY, 0, false)?;
        Ok::<_, Error>(tree)
    });
    protected.context("open our own program through a read-only mount")
}

/// Entry point under [`NAME`]; refuses to run without the socket on stdin.
pub fn main(args: &[OsString]) -> ExitCode {
    let Role { starter: daemon, listener } = match role::begin(args, SOCKET) {
        Ok(role) => role,
        Err(code) => return code,
    };
    let _ = PROGRAM.set(args.get(1).map(PathBuf::from).unwrap_or_default());
    // A panic ends the process without unwinding into anything.
    std::panic::set_hook(Box::new(|_| process::exit_now(70)));
    if let Err(e) = nix::sys::prctl::set_child_subreaper(true) {
        let _ = socket::send(daemon.as_fd(), format!("become a subreaper: {e}").as_bytes(), &[]);
        return ExitCode::FAILURE;
    }
    let _ = nix::sys::prctl::set_name(c"coracle-spawner");
    if socket::send(daemon.as_fd(), READY, &[]).is_err() {
        return ExitCode::FAILURE;
    }
    let spawner = Spawner { listener, daemons: vec![daemon], children: HashMap::new() };
    match spawner.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

impl Spawner {
    fn run(mut self) -> nix::Result<()> {
        let mask = SigSet::from(Signal::SIGCHLD);
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        loop {
            if self.daemons.is_empty() && self.children.is_empty() {
                return Ok(());
            }
            let mut fds = vec![
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            ];
            fds.extend(self.daemons.iter().map(|d| PollFd::new(d.as_fd(), PollFlags::POLLIN)));
            crate::sys::retry(|| poll(&mut fds, PollTimeout::NONE))?;
            let ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(true)).collect();
            drop(fds);
            if ready[0] {
                while signals.read_signal()?.is_some() {}
                self.reap();
            }
            let mut gone = Vec::new();
            for (i, _) in ready.iter().enumerate().skip(2).filter(|(_, r)| **r) {
                if !self.serve(i - 2) {
                    gone.push(i - 2);
                }
            }
            for i in gone.into_iter().rev() {
                self.daemons.remove(i);
            }
            if ready[1]
                && let Ok(daemon) = socket::accept(self.listener.as_fd())
                && socket::peer(daemon.as_fd()).is_ok_and(|p| p.uid() == nix::unistd::geteuid().as_raw())
            {
                self.daemons.push(daemon);
            }
        }
    }

    /// One message of a daemon; false when it is gone.
    fn serve(&mut self, index: usize) -> bool {
        let (request, fds) = match wire::receive::<Spawn>(self.daemons[index].as_fd(), false) {
            Ok(Some((request, _, fds))) => (request, fds),
            Ok(None) => return false,
            Err(nix::errno::Errno::EAGAIN) => return true,
            Err(nix::errno::Errno::ECONNRESET) => return false,
            // Not understood: its descriptors are closed, which the daemon sees
            // on the control socket.
            Err(_) => return true,
        };
        match process::clone(0, None) {
            Ok(Forked::Child) => shim::main(request, fds),
            Ok(Forked::Parent { pid, .. }) => {
                let Spawn { id, run_dir, exec } = request;
                self.children.insert(pid, Child { id, run_dir, exec, orphan: false });
            }
            Err(e) => {
                // No process or no memory left: said in place of the shim that is not there.
                let message = format!("fork a shim: {}", crate::runtime::plan::text(e));
                let failed = FromShim::Failed { message, invalid: false };
                if let Some(control) = fds.first() {
                    let _ = wire::send(control.as_fd(), &failed, b"", &[], false);
                }
            }
        }
        true
    }

    /// Reaps what has ended. A container's process can only be told apart once
    /// its shim is known to be dead, and the kernel may report them in any order.
    fn reap(&mut self) {
        let mut unknown: Vec<(i32, Status)> = Vec::new();
        while let Ok(Some(ended)) = process::wait(Who::Any, false) {
            match self.children.remove(&ended.pid) {
                Some(child) if child.orphan => record(&child, ended.status),
                Some(shim) => {
                    if ended.status != Status::Exited(0)
                        && let Some(pid) = survivor(&shim)
                    {
                        self.children.insert(pid, Child { orphan: true, ..shim });
                    }
                }
                None => unknown.push((ended.pid, ended.status)),
            }
        }
        for (pid, status) in unknown {
            if let Some(child) = self.children.remove(&pid) {
                record(&child, status);
            }
        }
        // A shim that died between reaping its process and recording that leaves
        // a state file of nobody.
        self.children.retain(|pid, child| !child.orphan || is_our_child(*pid));
    }
}

/// A container's process below `exec_root` that outlived its shim and us, and
/// whether its user namespace lies below the engine's.
pub fn orphan(exec_root: &Path) -> Option<(i32, bool)> {
    std::fs::read_dir(exec_root.join("containers")).ok()?.flatten().find_map(|entry| {
        let names = Names::of("", false);
        if entry.path().join(names.exit).exists() {
            return None;
        }
        let state: State = json::from_slice(&std::fs::read(entry.path().join(names.state)).ok()?).ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", state.pid)).ok()?;
        let dead = stat[stat.rfind(')')? + 1..].trim_start().starts_with('Z');
        (!dead && shim::start_time(state.pid)? == state.start_time).then_some((state.pid, state.nested))
    })
}

pub fn is_our_child(pid: i32) -> bool {
    let own = nix::unistd::getpid().as_raw();
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|s| s[s.rfind(')')? + 1..].split_ascii_whitespace().nth(1)?.parse::<i32>().ok())
        == Some(own)
}

/// The process that a dead shim left behind, unless its end is already recorded.
fn survivor(shim: &Child) -> Option<i32> {
    let names = Names::of(&shim.id, shim.exec);
    if shim.run_dir.join(names.exit).exists() {
        return None;
    }
    let state: State = json::from_slice(&std::fs::read(shim.run_dir.join(names.state)).ok()?).ok()?;
    Some(state.pid)
}

fn record(child: &Child, status: Status) {
    let exit = ExitRecord { code: status.code(), oom: false, finished_at: time::now().0 as i64 };
    let path = child.run_dir.join(Names::of(&child.id, child.exec).exit);
    if let Ok(json) = json::to_vec(&exit) {
        let _ = atomic_file::write(&path, &json, atomic_file::Durability::Synced);
    }
}
