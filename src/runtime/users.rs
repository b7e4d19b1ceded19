//! Who a process is: names and numbers looked up in the container's own
//! /etc/passwd and /etc/group, never through NSS. The lookup runs in the child,
//! after the mounts; the parsing is pure.

use crate::runtime::child::{Failure, Step};
use crate::runtime::spec::User;
use crate::sys::fs;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// A passwd or group file larger than this is not one.
const LIMIT: u64 = 16 << 20;

pub fn resolve(root: BorrowedFd<'_>, user: &User) -> Result<Identity, Failure> {
    let passwd = read(root, c"/etc/passwd");
    let group = read(root, c"/etc/group");
    lookup(&passwd, &group, user)
}

/// Docker's sentence for whom [`resolve`] did not find.
pub fn unknown(user: &User, failure: Failure) -> String {
    let (who, of) = user.spec.split_once(':').unwrap_or((&user.spec, ""));
    match (failure.step, failure.index) {
        (Step::Group, 0) => format!("unable to find group {of}: no matching entries in group file"),
        (Step::Group, n) => {
            let name = user.additional_groups.get(usize::from(n) - 1).map_or("", String::as_str);
            format!("unable to find group {name}: no matching entries in group file")
        }
        // A number that no account has, and that can be none's.
        _ if who.parse::<i64>().is_ok() => "uids and gids must be in range 0-2147483647".to_owned(),
        _ => format!("unable to find user {who}: no matching entries in passwd file"),
    }
}

/// Whether a running container knows a user; the refusal's sentence if not.
/// `root` is its root directory.
pub fn check(root: BorrowedFd<'_>, spec: &str) -> Result<(), String> {
    let user = User { spec: spec.to_owned(), additional_groups: Vec::new(), set_home: false };
    resolve(root, &user).map(drop).map_err(|failure| unknown(&user, failure))
}

/// A missing file is an empty one: numbers need none.
fn read(root: BorrowedFd<'_>, path: &CStr) -> String {
    use std::io::Read;
    // Non-blocking: an image may hold a fifo there.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let Ok(file) = fs::open_in(root, path, flags, Mode::empty()) else { return String::new() };
    let mut bytes = Vec::new();
    let _ = std::fs::File::from(file).take(LIMIT).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let f: Vec<&str> = line.trim().split(':').collect();
        (f.len() >= 4 && !f[0].starts_with('#')).then_some(())?;
        let (uid, gid) = (f[2].parse().ok()?, f[3].parse().ok()?);
        Some(Account { name: f[0], uid, gid, home: f.get(5).copied().unwrap_or("") })
    })
}

fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut f = line.trim().split(':');
        let name = f.next()?;
        let gid = f.nth(1)?.parse().ok()?;
        Some((name, gid, f.next().unwrap_or("")))
    })
}

fn number(s: &str) -> Option<u32> {
    // Ids above 2^31-1 are refused, as runc does.
    s.parse::<u32>().ok().filter(|n| *n <= i32::MAX as u32)
}

/// A name wins over a number of the same spelling; an unknown number is fine.
fn lookup(passwd: &str, group: &str, user: &User) -> Result<Identity, Failure> {
    let (who, of) = match user.spec.split_once(':') {
        Some((who, of)) => (who, of),
        None => (user.spec.as_str(), ""),
    };
    let missing = |step, index: usize| Failure { step, index: index as u16, errno: 0 };
    let wanted = if who.is_empty() { "0" } else { who };
    let account = accounts(passwd)
        .find(|a| a.name == wanted)
        .or_else(|| accounts(passwd).find(|a| number(wanted) == Some(a.uid)));
    let mut identity = match &account {
        Some(a) => Identity { uid: a.uid, gid: a.gid, groups: Vec::new(), home: a.home.to_owned() },
        None => Identity { uid: number(wanted).ok_or_else(|| missing(Step::User, 0))?, ..Default::default() },
    };
    if identity.home.is_empty() {
        identity.home = "/".to_owned();
    }
    let find = |name: &str| groups(group).find(|g| g.0 == name).map(|g| g.1).or_else(|| number(name));
    if of.is_empty() {
        if let Some(a) = &account {
            identity.groups.extend(groups(group).filter(|g| g.2.split(',').any(|m| m == a.name)).map(|g| g.1));
        }
    } else {
        identity.gid = find(of).ok_or_else(|| missing(Step::Group, 0))?;
    }
    // The primary group is a supplementary one too, as Docker's engine does
    // since CVE-2022-36109.
    if !identity.groups.contains(&identity.gid) {
        identity.groups.insert(0, identity.gid);
    }
    for (i, name) in user.additional_groups.iter().enumerate() {
        let gid = find(name).ok_or_else(|| missing(Step::Group, i + 1))?;
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n#c:x:9:9\n77:x:5:5::/odd:\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\naudio:x:29:web,root\ndisk:x:6:root\n";

    fn who(spec: &str, extra: &[&str]) -> Result<Identity, Failure> {
        let additional_groups = extra.iter().map(|s| (*s).to_owned()).collect();
        lookup(PASSWD, GROUP, &User { spec: spec.into(), additional_groups, set_home: true })
    }

    #[test]
    fn names_numbers_and_groups() {
        let web = who("web", &[]).unwrap();
        assert_eq!((web.uid, web.gid, web.home.as_str()), (33, 33, "/var/www"));
        assert_eq!(web.groups, [33, 29]);
        assert_eq!(who("33:audio", &[]).unwrap().groups, [29]);
        assert_eq!(who("", &["disk", "7"]).unwrap().groups, [0, 29, 6, 7]);
        let unknown = who("1234", &[]).unwrap();
        assert_eq!((unknown.uid, unknown.gid, unknown.home.as_str()), (1234, 0, "/"));
        assert_eq!(who("77", &[]).unwrap().uid, 5);
        assert_eq!(who("nosuch", &[]).unwrap_err().step, Step::User);
        assert_eq!(who("web:nosuch", &[]).unwrap_err().step, Step::Group);
        assert_eq!(who("0", &["x"]).unwrap_err().index, 1);
        assert_eq!(who("4294967296", &[]).unwrap_err().step, Step::User);
    }
}
