//! Finding a cgroup v2 tree that is ours to write. Runs once, in dockerd.

use super::{Cgroups, Controllers, make, systemd};
use std::fs;
use std::path::{Path, PathBuf};

const LEAF: &str = "coracle.engine";
/// So often somebody else may move us while we move: once is what systemd does.
const PUT_BACK: usize = 8;
const WANTED: [&str; 5] = ["memory", "cpu", "cpuset", "pids", "io"];

pub(super) fn probe() -> Cgroups {
    let Some(own) = path_of("self") else {
        return none("this host has no cgroup version 2 mounted");
    };
    if is_root() {
        return as_root(&own);
    }
    let found = writable(&own).then(|| use_tree(&own, false));
    if let Some(found) = found.as_ref().filter(|f| f.controllers != Controllers::default()) {
        return found.clone();
    }
    // Ours to write, but the shell that started us sits in it too, so that it
    // cannot hand controllers down: a scope of systemd's is better.
    let here = path_of("self").unwrap_or(own);
    match systemd::enter_scope(&helpers(&here)) {
        Ok(()) => {
            let _ = fs::remove_dir(here.join(LEAF)).or_else(|_| fs::remove_dir(&here));
            match path_of("self").filter(|p| writable(p)) {
                Some(own) => use_tree(&own, true),
                None => none("the user's systemd made a scope but delegated nothing"),
            }
        }
        Err(why) => found.unwrap_or_else(|| {
            none(&format!("no cgroup is delegated to this daemon, and the user's systemd cannot be asked ({why})"))
        }),
    }
}

fn none(reason: &str) -> Cgroups {
    Cgroups { reason: reason.to_owned(), ..Cgroups::default() }
}

/// Real root, not that of a user namespace.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
        && fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|m| m.split_ascii_whitespace().eq(["0", "0", "4294967295"]))
}

/// A tree beside the others, as Docker's own; inside a container, below us.
fn as_root(own: &Path) -> Cgroups {
    let Some((mount, _)) = mount_point() else { return none("this host has no cgroup version 2 mounted") };
    let at_top = writable(&mount).then(|| mount.join("coracle"));
    match at_top.filter(|p| make(p).is_ok()) {
        Some(base) => {
            enable(&mount);
            finish(&base, false)
        }
        None if writable(own) => use_tree(own, false),
        None => none("the cgroup tree is read-only"),
    }
}

/// A daemon that was restarted inside the leaf of an earlier one.
fn strip_leaf(own: &Path) -> PathBuf {
    if own.ends_with(LEAF) { own.parent().unwrap_or(own).to_owned() } else { own.to_owned() }
}

/// The other processes of the engine in this cgroup, which must move along:
/// spawner, netd, shims. Whatever else is in it is not ours to move.
fn helpers(dir: &Path) -> Vec<i32> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    let own = namespace("self");
    let listed = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let ours = |pid: &&str| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.starts_with("coracle-"))
            && namespace(pid) == own
    };
    listed.lines().filter(ours).filter_map(|p| p.parse().ok()).collect()
}

fn use_tree(own: &Path, systemd: bool) -> Cgroups {
    let base = &strip_leaf(own);
    let leaf = base.join(LEAF);
    if let Err(e) = make(&leaf) {
        return none(&format!("cannot make {}: {e}", leaf.display()));
    }
    // systemd puts its child into the unit's cgroup twice, the second time from outside at
    // any moment: whoever was put back while nothing was handed down yet moves again.
    for _ in 0..PUT_BACK {
        for pid in helpers(base).into_iter().chain([std::process::id() as i32]) {
            if let Err(e) = fs::write(leaf.join("cgroup.procs"), pid.to_string()) {
                return none(&format!("cannot move into {}: {e}", leaf.display()));
            }
        }
        enable(base);
        if path_of("self").is_none_or(|own| own == leaf) {
            break;
        }
    }
    finish(base, systemd)
}

fn finish(base: &Path, systemd: bool) -> Cgroups {
    let enabled = enable(base);
    let has = |name: &str| enabled.iter().any(|e| e == name);
    // Whether swap is counted and disks have shares shows in a child's files alone.
    let child = base.join("coracle.probe");
    let _ = make(&child);
    let offers = |file: &str| child.join(file).exists();
    let controllers = Controllers {
        memory: has("memory"),
        swap: has("memory") && offers("memory.swap.max"),
        cpu: has("cpu"),
        cpuset: has("cpuset"),
        pids: has("pids"),
        io: has("io"),
        io_weight: has("io") && (offers("io.weight") || offers("io.bfq.weight")),
    };
    let _ = fs::remove_dir(&child);
    Cgroups { base: Some(base.to_owned()), controllers, systemd, ..Cgroups::default() }
}

/// Hands down every controller that can be; gives those that are on.
pub(super) fn enable(dir: &Path) -> Vec<String> {
    let control = dir.join("cgroup.subtree_control");
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    for name in available.split_ascii_whitespace().filter(|n| WANTED.contains(n)) {
        // One by one: a single refused controller must not take the others along.
        let _ = fs::write(&control, format!("+{name}"));
    }
    let on = fs::read_to_string(&control).unwrap_or_default();
    on.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Whether we may make cgroups here and move processes between them.
pub(super) fn writable(dir: &Path) -> bool {
    let may = |path: &Path| {
        let flags = nix::fcntl::AtFlags::AT_EACCESS;
        nix::unistd::faccessat(nix::fcntl::AT_FDCWD, path, nix::unistd::AccessFlags::W_OK, flags).is_ok()
    };
    may(dir) && may(&dir.join("cgroup.procs")) && (may(&dir.join("cgroup.subtree_control")) || is_root())
}

/// The directory of a process's version 2 cgroup.
pub(super) fn path_of(pid: &str) -> Option<PathBuf> {
    let (mount, root) = mount_point()?;
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|l| l.strip_prefix("0::"))?;
    let below = Path::new(path).strip_prefix(&root).ok()?;
    Some(mount.join(below))
}

/// Where version 2 is mounted, and which of its directories.
fn mount_point() -> Option<(PathBuf, PathBuf)> {
    parse_mounts(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

fn parse_mounts(text: &str) -> Option<(PathBuf, PathBuf)> {
    text.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup2 ").then_some(())?;
        let mut fields = left.split(' ').skip(3);
        let (root, mount) = (fields.next()?, fields.next()?);
        Some((PathBuf::from(mount), PathBuf::from(root)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mount() {
        let text = "24 1 0:22 / /proc rw - proc proc rw\n\
                    31 30 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(parse_mounts(text), Some(("/sys/fs/cgroup/unified".into(), "/".into())));
        assert_eq!(parse_mounts(""), None);
        assert_eq!(strip_leaf(Path::new("/a/coracle.engine")), Path::new("/a"));
        assert_eq!(strip_leaf(Path::new("/a/b")), Path::new("/a/b"));
    }

    #[test]
    fn controllers_are_handed_down_one_by_one() {
        let dir = std::env::temp_dir().join(format!("coracle-cgroup-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("cgroup.controllers"), "hugetlb memory pids\n").unwrap();
        // A plain file keeps the last word written, which is enough to see that
        // unknown controllers are left out.
        assert_eq!(enable(&dir), ["+pids"]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
