//! User namespaces: which ids of the host are ours to map, and writing the
//! maps. Runs in dockerd's bootstrap and in the helper that it forks.
//!
//! Invariant: the pure parts (ranges, map lines) know no file; every refusal of
//! a host is one sentence with its remedy.

use crate::error::{Context, Error, Result};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A line of /etc/subuid or of a map: `count` ids from `host` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub host: u32,
    pub count: u32,
}

/// What the bootstrap may do with ids on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ids {
    Ranges {
        uids: Vec<Range>,
        gids: Vec<Range>,
        newuidmap: PathBuf,
        newgidmap: PathBuf,
    },
    /// Only the own id; why, and how to change that.
    Single {
        reason: String,
    },
}

/// Reads what this host grants to `uid`.
pub fn available(uid: u32) -> Ids {
    match ranges(uid) {
        Ok(ids) => ids,
        Err(e) => {
            let hint = e.hint().map(|h| format!(" ({h})")).unwrap_or_default();
            Ids::Single { reason: format!("{}{hint}", e.message()) }
        }
    }
}

fn ranges(uid: u32) -> Result<Ids> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name(&passwd, uid);
    let read = |path: &str| -> Result<Vec<Range>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => {
                return Err(Error::from(e).context(format!("read {path}")).with_hint(format!("chmod 644 {path}")));
            }
        };
        let found = parse_subids(&text, name, uid);
        if found.is_empty() {
            let who = name.map_or_else(|| uid.to_string(), str::to_owned);
            return Err(Error::unavailable(format!("{path} has no range for {who}"))
                .with_hint(format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {who}")));
        }
        Ok(found)
    };
    let (uids, gids) = (read("/etc/subuid")?, read("/etc/subgid")?);
    let (newuidmap, newgidmap) = (privileged_program("newuidmap")?, privileged_program("newgidmap")?);
    Ok(Ids::Ranges { uids, gids, newuidmap, newgidmap })
}

/// The name of an id in the text of a passwd or a group file.
pub fn name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// The ranges of a user, named by name or by number.
fn parse_subids(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let who = fields.next()?;
            if Some(who) != name && who != number {
                return None;
            }
            let range = Range { host: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? };
            (range.count > 0).then_some(range)
        })
        .collect()
}

/// newuidmap or newgidmap, if it has the privilege that it needs.
fn privileged_program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(extra)
        .map(|dir| dir.join(name))
        .find(|p| fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0));
    let Some(path) = found else {
        return Err(Error::unavailable(format!("{name} is not installed")).with_hint("as root: apt-get install uidmap"));
    };
    let setuid_root = fs::metadata(&path).is_ok_and(|m| m.mode() & 0o4000 != 0 && m.uid() == 0);
    if setuid_root || has_file_capability(&path) {
        Ok(path)
    } else {
        let path = path.display();
        Err(Error::unavailable(format!("{path} is not setuid root")).with_hint(format!("as root: chmod u+s {path}")))
    }
}

fn has_file_capability(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes())
        .is_ok_and(|p| crate::sys::fs::lgetxattr(&p, c"security.capability").is_ok())
}

/// Container id 0 is `own`, 1 and up are the ranges: (container, host, count).
pub fn layout(own: u32, ranges: &[Range]) -> Vec<(u32, u32, u32)> {
    let mut lines = vec![(0, own, 1)];
    let mut next = 1u32;
    for range in ranges {
        let count = range.count.min(u32::MAX - next);
        if count > 0 {
            lines.push((next, range.host, count));
            next += count;
        }
    }
    lines
}

/// Runs newuidmap or newgidmap for a process that has made its namespace.
pub fn run_map_program(program: &Path, pid: i32, lines: &[(u32, u32, u32)]) -> Result<()> {
    let mut command = std::process::Command::new(program);
    command.arg(pid.to_string());
    for (container, host, count) in lines {
        command.args([container.to_string(), host.to_string(), count.to_string()]);
    }
    let output = command.output().with_context(|| format!("run {}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::system(format!("{} refused the map: {}", program.display(), said.trim())))
}

/// Maps the single own id, from inside the new namespace.
pub fn map_single(uid: u32, gid: u32) -> Result<()> {
    // setgroups must be denied first, else an unprivileged process may not map
    // its group (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny").context("write /proc/self/setgroups")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("write /proc/self/uid_map")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("write /proc/self/gid_map")
}

/// The map of the current namespace: (container, host, count).
pub fn current(path: &str) -> Result<Vec<(u32, u32, u32)>> {
    Ok(parse_map(&fs::read_to_string(path).with_context(|| format!("read {path}"))?))
}

fn parse_map(text: &str) -> Vec<(u32, u32, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut n = line.split_ascii_whitespace().map(str::parse::<u32>);
            Some((n.next()?.ok()?, n.next()?.ok()?, n.next()?.ok()?))
        })
        .collect()
}

/// Why the kernel refused a user namespace, as far as its settings tell.
pub fn refusal(cause: nix::errno::Errno) -> Error {
    let read = |path: &str| fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<i64>().ok());
    let exe = std::env::current_exe().map(|p| p.display().to_string()).unwrap_or_else(|_| "dockerd".into());
    let limits = ["user", "mnt"].map(|kind| (kind, read(&format!("/proc/sys/user/max_{kind}_namespaces"))));
    explain(
        &limits,
        read("/proc/sys/kernel/unprivileged_userns_clone"),
        read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        cause,
        &exe,
    )
}

/// `limits`: how many namespaces of each kind a user may have.
fn explain(
    limits: &[(&str, Option<i64>)],
    debian: Option<i64>,
    apparmor: Option<i64>,
    cause: nix::errno::Errno,
    exe: &str,
) -> Error {
    let what = "cannot make a user namespace";
    if let Some((kind, _)) = limits.iter().find(|(_, max)| *max == Some(0)) {
        return Error::unavailable(format!("{what}: user.max_{kind}_namespaces is 0"))
            .with_hint(format!("as root: sysctl -w user.max_{kind}_namespaces=15000"));
    }
    if debian == Some(0) {
        return Error::unavailable(format!("{what}: kernel.unprivileged_userns_clone is 0"))
            .with_hint("as root: sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if apparmor == Some(1) {
        return Error::unavailable(format!(
            "{what}: AppArmor restricts it (kernel.apparmor_restrict_unprivileged_userns is 1)"
        ))
        .with_hint(format!(
            "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give {exe} an AppArmor profile \
             with \"userns,\""
        ));
    }
    match cause {
        nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS => {
            Error::unavailable(format!("{what}: this kernel has none")).with_hint("it needs CONFIG_USER_NS=y")
        }
        nix::errno::Errno::ENOSPC => {
            Error::unavailable(format!("{what}: the limit user.max_user_namespaces is reached, or they nest too deep"))
                .with_hint("as root: sysctl -w user.max_user_namespaces=65536")
        }
        nix::errno::Errno::EPERM => Error::unavailable(format!("{what}: operation not permitted"))
            .with_hint("a seccomp filter, a chroot, or a security module of the host forbids it"),
        other => Error::unavailable(format!("{what}: {}", other.desc().to_lowercase())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subids_by_name_and_number() {
        let text = "other:1:2\nme:100000:65536\n# x\n1001:300000:10\nme:bad:1\nme:5:0\n";
        assert_eq!(
            parse_subids(text, Some("me"), 1001),
            [Range { host: 100_000, count: 65_536 }, Range { host: 300_000, count: 10 }]
        );
        assert_eq!(parse_subids(text, None, 7), []);
    }

    #[test]
    fn ranges_follow_one_another() {
        let ranges = [Range { host: 100_000, count: 10 }, Range { host: 500, count: 5 }];
        assert_eq!(layout(1001, &ranges), [(0, 1001, 1), (1, 100_000, 10), (11, 500, 5)]);
    }

    #[test]
    fn every_refusal_has_its_remedy() {
        let e = nix::errno::Errno::EPERM;
        for (user, mnt, debian, apparmor, word) in [
            (0, 9, None, None, "max_user_namespaces"),
            (9, 0, None, None, "max_mnt_namespaces"),
            (9, 9, Some(0), None, "unprivileged_userns_clone"),
            (9, 9, Some(1), Some(1), "apparmor_restrict"),
        ] {
            let limits = [("user", Some(user)), ("mnt", Some(mnt))];
            let error = explain(&limits, debian, apparmor, e, "/usr/bin/coracle");
            assert!(error.message().contains(word) && error.hint().unwrap().contains(word), "{error:?}");
        }
        assert!(explain(&[], None, None, e, "x").hint().is_some());
    }

    #[test]
    fn names() {
        assert_eq!(name("root:x:0:0::/:/bin/sh\nme:x:1001:1::/:/bin/sh\n", 1001), Some("me"));
        assert_eq!(
            parse_map("         0       1001          1\n 1 100000 65536\n"),
            [(0, 1001, 1), (1, 100_000, 65_536)]
        );
    }
}
