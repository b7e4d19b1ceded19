//! The default profile: Docker's allow-list of release 28, written as what it
//! leaves out. Everything in the table of system calls that stands in none of
//! these lists is allowed; what the table does not know gets ENOSYS, so that
//! programs fall back as they do on an older kernel.

use super::syscalls::TABLE;
use super::{Action, Comparison, Condition, ENOSYS, EPERM, Operator, Profile, Rule, cap};

/// Never allowed: obsolete calls, calls that reach past the container's
/// namespaces (keyrings are not namespaced, swap and kexec are the host's), and
/// io_uring, whose requests bypass this filter.
const NEVER: &[&str] = &[
    "_sysctl", "add_key", "afs_syscall", "bdflush", "break", "create_module", "file_setattr", "ftime",
    "get_kernel_syms", "getpmsg", "gtty", "idle", "io_uring_enter", "io_uring_register", "io_uring_setup",
    "kexec_file_load", "kexec_load", "keyctl", "lock", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr",
    "migrate_pages", "move_pages", "mpx", "nfsservctl", "nice", "oldfstat", "oldlstat", "oldolduname", "oldstat",
    "olduname", "pciconfig_iobase", "pciconfig_read", "pciconfig_write", "pivot_root", "prof", "profil", "putpmsg",
    "query_module", "readdir", "request_key", "security", "sgetmask", "sigaction", "signal", "sigpending",
    "sigsuspend", "ssetmask", "stty", "swapoff", "swapon", "sysfs", "tuxcall", "ulimit", "uselib", "userfaultfd",
    "ustat", "vm86", "vm86old", "vserver",
];

/// Allowed with one of these capabilities (a bit set), else refused.
const GATED: &[(u64, &[&str])] = &[
    (
        cap::SYS_ADMIN,
        &[
            "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "listmount", "lookup_dcookie",
            "mount", "mount_setattr", "move_mount", "open_tree", "open_tree_attr", "quotactl", "quotactl_fd",
            "setdomainname", "sethostname", "setns", "statmount", "umount", "umount2", "unshare",
        ],
    ),
    (cap::SYS_ADMIN | cap::BPF, &["bpf"]),
    (cap::SYS_ADMIN | cap::PERFMON, &["perf_event_open"]),
    (cap::SYS_ADMIN | cap::SYSLOG, &["syslog"]),
    (cap::DAC_READ_SEARCH, &["open_by_handle_at"]),
    (cap::SYS_BOOT, &["reboot"]),
    (cap::SYS_CHROOT, &["chroot"]),
    (cap::SYS_MODULE, &["delete_module", "finit_module", "init_module"]),
    (cap::SYS_PACCT, &["acct"]),
    (cap::SYS_PTRACE, &["kcmp", "pidfd_getfd", "process_madvise"]),
    (cap::SYS_RAWIO, &["ioperm", "iopl"]),
    (cap::SYS_TIME, &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    (cap::SYS_TTY_CONFIG, &["vhangup"]),
    (cap::SYS_NICE, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
];

/// CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}: what `clone` must not ask for.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Personalities that change nothing about safety: Linux, 32-bit Linux, no
/// randomisation for either, and the query.
const PERSONALITIES: &[u64] = &[0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff];

const AF_VSOCK: u64 = 40;

/// The profile for a process with the bounding set `caps`.
pub(super) fn builtin(caps: u64) -> Profile {
    let conditional = ["socket", "personality", "clone"];
    let gated = |name: &str| GATED.iter().any(|(_, names)| names.contains(&name));
    let plain = TABLE.iter().map(|row| row.0);
    let plain = plain.filter(|n| !NEVER.contains(n) && !gated(n) && !conditional.contains(n));
    let mut rules: Vec<Rule> = plain.map(|name| allow(name, Vec::new())).collect();
    for (needed, names) in GATED {
        if caps & needed != 0 {
            rules.extend(names.iter().map(|name| allow(name, Vec::new())));
        }
    }
    rules.push(allow("socket", vec![compare(0, Operator::Ne, AF_VSOCK)]));
    rules.extend(PERSONALITIES.iter().map(|p| allow("personality", vec![compare(0, Operator::Eq, *p)])));
    if caps & cap::SYS_ADMIN != 0 {
        rules.push(allow("clone", Vec::new()));
    } else {
        let masked = Condition {
            argument: 0,
            comparison: Comparison { operator: Operator::MaskedEq(CLONE_NAMESPACES), value: 0 },
        };
        rules.push(allow("clone", vec![masked]));
        // glibc falls back to clone only on ENOSYS.
        rules.push(Rule { name: "clone3".into(), action: Action::Errno(ENOSYS), conditions: Vec::new() });
    }
    Profile { default: Action::Errno(EPERM), rules, compat: true }
}

fn allow(name: &str, conditions: Vec<Condition>) -> Rule {
    Rule { name: name.into(), action: Action::Allow, conditions }
}

fn compare(argument: u8, operator: Operator, value: u64) -> Condition {
    Condition { argument, comparison: Comparison { operator, value } }
}
