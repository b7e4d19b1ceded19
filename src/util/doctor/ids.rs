//! Subordinate ids: the programs that map them and the ranges of the user.

use super::{Finding, Host, shown};
use std::os::unix::fs::MetadataExt;

/// As many ids as images usually need.
const ENOUGH: u64 = 65_536;

pub(super) fn helpers(host: &Host) -> Finding {
    let name = "newuidmap";
    let found = ["newuidmap", "newgidmap"].map(|p| host.program(p));
    let [Some(uid), Some(_)] = &found else {
        let remedy = host.install("uidmap", "shadow-utils", "shadow-uidmap", "shadow");
        let text = "newuidmap and newgidmap are not installed: all users of a container are one id of the host";
        return Finding::note(name, text, &[&remedy]);
    };
    if host.read("/proc/self/status").is_some_and(|s| s.lines().any(|l| l.split_whitespace().eq(["NoNewPrivs:", "1"])))
    {
        let text = "cannot gain its rights: this session runs with no_new_privs (a container, a sandbox or a service with NoNewPrivileges=)";
        return Finding::note(name, text, &[]);
    }
    // Setuid, or file capabilities, which only an xattr shows: trusted then.
    let setuid = std::fs::metadata(uid).is_ok_and(|m| m.mode() & 0o4000 != 0);
    Finding::ok(name, format!("{}{}", shown(uid), if setuid { ", setuid" } else { "" }))
}

pub(super) fn ranges(host: &Host) -> Finding {
    let name = "subordinate ids";
    let own = ["/etc/subuid", "/etc/subgid"].map(|file| host.read(file).map_or(0, |text| size(&text, host)));
    match own {
        [uids, gids] if uids >= ENOUGH && gids >= ENOUGH => {
            Finding::ok(name, format!("{} users, {} groups", uids + 1, gids + 1))
        }
        [uids, gids] => {
            let first = free(host);
            let last = first + ENOUGH - 1;
            let remedy =
                format!("sudo usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {}", host.user);
            let text = format!(
                "{} has {uids} in /etc/subuid and {gids} in /etc/subgid; images with users of their own need {ENOUGH}",
                host.user
            );
            Finding::note(name, text, &[&remedy])
        }
    }
}

/// Start and length of each line that can be read.
fn entries(text: &str) -> impl Iterator<Item = (&str, u64, u64)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        Some((fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

fn size(text: &str, host: &Host) -> u64 {
    let uid = host.uid.to_string();
    entries(text).filter(|(who, ..)| *who == host.user || *who == uid).map(|(_, _, n)| n).sum()
}

/// The first id above all that are given away.
fn free(host: &Host) -> u64 {
    let ends = ["/etc/subuid", "/etc/subgid"].into_iter().filter_map(|file| host.read(file));
    ends.flat_map(|text| entries(&text).map(|(_, start, n)| start + n).collect::<Vec<_>>())
        .max()
        .unwrap_or(0)
        .max(100_000)
}
