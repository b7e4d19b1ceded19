//! The kernel and its switches.

use super::{Finding, Host, lines, sysctl};
use nix::errno::Errno;

/// The oldest kernel on which an ordinary user may mount overlay.
const OVERLAY_SINCE: (u32, u32) = (5, 11);

pub(super) fn version(host: &Host) -> Finding {
    let name = "kernel";
    let release = host.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version == (0, 0) {
        return Finding::note(name, "its version cannot be read", &[]);
    }
    if version < (4, 18) {
        return Finding::bad(
            name,
            format!("{release} is too old: 4.18 is needed, {}.{} recommended", OVERLAY_SINCE.0, OVERLAY_SINCE.1),
            &[],
        );
    }
    if version < OVERLAY_SINCE && host.uid != 0 {
        let text = format!("{release} does not let users mount overlay (since 5.11): layers are copied, which is slow");
        return Finding::note(
            name,
            text,
            &[&host.install("fuse-overlayfs", "fuse-overlayfs", "fuse-overlayfs", "fuse-overlayfs")],
        );
    }
    Finding::ok(name, release)
}

/// The three switches that take user namespaces away, and the trial that decides:
/// a switch may be off for others and on for us.
pub(super) fn user_namespaces(host: &Host) -> Finding {
    let name = "user namespaces";
    if host.userns == Some(Ok(())) {
        return Finding::ok(name, "allowed");
    }
    for key in ["user.max_user_namespaces", "user.max_mnt_namespaces"] {
        if host.number(&format!("/proc/sys/{}", key.replace('.', "/"))) == Some(0) {
            return Finding::bad(name, format!("switched off: {key} is 0"), &lines(&sysctl(key, "28633")));
        }
    }
    if host.number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        let remedy = sysctl("kernel.unprivileged_userns_clone", "1");
        return Finding::bad(name, "switched off: kernel.unprivileged_userns_clone is 0", &lines(&remedy));
    }
    if host.number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        let program = host.program.display();
        let profile = format!(
            "printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile coracle {program} flags=(unconfined) {{\\n  userns,\\n}}\\n' | sudo tee /etc/apparmor.d/coracle"
        );
        let text = "AppArmor lets only named programs use them (kernel.apparmor_restrict_unprivileged_userns is 1)";
        return Finding::bad(name, text, &[&profile, "sudo apparmor_parser -r /etc/apparmor.d/coracle"]);
    }
    match host.userns {
        Some(Err(Errno::ENOSPC | Errno::EUSERS)) => {
            let remedy = sysctl("user.max_user_namespaces", "28633");
            Finding::bad(name, "all that user.max_user_namespaces allows are in use", &lines(&remedy))
        }
        Some(Err(Errno::EINVAL)) => Finding::bad(name, "the kernel is built without them (CONFIG_USER_NS)", &[]),
        Some(Err(e)) => {
            let text =
                format!("refused ({}): a seccomp filter or security module around this session forbids them", e.desc());
            Finding::bad(name, text, &[])
        }
        _ => Finding::ok(name, "no switch forbids them"),
    }
}

pub(super) fn ports(host: &Host) -> Finding {
    let name = "ports below 1024";
    match host.number("/proc/sys/net/ipv4/ip_unprivileged_port_start") {
        Some(first) if first > 80 => {
            let remedy = sysctl("net.ipv4.ip_unprivileged_port_start", "0");
            Finding::note(name, format!("cannot be published: users may bind from {first} on"), &lines(&remedy))
        }
        Some(0) => Finding::ok(name, "may be published"),
        Some(first) => Finding::ok(name, format!("may be published from {first} on")),
        None => Finding::note(name, "cannot be published", &[]),
    }
}

pub(super) fn ping(host: &Host) -> Finding {
    let name = "ping";
    let range = host.read("/proc/sys/net/ipv4/ping_group_range").unwrap_or_default();
    let mut ends = range.split_whitespace().filter_map(|n| n.parse::<u32>().ok());
    match (ends.next(), ends.next()) {
        (Some(low), Some(high)) if (low..=high).contains(&host.gid) => {
            Finding::ok(name, "works from containers to the outside")
        }
        _ => {
            let remedy = sysctl("net.ipv4.ping_group_range", "0 2147483647");
            let text =
                format!("ICMP echo does not leave containers: group {} is not in net.ipv4.ping_group_range", host.gid);
            Finding::note(name, text, &lines(&remedy))
        }
    }
}
