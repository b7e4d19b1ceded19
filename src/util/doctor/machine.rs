//! Storage and control groups.

use super::{Finding, Host, shown};
use nix::sys::statfs::{FsType, statfs};
use nix::unistd::{AccessFlags, access};
use std::path::{Path, PathBuf};

/// File systems that cannot carry layers: no ids of other users, or no xattrs.
const UNFIT: &[(i64, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    (0xf15f, "eCryptfs"),
    (0x4d44, "FAT"),
    (0x2011_bab0, "exFAT"),
    (0x5346_414f, "AFS"),
    (0x7461_636f, "OCFS2"),
];
const CGROUP2: i64 = 0x6367_7270;
const CONTROLLERS: &[&str] = &["cpu", "memory", "pids"];

/// The nearest folder that exists already.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/")).to_owned()
}

pub(super) fn data_root(host: &Host) -> Finding {
    let name = "data root";
    let path = existing(&host.data_root);
    let shown_root = shown(&host.data_root);
    let elsewhere = "dockerd --data-root /var/tmp/coracle-data   # any folder of yours on a local disk";
    if access(&path, AccessFlags::W_OK).is_err() {
        return Finding::bad(
            name,
            format!("{shown_root} cannot be made: {} is not writable", shown(&path)),
            &[elsewhere],
        );
    }
    let Ok(found) = statfs(&path) else { return Finding::ok(name, shown_root) };
    let FsType(magic) = found.filesystem_type();
    #[allow(clippy::unnecessary_cast, reason = "the width of a magic number differs between architectures")]
    if let Some((_, kind)) = UNFIT.iter().find(|(m, _)| *m == magic as i64) {
        let text = format!("{shown_root} lies on {kind}, which cannot hold the owners of files in images");
        return Finding::bad(name, text, &[elsewhere]);
    }
    #[allow(clippy::unnecessary_cast, reason = "the width of a block count differs between architectures")]
    let free = (found.blocks_available() as u64).saturating_mul(found.block_size() as u64) >> 20;
    if free < 512 {
        return Finding::note(name, format!("{shown_root} has only {free} MiB left"), &[elsewhere]);
    }
    Finding::ok(name, format!("{shown_root}, {} GiB free", free >> 10))
}

pub(super) fn overlay(host: &Host) -> Finding {
    let name = "overlay";
    let known = host.read("/proc/filesystems").is_some_and(|t| t.lines().any(|l| l.ends_with("\toverlay")));
    if known {
        return Finding::ok(name, "known to the kernel");
    }
    let loadable = host.read("/proc/sys/kernel/osrelease").is_some_and(|release| {
        let release = release.trim();
        let module = format!("/lib/modules/{release}/kernel/fs/overlayfs");
        host.exists(&module) || host.exists(&format!("/usr{module}"))
    });
    if loadable {
        let remedy = ["sudo modprobe overlay", "echo overlay | sudo tee /etc/modules-load.d/coracle.conf"];
        return Finding::note(name, "the module is not loaded: layers are copied, which is slow", &remedy);
    }
    let fuse = host.program("fuse-overlayfs").is_some();
    match (fuse, host.exists("/dev/fuse")) {
        (true, true) => Finding::ok(name, "not in this kernel; fuse-overlayfs takes its place"),
        (true, false) => Finding::note(
            name,
            "not in this kernel, and fuse-overlayfs lacks /dev/fuse: layers are copied, which is slow",
            &["sudo modprobe fuse", "sudo chmod 666 /dev/fuse"],
        ),
        (false, _) => {
            let remedy = host.install("fuse-overlayfs", "fuse-overlayfs", "fuse-overlayfs", "fuse-overlayfs");
            Finding::note(name, "not in this kernel: layers are copied, which is slow", &[&remedy])
        }
    }
}

pub(super) fn cgroups(host: &Host) -> Finding {
    let name = "limits";
    let base = host.at("/sys/fs/cgroup");
    let unified = base.join("cgroup.controllers").exists();
    #[allow(clippy::unnecessary_cast, reason = "the width of a magic number differs between architectures")]
    let magic = statfs(&base).is_ok_and(|s| s.filesystem_type().0 as i64 == CGROUP2);
    if !unified && !magic {
        let text = "control groups are of version 1 here: memory, CPU and pids of containers are not limited";
        let remedy = [
            "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&systemd.unified_cgroup_hierarchy=1 /' /etc/default/grub",
            "sudo update-grub && sudo reboot",
        ];
        let grub: &[&str] = if host.exists("/etc/default/grub") { &remedy } else { &[] };
        return Finding::note(name, text, grub);
    }
    let own = host.read("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/");
    // The leaf for the engine's own processes is not what hands controllers down.
    let own = own.strip_suffix("/coracle.engine").unwrap_or(own).to_owned();
    // The session's own group, or the user manager's above it.
    let manager = format!("/user.slice/user-{0}.slice/user@{0}.service", host.uid);
    let ours = [own.as_str(), manager.as_str()].into_iter().find_map(|path| {
        let dir = base.join(path.trim_start_matches('/'));
        access(&dir.join("cgroup.procs"), AccessFlags::W_OK).is_ok().then_some(dir)
    });
    let systemd = host.exists("/run/systemd/system");
    let delegate = [
        "sudo mkdir -p /etc/systemd/system/user@.service.d",
        "printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf",
        "sudo systemctl daemon-reload   # and log in again",
    ];
    // The engine's processes need a leaf: a group that hands controllers down
    // may hold no process itself. `$$` is the shell into which this is typed.
    let chown = format!(
        "sudo sh -c \"cd /sys/fs/cgroup && echo '+cpu +cpuset +io +memory +pids' >cgroup.subtree_control; mkdir -p {0}/coracle.engine && chown -R {0} {0} && echo $$ >{0}/coracle.engine/cgroup.procs\"   # then dockerd from this shell",
        host.user
    );
    let by_hand = [chown.as_str()];
    let remedy: &[&str] = if systemd { &delegate } else { &by_hand };
    let Some(dir) = ours else {
        return Finding::note(
            name,
            "no control group is ours: memory, CPU and pids of containers are not limited",
            remedy,
        );
    };
    let has = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let has: Vec<&str> = has.split_whitespace().collect();
    let missing: Vec<&str> = CONTROLLERS.iter().filter(|c| !has.contains(c)).copied().collect();
    if missing.is_empty() {
        return Finding::ok(name, format!("by control groups below {}", shown(&dir)));
    }
    Finding::note(name, format!("these are not delegated to us and cannot be limited: {}", missing.join(", ")), remedy)
}
