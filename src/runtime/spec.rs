//! What the engine asks the runtime for: one container or one exec, as plain
//! data. Made in dockerd by `engine/container/spec.rs`, turned into a plan in
//! the shim.
//!
//! Invariant: everything Docker-specific (images, names, defaults, merging) is
//! already resolved; every path that begins outside the container is a host
//! path of the caller or an fd in the fd table that travels beside the spec.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Index into the fds that are sent with a [`Spec`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdIndex(pub u16);

/// One container start. The root file system is always a detached mount
/// (`fsmount`/`open_tree`) handed over as an fd: it belongs to the container's
/// mount namespace alone and vanishes with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// 64 hex digits; names the shim's socket and exit record in `run_dir`.
    pub id: String,
    /// `<exec-root>/containers/<id>`, exists, mode 0700.
    pub run_dir: PathBuf,
    pub rootfs: FdIndex,
    pub rootfs_readonly: bool,
    pub rootfs_propagation: Propagation,
    pub hostname: String,
    pub domainname: String,
    pub namespaces: Namespaces,
    /// A user namespace below the engine's; none: the engine's own. The root file
    /// system must have been made for it.
    #[serde(default)]
    pub user_namespace: Option<UserNamespace>,
    pub process: Process,
    pub stdio: Stdio,
    pub log: LogSpec,
    /// In order; a later one may lie inside an earlier one. The runtime makes
    /// the standard ones first: /proc, /dev (with its nodes, pts, mqueue, a 64 MiB
    /// /dev/shm), /sys read-only, /sys/fs/cgroup. An entry here whose target is
    /// exactly `/dev/shm`, `/dev/mqueue`, `/proc`, `/sys` or `/sys/fs/cgroup`
    /// replaces the standard one (for `--shm-size`, joined ipc, `--privileged`).
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    /// Symbolic links to make where nothing stands: target and path.
    #[serde(default)]
    pub links: Vec<(String, String)>,
    /// Empty files to make where nothing stands.
    #[serde(default)]
    pub marks: Vec<String>,
    /// No /dev/shm at all.
    #[serde(default)]
    pub no_shm: bool,
    /// Bind-mounts the host's whole /dev content that we may open (`--privileged`).
    pub all_devices: bool,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    /// `name=value`, dots in the name as in sysctl(8).
    pub sysctls: Vec<(String, String)>,
    /// Run our own pid-1 reaper in front of the command.
    pub init: bool,
    /// The directory fd of a prepared cgroup v2, for CLONE_INTO_CGROUP.
    pub cgroup: Option<FdIndex>,
}

/// The process that is executed, in a container or by exec.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Process {
    pub args: Vec<String>,
    /// `K=V`, final and in order; PATH lookup of `args[0]` uses its PATH.
    pub env: Vec<String>,
    /// Absolute inside the container; made (root:root 0755) by a start, not by exec.
    pub cwd: String,
    pub user: User,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    /// Classic BPF, 8 bytes an instruction in native order; none = unconfined.
    pub seccomp: Option<Vec<u8>>,
    pub rlimits: Vec<Rlimit>,
    pub oom_score_adj: Option<i32>,
    pub umask: u32,
}

/// Who the process is. Names are looked up by the shim inside the container's
/// root, in its /etc/passwd and /etc/group, after the mounts are made: the only
/// point where a volume over /etc can count and a symlink cannot lead out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct User {
    /// As the user gave it: "", "name", "uid", "name:group", "uid:gid".
    pub spec: String,
    /// `--group-add`: names or numbers.
    pub additional_groups: Vec<String>,
    /// HOME is set from passwd (else "/") if `env` has none.
    pub set_home: bool,
}

/// Capability numbers as bit sets (bit n = capability n).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    pub bounding: u64,
    pub permitted: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// RLIMIT_* number of this architecture.
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Namespaces {
    pub network: Namespace,
    pub pid: Namespace,
    pub ipc: Namespace,
    pub uts: Namespace,
    pub cgroup: Namespace,
}

/// The maps of a user namespace: container, engine, count. Both map a 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    pub uid_map: Vec<(u32, u32, u32)>,
    pub gid_map: Vec<(u32, u32, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// The one that dockerd and the spawner live in: the host's.
    Host,
    /// A fresh one (a fresh network namespace gets its loopback up).
    New,
    /// Entered through an open namespace fd, e.g. one prepared by netd.
    Join(FdIndex),
}

/// Standard streams and who may use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    pub tty: bool,
    pub open_stdin: bool,
    /// Close the container's stdin when the first attached client half-closes.
    pub stdin_once: bool,
    /// Rows, columns.
    pub console_size: Option<(u16, u16)>,
}

/// Where the shim writes output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    pub driver: LogDriver,
    /// Non-blocking mode: ring buffer of this many bytes; none = blocking.
    pub ring_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogDriver {
    None,
    /// Docker's json-file; `attrs` is the rendered JSON object or empty.
    JsonFile {
        path: PathBuf,
        max_size: Option<u64>,
        max_file: u32,
        compress: bool,
        attrs: String,
    },
    /// Docker's `local` on-disk format.
    Local {
        path: PathBuf,
        max_size: u64,
        max_file: u32,
        compress: bool,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    pub source: Source,
    /// Absolute inside the container; resolved with RESOLVE_IN_ROOT, created
    /// (directories 0755, files 0644) where it is missing.
    pub target: String,
    pub readonly: bool,
    /// Read-only for all mounts below it too (kernel 5.12; silently top-level on older).
    pub recursive_readonly: bool,
    pub propagation: Propagation,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A path in the spawner's mount namespace (a host path of the user's).
    Path { path: PathBuf, recursive: bool },
    /// An O_PATH fd or detached mount, for everything under a container's or
    /// image's control; cloned with open_tree.
    Fd { fd: FdIndex, recursive: bool },
    /// `data` as in mount(8) -o, without the flags above.
    Filesystem { fstype: String, data: String },
    /// The container's cgroup tree, read-only or writable.
    Cgroup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Propagation {
    #[default]
    RPrivate,
    Private,
    RSlave,
    Slave,
    RShared,
    Shared,
}

/// A device node of the host, bind-mounted (mknod is not ours in a user namespace).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub host: PathBuf,
    pub container: String,
    /// "rwm" subset. Not enforced: that takes a device cgroup, which a user
    /// namespace cannot have; the node's own permissions decide.
    pub permissions: String,
}

/// A further process in a running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecSpec {
    /// 64 hex digits; names socket and exit record beside the container's.
    pub id: String,
    pub container_id: String,
    pub run_dir: PathBuf,
    pub process: Process,
    pub stdio: Stdio,
    /// Also enter the container's cgroup.
    pub cgroup: Option<FdIndex>,
}
