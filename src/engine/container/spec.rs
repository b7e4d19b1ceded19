//! The one big translation: a container's record, its network and its mounts
//! become a `runtime::Spec` with the descriptors it needs. Runs in dockerd on the
//! thread of the start; looks at host paths, starts nothing.

use super::record::Record;
use super::state::Phase;
use super::{Container, caps, cdi, cgroup, keep_id, links, log_options, merge, spec_mounts};
use crate::api::container::HostConfig;
use crate::engine::network::{Namespace as NetNamespace, Sandbox};
use crate::engine::{Engine, EngineConfig};
use crate::error::{Error, Result};
use crate::runtime::NamespaceKind;
use crate::runtime::seccomp::Profile;
use crate::runtime::spec::{
    Capabilities, Device, FdIndex, Namespace, Namespaces, Process, Propagation, Rlimit, Spec, Stdio, User,
};
use crate::storage::RwOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// The descriptors that travel beside a spec.
#[derive(Debug, Default)]
pub struct Fds(pub Vec<OwnedFd>);

impl Fds {
    pub fn add(&mut self, fd: OwnedFd) -> FdIndex {
        self.0.push(fd);
        FdIndex((self.0.len() - 1) as u16)
    }
}

/// `--security-opt`, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    pub no_new_privileges: bool,
    /// "unconfined", "builtin" or a profile's JSON.
    pub seccomp: Option<String>,
}

/// Docker's check at create.
pub fn check_security(host: &HostConfig) -> Result<()> {
    security(host).map(|_| ())
}

pub fn security(host: &HostConfig) -> Result<Security> {
    let mut security = Security::default();
    for option in host.security_opt.iter().flatten() {
        let invalid = |n: u8| Error::invalid(format!("invalid --security-opt {n}: {option:?}"));
        match option.as_str() {
            "no-new-privileges" => {
                security.no_new_privileges = true;
                continue;
            }
            "disable" => continue,
            _ => {}
        }
        let (key, value) = option.split_once('=').or_else(|| option.split_once(':')).ok_or_else(|| invalid(1))?;
        match key {
            // SELinux and AppArmor have no meaning in a user namespace.
            "label" | "apparmor" => {}
            "seccomp" => security.seccomp = Some(value.to_owned()),
            "no-new-privileges" => {
                security.no_new_privileges = match value {
                    "true" | "1" | "t" | "T" | "True" | "TRUE" => true,
                    "false" | "0" | "f" | "F" | "False" | "FALSE" => false,
                    _ => return Err(invalid(2)),
                };
            }
            "writable-cgroups" => {}
            _ => return Err(invalid(2)),
        }
    }
    Ok(security)
}

fn environment(engine: &Engine, container: &Container, record: &Record) -> Vec<String> {
    let mut env = merge::environment(&record.config, &record.config.hostname, &links::environment(engine, record));
    merge::replace_or_append(&mut env, &container.live().secret_env);
    env
}

/// Builds the spec of a container whose network is `sandbox` (none: it joins
/// another container's).
pub fn build(
    engine: &Engine,
    container: &Container,
    record: &Record,
    sandbox: Option<Sandbox>,
    console_size: Option<(u16, u16)>,
) -> Result<(Spec, Vec<OwnedFd>)> {
    let host = &record.host_config;
    let mut fds = Fds::default();
    let options = RwOptions { volatile: record.volatile };
    keep_id::prepare(engine, &record.layers, record.owners.as_ref())?;
    let rootfs = fds.add(engine.driver.mount_rw(&record.id, &record.lowers(), options)?);
    let private_network = !matches!(sandbox.as_ref().map(|s| &s.namespace), Some(NetNamespace::Host));
    let namespaces = namespaces(engine, host, sandbox, &mut fds)?;
    let mut mounts = spec_mounts::mounts(engine, container, record, &mut fds)?;
    let cdi = cdi::changes(host, &engine.config.cdi_dirs)?;
    mounts.extend(cdi.mounts);
    let mut env = environment(engine, container, record);
    cdi::merge_env(&mut env, &cdi.env);
    let mut devices = devices(host)?;
    devices.extend(cdi.devices);
    let mut links = cdi.links;
    let mut marks = Vec::new();
    if !record.build_step {
        // Programs ask for the first to know that they are in a container.
        marks.push("/.dockerenv".to_owned());
        links.push(("/proc/mounts".to_owned(), "/etc/mtab".to_owned()));
    }
    let process = process(engine, record, env, &cdi.groups)?;
    let user_namespace = record.owners.map(|o| keep_id::namespace(&o)).transpose()?;
    let log = log_options::spec(record, &container.dir)?;
    let sysctls = sysctls(host, private_network)?;
    // Last, since from here on nothing fails and would leave it behind.
    let cgroup = cgroup::create(engine, &record.id, host)?.map(|dir| fds.add(dir));
    let size = host.console_size;
    let asked = (size != [0, 0]).then_some((size[0] as u16, size[1] as u16));
    let spec = Spec {
        id: record.id.clone(),
        run_dir: engine.runtime.run_dir(&record.id),
        rootfs,
        rootfs_readonly: host.readonly_rootfs,
        rootfs_propagation: Propagation::RPrivate,
        hostname: record.config.hostname.clone(),
        domainname: record.config.domainname.clone(),
        namespaces,
        user_namespace,
        process,
        stdio: Stdio {
            tty: record.config.tty,
            open_stdin: record.config.open_stdin,
            stdin_once: record.config.stdin_once,
            console_size: console_size.or(asked),
        },
        log,
        mounts,
        devices,
        links,
        marks,
        no_shm: host.ipc_mode == "none" && !record.mounts.iter().any(|m| m.destination == "/dev/shm"),
        all_devices: host.privileged,
        masked_paths: host.masked_paths.clone().unwrap_or_default(),
        readonly_paths: host.readonly_paths.clone().unwrap_or_default(),
        sysctls,
        init: host.init.unwrap_or(engine.config.init) && host.pid_mode.is_empty(),
        cgroup,
    };
    Ok((spec, fds.0))
}

fn process(engine: &Engine, record: &Record, env: Vec<String>, further_groups: &[String]) -> Result<Process> {
    let (config, host) = (&record.config, &record.host_config);
    let capabilities = capabilities(host)?;
    Ok(Process {
        args: std::iter::once(record.path.clone()).chain(record.args.iter().cloned()).collect(),
        env,
        cwd: if config.working_dir.is_empty() { "/".into() } else { config.working_dir.clone() },
        user: User {
            spec: config.user.clone(),
            additional_groups: host.group_add.iter().flatten().chain(further_groups).cloned().collect(),
            set_home: true,
        },
        capabilities,
        no_new_privileges: security(host)?.no_new_privileges || engine.config.no_new_privileges,
        seccomp: seccomp(&engine.config, host, capabilities)?,
        rlimits: rlimits(&engine.config, host)?,
        oom_score_adj: (host.oom_score_adj != 0).then_some(host.oom_score_adj as i32),
        umask: 0o022,
    })
}

fn namespaces(engine: &Engine, host: &HostConfig, sandbox: Option<Sandbox>, fds: &mut Fds) -> Result<Namespaces> {
    let mut join = |reference: &str, kind: NamespaceKind, what: &str| -> Result<Namespace> {
        let failed = |text: &str| Error::system(format!("failed to join {what} namespace: {text}"));
        let other = engine.containers.get(reference).map_err(|e| failed(e.message()))?;
        let (phase, ipc) = {
            let live = other.live();
            (live.record.state.phase, live.record.host_config.ipc_mode.clone())
        };
        match phase {
            Phase::Running | Phase::Paused => {}
            Phase::Restarting => {
                let text = format!("Container {reference} is restarting, wait until the container is running");
                return Err(failed(&text));
            }
            _ => return Err(failed(&format!("container {reference} is not running"))),
        }
        if matches!(kind, NamespaceKind::Ipc) && matches!(ipc.as_str(), "private" | "none") {
            return Err(failed(&format!(
                "container {reference}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
            )));
        }
        Ok(Namespace::Join(fds.add(engine.runtime.namespace_fd(&other.id, kind)?)))
    };
    let pid = match host.pid_mode.strip_prefix("container:") {
        Some(other) => join(other, NamespaceKind::Pid, "PID")?,
        None if host.pid_mode == "host" => Namespace::Host,
        None => Namespace::New,
    };
    let ipc = match host.ipc_mode.strip_prefix("container:") {
        Some(other) => join(other, NamespaceKind::Ipc, "IPC")?,
        None if host.ipc_mode == "host" => Namespace::Host,
        None => Namespace::New,
    };
    let uts = match (host.uts_mode.as_str(), host.network_mode.strip_prefix("container:")) {
        ("host", _) => Namespace::Host,
        // Docker gives containers of one network one host name.
        (_, Some(other)) => join(other, NamespaceKind::Uts, "network")?,
        _ => Namespace::New,
    };
    let network = match sandbox.map(|s| s.namespace) {
        Some(NetNamespace::Host) => Namespace::Host,
        Some(NetNamespace::New) => Namespace::New,
        Some(NetNamespace::Join(fd)) => Namespace::Join(fds.add(fd)),
        None => {
            let other = host.network_mode.strip_prefix("container:").unwrap_or_default();
            join(other, NamespaceKind::Network, "network")?
        }
    };
    let cgroup = if host.cgroupns_mode == "host" { Namespace::Host } else { Namespace::New };
    Ok(Namespaces { network, pid, ipc, uts, cgroup })
}

fn capabilities(host: &HostConfig) -> Result<Capabilities> {
    let list = |l: &Option<Vec<String>>| l.clone().unwrap_or_default();
    let set = caps::tweak(&list(&host.cap_add), &list(&host.cap_drop), host.privileged)?;
    Ok(Capabilities { bounding: set, permitted: set, effective: set, inheritable: 0, ambient: 0 })
}

/// The filter, none for unconfined ones. A privileged container is unconfined
/// unless it names a profile.
fn seccomp(engine: &EngineConfig, host: &HostConfig, capabilities: Capabilities) -> Result<Option<Vec<u8>>> {
    let asked = security(host)?.seccomp;
    let profile = match (&asked, host.privileged) {
        (Some(profile), _) => Some(profile.as_str()),
        (None, true) => return Ok(None),
        (None, false) => engine.seccomp_profile.as_deref(),
    };
    match profile {
        Some("unconfined") => Ok(None),
        None | Some("builtin" | "") => Profile::builtin_program(capabilities.bounding).map(Some),
        Some(json) => {
            let filter = Profile::from_json(json, capabilities.bounding, kernel_version())
                .map_err(|e| Error::invalid(format!("Decoding seccomp profile failed: {e}")))?;
            filter.compile().map(Some)
        }
    }
}

/// Major and minor of the running kernel.
fn kernel_version() -> (u32, u32) {
    let Ok(name) = nix::sys::utsname::uname() else { return (5, 12) };
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    (numbers.next().unwrap_or(5), numbers.next().unwrap_or(12))
}

/// The capabilities of an exec: the container's, or all with `--privileged`.
pub fn exec_capabilities(record: &Record, privileged: bool) -> Result<Capabilities> {
    match privileged {
        true => capabilities(&HostConfig { privileged: true, ..HostConfig::default() }),
        false => capabilities(&record.host_config),
    }
}

pub fn exec_seccomp(engine: &Engine, record: &Record, privileged: bool) -> Result<Option<Vec<u8>>> {
    // A profile that was asked for binds a privileged container too, and what is executed in it.
    match privileged && !record.host_config.privileged {
        true => Ok(None),
        false => seccomp(&engine.config, &record.host_config, capabilities(&record.host_config)?),
    }
}

/// By the names of `--ulimit`.
fn rlimit_number(name: &str) -> Option<u32> {
    let number = match name {
        "core" => libc::RLIMIT_CORE,
        "cpu" => libc::RLIMIT_CPU,
        "data" => libc::RLIMIT_DATA,
        "fsize" => libc::RLIMIT_FSIZE,
        "locks" => libc::RLIMIT_LOCKS,
        "memlock" => libc::RLIMIT_MEMLOCK,
        "msgqueue" => libc::RLIMIT_MSGQUEUE,
        "nice" => libc::RLIMIT_NICE,
        "nofile" => libc::RLIMIT_NOFILE,
        "nproc" => libc::RLIMIT_NPROC,
        "rss" => libc::RLIMIT_RSS,
        "rtprio" => libc::RLIMIT_RTPRIO,
        "rttime" => libc::RLIMIT_RTTIME,
        "sigpending" => libc::RLIMIT_SIGPENDING,
        "stack" => libc::RLIMIT_STACK,
        _ => return None,
    };
    Some(number)
}

pub fn rlimits(engine: &EngineConfig, host: &HostConfig) -> Result<Vec<Rlimit>> {
    let asked = host.ulimits.iter().flatten().map(|u| (u.name.as_str(), u.soft, u.hard));
    let mine: Vec<_> = asked.collect();
    let defaults = engine.default_ulimits.iter().map(|(n, s, h)| (n.as_str(), *s, *h));
    defaults
        .filter(|(name, ..)| !mine.iter().any(|(n, ..)| n == name))
        .chain(mine.iter().copied())
        .map(|(name, soft, hard)| {
            let resource = rlimit_number(name).ok_or_else(|| Error::invalid(format!("invalid ulimit type: {name}")))?;
            // -1 is unlimited in both worlds.
            Ok(Rlimit { resource, soft: soft as u64, hard: hard as u64 })
        })
        .collect()
}

fn sysctls(host: &HostConfig, private_network: bool) -> Result<Vec<(String, String)>> {
    let mut list: Vec<(String, String)> = host.sysctls.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    if let Some((name, _)) = list.iter().find(|(name, _)| name.starts_with("net.")).filter(|_| !private_network) {
        return Err(Error::system(format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: sysctl {name:?} not allowed in host network namespace"
        )));
    }
    const UNPRIVILEGED: &str = "net.ipv4.ip_unprivileged_port_start";
    if private_network && !host.network_mode.starts_with("container:") && !list.iter().any(|(k, _)| k == UNPRIVILEGED) {
        list.push((UNPRIVILEGED.into(), "0".into()));
    }
    Ok(list)
}

fn devices(host: &HostConfig) -> Result<Vec<Device>> {
    let mut devices = Vec::new();
    for device in host.devices.iter().flatten() {
        if host.privileged && device.path_on_host == device.path_in_container {
            continue;
        }
        let target = if device.path_in_container.is_empty() { &device.path_on_host } else { &device.path_in_container };
        let permissions = if device.cgroup_permissions.is_empty() { "rwm" } else { device.cgroup_permissions.as_str() };
        add_devices(Path::new(&device.path_on_host), target, permissions, &mut devices).map_err(|text| {
            Error::system(format!(
                "error gathering device information while adding custom device \"{}\": {text}",
                device.path_on_host
            ))
        })?;
    }
    Ok(devices)
}

fn add_devices(host: &Path, target: &str, permissions: &str, out: &mut Vec<Device>) -> Result<(), String> {
    let meta = std::fs::metadata(host).map_err(|e| crate::error::errno_text(&e))?;
    let kind = meta.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        out.push(Device { host: host.to_owned(), container: target.to_owned(), permissions: permissions.to_owned() });
        return Ok(());
    }
    if !kind.is_dir() {
        return Err("not a device node".into());
    }
    let mut found = false;
    for entry in std::fs::read_dir(host).map_err(|e| crate::error::errno_text(&e))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        found |= add_devices(&entry.path(), &format!("{target}/{name}"), permissions, out).is_ok();
    }
    if found { Ok(()) } else { Err("not a device node".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_options() {
        let host = |options: &[&str]| HostConfig {
            security_opt: Some(options.iter().map(|s| (*s).to_owned()).collect()),
            ..HostConfig::default()
        };
        let text = |options: &[&str]| security(&host(options)).unwrap_err().message().to_owned();
        assert_eq!(text(&["nosuch=1"]), "invalid --security-opt 2: \"nosuch=1\"");
        assert_eq!(text(&["x"]), "invalid --security-opt 1: \"x\"");
        let read = security(&host(&["no-new-privileges:true", "seccomp=unconfined"])).unwrap();
        assert_eq!(read, Security { no_new_privileges: true, seccomp: Some("unconfined".into()) });
    }

    #[test]
    fn ulimits_override_the_daemons() {
        let mut config = EngineConfig::new("/d".into(), "/e".into());
        config.default_ulimits = vec![("nofile".into(), 1, 2), ("core".into(), -1, -1)];
        let host = HostConfig {
            ulimits: Some(vec![crate::api::container::Ulimit { name: "nofile".into(), soft: 5, hard: 6 }]),
            ..HostConfig::default()
        };
        let limits = rlimits(&config, &host).unwrap();
        assert_eq!(limits[0], Rlimit { resource: libc::RLIMIT_CORE, soft: u64::MAX, hard: u64::MAX });
        assert_eq!(limits[1], Rlimit { resource: libc::RLIMIT_NOFILE, soft: 5, hard: 6 });
    }
}
