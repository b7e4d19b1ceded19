//! A container's root: its mounts, its masks, and the way into it. Runs in the
//! cloned child, before it gives up its privileges.
//!
//! Invariant: every path is resolved after pivot_root, inside the container's
//! root, and through openat2 where a magic link could lead out.

use super::step::{Failure, Step, at};
use crate::runtime::plan::{MountStep, StartPlan, What, make_filesystem};
use crate::sys::{fs, mount, process, socket};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

/// A file system made before the old root went away, or why it was not.
pub(super) type Made = Option<nix::Result<OwnedFd>>;

/// Mount namespace: everything of the host out of sight. The file systems are
/// made while the host's are still there: in a user namespace the kernel allows
/// a new proc or sysfs only beside one that shows everything already.
pub(super) fn prepare_root(start: &StartPlan, nested: bool) -> Result<Vec<Made>, Failure> {
    if start.new_cgroup_ns {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).map_err(at(Step::Namespaces, 1))?;
    }
    if start.loopback {
        socket::loopback_up().map_err(at(Step::Loopback, 0))?;
    }
    if let Some(name) = &start.hostname {
        nix::unistd::sethostname(name).map_err(at(Step::Hostname, 0))?;
    }
    if let Some(name) = &start.domainname {
        process::set_domain_name(name.as_bytes()).map_err(at(Step::Hostname, 1))?;
    }
    let fail = at(Step::Root, 0);
    // Slave, not private: what is bound with rslave keeps hearing of the host,
    // and nothing that happens here goes out.
    mount::set_root_propagation(libc::MS_SLAVE).map_err(&fail)?;
    mount::attach_at(start.rootfs.as_fd(), &start.anchor).map_err(&fail)?;
    // Only now: the way to the anchor leads through directories of the user's.
    if nested {
        become_root()?;
    }
    let made = start.mounts.iter().map(|m| match &m.what {
        What::Filesystem { fstype, options, .. } => Some(make_filesystem(fstype, options, m.attributes)),
        What::Ready { .. } | What::Symlink(_) | What::Mark => None,
    });
    let made = made.collect();
    nix::unistd::fchdir(&start.rootfs).map_err(&fail)?;
    change_root(start).map_err(&fail)?;
    nix::unistd::chdir(c"/").map_err(&fail)?;
    Ok(made)
}

/// In a user namespace of its own a process begins as the one who made that:
/// what it makes shall belong to the container's root. Changes of the id from
/// and to 0 take capabilities away; this is one to 0.
pub(super) fn become_root() -> Result<(), Failure> {
    let fail = at(Step::Identity, 1);
    let (uid, gid) = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
    nix::unistd::setgroups(&[gid]).map_err(&fail)?;
    nix::unistd::setresgid(gid, gid, gid).map_err(&fail)?;
    nix::unistd::setresuid(uid, uid, uid).map_err(&fail)
}

/// The working directory becomes the root, and the old one goes away. A host that
/// runs from its initial ramfs has a root that the kernel never gives up: there
/// the new one covers it, also for who enters the namespace later.
fn change_root(start: &StartPlan) -> nix::Result<()> {
    match nix::unistd::pivot_root(c".", c".") {
        Ok(()) => nix::mount::umount2(c".", nix::mount::MntFlags::MNT_DETACH),
        Err(Errno::EINVAL) => {
            mount::attach_at(start.rootfs.as_fd(), c"/")?;
            nix::unistd::fchdir(&start.rootfs)?;
            nix::unistd::chroot(c".")
        }
        Err(e) => Err(e),
    }
}

pub(super) fn open_root() -> nix::Result<OwnedFd> {
    open(c"/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

pub(super) fn fill_root(start: &StartPlan, made: &[Made], root: &OwnedFd) -> Result<(), Failure> {
    for (i, (step, made)) in start.mounts.iter().zip(made).enumerate() {
        match mount_step(step, made, root) {
            Ok(()) => {}
            Err(_) if step.optional => {}
            Err((kind, errno)) => return Err(at(kind, i)(errno)),
        }
    }
    for (i, (name, value)) in start.sysctls.iter().enumerate() {
        let write = || -> nix::Result<()> {
            let sys = fs::open_in(root.as_fd(), c"/proc/sys", OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
            // Something else may be mounted over it (CVE-2025-52881).
            if !is_proc(&sys) {
                return Err(Errno::EXDEV);
            }
            let file = fs::open_beneath(sys.as_fd(), name, OFlag::O_WRONLY, Mode::empty())?;
            nix::unistd::write(&file, value.as_bytes()).map(drop)
        };
        write().map_err(at(Step::Sysctl, i))?;
    }
    Ok(())
}

fn mount_step(step: &MountStep, made: &Made, root: &OwnedFd) -> Result<(), (Step, Errno)> {
    let target = |e| (Step::Target, e);
    let refused = |e| (Step::Mount, e);
    match &step.what {
        What::Ready { mount, directory } => {
            let place = make_target(root, &step.target, *directory, step.strict).map_err(target)?;
            if is_directory(&place) != *directory {
                return Err(refused(Errno::ENOTDIR));
            }
            if is_proc(&place) && !SHOWN_BY_OTHERS.contains(&step.target.to_bytes()) {
                return Err(refused(Errno::EPERM));
            }
            mount::attach(mount.as_fd(), place.as_fd()).map_err(refused)
        }
        What::Filesystem { fallback, .. } => {
            let place = make_target(root, &step.target, true, step.strict).map_err(target)?;
            match (made, fallback) {
                (Some(Ok(mount)), _) => mount::attach(mount.as_fd(), place.as_fd()).map_err(refused),
                (_, Some(host)) => mount::attach(host.as_fd(), place.as_fd()).map_err(refused),
                (Some(Err(e)), None) => Err(refused(*e)),
                (None, None) => Err(refused(Errno::ENODEV)),
            }
        }
        What::Symlink(to) => match nix::unistd::symlinkat(to.as_c_str(), root, relative(&step.target)) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(e) => Err(target(e)),
        },
        What::Mark => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            match nix::fcntl::openat(root, relative(&step.target), flags, Mode::from_bits_truncate(0o755)) {
                Ok(_) | Err(Errno::EEXIST) => Ok(()),
                Err(e) => Err(target(e)),
            }
        }
    }
}

/// What lies in /proc tells the truth, but for figures that lxcfs and its kind show in
/// the kernel's place: runc's list.
const SHOWN_BY_OTHERS: [&[u8]; 11] = [
    b"/proc/cpuinfo",
    b"/proc/diskstats",
    b"/proc/meminfo",
    b"/proc/stat",
    b"/proc/swaps",
    b"/proc/uptime",
    b"/proc/loadavg",
    b"/proc/slabinfo",
    b"/proc/sys/kernel/ns_last_pid",
    b"/proc/sys/crypto/fips_enabled",
    b"/proc/net/dev",
];

fn is_proc(fd: &impl AsFd) -> bool {
    use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
    fstatfs(fd).is_ok_and(|s| s.filesystem_type() == PROC_SUPER_MAGIC)
}

fn relative(path: &CStr) -> &CStr {
    let bytes = path.to_bytes_with_nul();
    let from = bytes.iter().position(|b| *b != b'/').unwrap_or(bytes.len() - 1);
    CStr::from_bytes_with_nul(&bytes[from..]).unwrap_or(c".")
}

/// The place of a mount inside the root, made where it is missing: directories
/// 0755, an empty file 0644. Symlinks count as inside the root, also dangling
/// ones (images point /etc/resolv.conf into an empty /run).
pub(super) fn make_target(root: &OwnedFd, path: &CStr, directory: bool, strict: bool) -> nix::Result<fs::InRoot> {
    let flags = OFlag::O_PATH | if strict { OFlag::O_NOFOLLOW } else { OFlag::empty() };
    match fs::open_in(root.as_fd(), path, flags, Mode::empty()) {
        Err(Errno::ENOENT) => {}
        Ok(found) if strict && is_symlink(&found) => return Err(Errno::ELOOP),
        other => return other,
    }
    let mut follow = 40;
    let mut pending: Vec<u8> = path.to_bytes().to_vec();
    let mut done: Vec<u8> = Vec::with_capacity(pending.len());
    // `done` is the resolved prefix, `pending` what is still to be walked.
    loop {
        let rest = pending.iter().position(|b| *b != b'/').map_or(&[][..], |n| &pending[n..]);
        if rest.is_empty() {
            break;
        }
        let end = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
        let (name, tail) = (rest[..end].to_vec(), rest[end..].to_vec());
        let last = tail.iter().all(|b| *b == b'/');
        match name.as_slice() {
            b"." => {}
            b".." => done.truncate(done.iter().rposition(|b| *b == b'/').unwrap_or(0)),
            _ => {
                let parent = find(root, &done)?;
                let plain = CString::new(name.clone()).map_err(|_| Errno::EINVAL)?;
                match make(&parent, &plain, directory || !last) {
                    Ok(()) => {}
                    Err(Errno::EEXIST | Errno::EROFS) => {
                        if let Ok(link) = nix::fcntl::readlinkat(&parent, plain.as_c_str()) {
                            follow -= 1;
                            if follow == 0 || strict {
                                return Err(Errno::ELOOP);
                            }
                            use std::os::unix::ffi::OsStrExt;
                            let link = link.as_bytes();
                            if link.starts_with(b"/") {
                                done.clear();
                            }
                            pending = [link, b"/", &tail].concat();
                            continue;
                        }
                    }
                    Err(e) => return Err(e),
                }
                done.push(b'/');
                done.extend_from_slice(&name);
            }
        }
        pending = tail;
    }
    find(root, &done)
}

fn make(parent: &fs::InRoot, name: &CStr, directory: bool) -> nix::Result<()> {
    if directory {
        return nix::sys::stat::mkdirat(parent, name, Mode::from_bits_truncate(0o755));
    }
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    nix::fcntl::openat(parent, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
}

fn find(root: &OwnedFd, path: &[u8]) -> nix::Result<fs::InRoot> {
    let path = CString::new(if path.is_empty() { b"/" } else { path }).map_err(|_| Errno::EINVAL)?;
    fs::open_in(root.as_fd(), &path, OFlag::O_PATH, Mode::empty())
}

fn is_symlink(fd: &fs::InRoot) -> bool {
    fstat(fd).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFLNK)
}

fn is_directory(fd: &fs::InRoot) -> bool {
    fstat(fd).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Masks, read-only paths and a read-only root, last of all mounts. Everything
/// is done on descriptors: the mask is our own /dev/null, found by the mount we
/// attached and not by a path (CVE-2025-31133, CVE-2025-52881).
pub(super) fn protect_root(start: &StartPlan, root: &OwnedFd) -> Result<(), Failure> {
    let null = start.mounts.iter().find_map(|m| match &m.what {
        What::Ready { mount, .. } if m.is_null => Some(mount),
        _ => None,
    });
    let mut empty: Option<OwnedFd> = None;
    for (i, path) in start.masked.iter().enumerate() {
        let fail = at(Step::Mask, i);
        let place = match fs::open_in(root.as_fd(), path, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(place) => place,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            Err(e) => return Err(fail(e)),
        };
        if is_directory(&place) {
            let mask = match &empty {
                Some(mask) => mount::clone_tree(Some(mask.as_fd()), c"", false).map_err(&fail)?,
                None => {
                    let options =
                        [(c"size".to_owned(), Some(c"0".to_owned())), (c"nr_inodes".to_owned(), Some(c"2".to_owned()))];
                    make_filesystem(c"tmpfs", &options, mount::ATTR_RDONLY | NO_NODES).map_err(&fail)?
                }
            };
            mount::attach(mask.as_fd(), place.as_fd()).map_err(&fail)?;
            empty.get_or_insert(mask);
        } else if let Some(null) = null {
            let mask = mount::clone_tree(Some(null.as_fd()), c"", false).map_err(&fail)?;
            mount::attach(mask.as_fd(), place.as_fd()).map_err(&fail)?;
        }
    }
    for (i, path) in start.readonly.iter().enumerate() {
        let fail = at(Step::Readonly, i);
        let place = match fs::open_in(root.as_fd(), path, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(place) => place,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            Err(e) => return Err(fail(e)),
        };
        let copy = mount::clone_tree(Some(place.as_fd()), c"", true).map_err(&fail)?;
        mount::set_attributes(copy.as_fd(), mount::ATTR_RDONLY, 0, true).map_err(&fail)?;
        mount::attach(copy.as_fd(), place.as_fd()).map_err(&fail)?;
    }
    if start.rootfs_readonly {
        mount::set_attributes(start.rootfs.as_fd(), mount::ATTR_RDONLY, 0, false).map_err(at(Step::RootReadonly, 0))?;
    }
    Ok(())
}

const NO_NODES: u64 = mount::ATTR_NOSUID | mount::ATTR_NODEV | mount::ATTR_NOEXEC;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_relative() {
        assert_eq!(relative(c"//dev/x"), c"dev/x");
        assert_eq!(relative(c"/"), c"");
    }

    #[test]
    fn targets_are_made_inside_the_root() {
        let dir = std::env::temp_dir().join(format!("coracle-target-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::os::unix::fs::symlink("../run/systemd/resolv.conf", dir.join("etc/resolv.conf")).unwrap();
        std::os::unix::fs::symlink("/../../up", dir.join("etc/up")).unwrap();
        let root: OwnedFd = std::fs::File::open(&dir).unwrap().into();
        make_target(&root, c"/etc/resolv.conf", false, false).unwrap();
        assert!(dir.join("run/systemd/resolv.conf").is_file());
        make_target(&root, c"/etc/up/a/b", true, false).unwrap();
        assert!(dir.join("up/a/b").is_dir());
        assert_eq!(make_target(&root, c"/etc/up", true, true).unwrap_err(), Errno::ELOOP);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
