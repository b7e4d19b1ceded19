//! The mount table of a container: the standard mounts, the devices, then what
//! the engine asked for. Runs in the shim, before the clone.
//!
//! Invariant: the order is the order of mounting; an entry of the spec with the
//! target of a standard mount stands in its place.

use crate::runtime::plan::{self, MountStep, PlanResult, Refusal, Table, What};
use crate::runtime::spec::{Mount, Namespace, Source, Spec};
use crate::sys::mount;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Where the kernel shows its memory, if it was built to.
const KCORE: &str = "/proc/kcore";
const LINKS: [(&str, &str); 6] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", KCORE),
    ("/dev/ptmx", "pts/ptmx"),
];
const NO_EXEC: u64 = mount::ATTR_NOSUID | mount::ATTR_NODEV | mount::ATTR_NOEXEC;

pub fn steps(spec: &Spec, table: &Table) -> PlanResult<Vec<MountStep>> {
    let mut steps = Vec::with_capacity(40);
    let mut standard = |target: &str, fallback: MountStep| -> PlanResult<()> {
        steps.push(match spec.mounts.iter().find(|m| clean(&m.target) == target) {
            Some(asked) => asked_for(asked, spec, table)?,
            None => fallback,
        });
        Ok(())
    };
    standard("/proc", proc_step(spec, false)?)?;
    standard("/dev", filesystem("tmpfs", "mode=755,size=65536k", "/dev", mount::ATTR_NOSUID)?)?;
    standard("/sys", sys_step(spec, true)?)?;
    standard("/sys/fs/cgroup", cgroup_step(spec, true)?)?;
    // devpts wants the tty group; with a single mapped id there is none.
    let pts =
        if maps_gid(5) { "newinstance,ptmxmode=0666,mode=0620,gid=5" } else { "newinstance,ptmxmode=0666,mode=0620" };
    standard("/dev/pts", filesystem("devpts", pts, "/dev/pts", mount::ATTR_NOSUID | mount::ATTR_NOEXEC)?)?;
    standard("/dev/mqueue", mqueue_step(spec)?)?;
    if !spec.no_shm {
        standard("/dev/shm", filesystem("tmpfs", "mode=1777,size=65536k", "/dev/shm", NO_EXEC)?)?;
    }
    devices(spec, &mut steps)?;
    for m in &spec.mounts {
        if !is_standard(&m.target) {
            steps.push(asked_for(m, spec, table)?);
        }
    }
    for (target, path) in &spec.links {
        let mut link = step(What::Symlink(plan::string(target)?), target, path, 0)?;
        link.optional = true;
        steps.push(link);
    }
    for path in &spec.marks {
        let mut mark = step(What::Mark, "", path, 0)?;
        mark.optional = true;
        steps.push(mark);
    }
    if spec.init
        && let Some(step) = init_step(spec)?
    {
        steps.push(step);
    }
    Ok(steps)
}

/// The reaper runs by descriptor; this only lets it be seen where Docker has it.
/// Not for a container that could make the mount writable again.
fn init_step(spec: &Spec) -> PlanResult<Option<MountStep>> {
    const SYS_ADMIN: u64 = 1 << 21;
    if spec.process.capabilities.bounding & SYS_ADMIN != 0 {
        return Ok(None);
    }
    let (Some(path), Ok(own)) = (crate::runtime::spawner::PROGRAM.get(), std::fs::metadata("/proc/self/exe")) else {
        return Ok(None);
    };
    let Ok(tree) = mount::clone_tree(None, &plan::path_string(path)?, false) else { return Ok(None) };
    use std::os::unix::fs::MetadataExt;
    let same = nix::sys::stat::fstat(&tree).is_ok_and(|s| (s.st_dev, s.st_ino) == (own.dev(), own.ino()));
    if !same || mount::set_attributes(tree.as_fd(), mount::ATTR_RDONLY, libc::MS_PRIVATE, false).is_err() {
        return Ok(None);
    }
    let mut step = ready(tree, "docker-init", "/sbin/docker-init")?;
    step.optional = true;
    Ok(Some(step))
}

fn clean(target: &str) -> &str {
    if target.len() > 1 { target.trim_end_matches('/') } else { target }
}

fn is_standard(target: &str) -> bool {
    ["/proc", "/dev", "/sys", "/sys/fs/cgroup", "/dev/pts", "/dev/mqueue", "/dev/shm"].contains(&clean(target))
}

fn step(what: What, source: &str, target: &str, attributes: u64) -> PlanResult<MountStep> {
    let target = plan::string(target)?;
    Ok(MountStep {
        what,
        target,
        source: source.to_owned(),
        attributes,
        strict: false,
        optional: false,
        is_null: false,
    })
}

fn ready(mount: OwnedFd, source: &str, target: &str) -> PlanResult<MountStep> {
    let directory = plan::is_directory(&mount);
    step(What::Ready { mount, directory }, source, target, 0)
}

fn filesystem(fstype: &str, data: &str, target: &str, attributes: u64) -> PlanResult<MountStep> {
    let (mut options, more) = plan::parse_data(data)?;
    if target == "/dev/shm" {
        options.push((plan::string("source")?, Some(plan::string("shm")?)));
    }
    let what = What::Filesystem { fstype: plan::string(fstype)?, options, fallback: None };
    let mut step = step(what, fstype, target, attributes | more)?;
    step.strict = is_standard(target);
    Ok(step)
}

/// A file system that shows a namespace can be made only for one of our own;
/// for the host's, the host's mount stands in. One that was entered lies outside
/// a user namespace of the container's: there the shim, which is in it too, makes it.
fn shown(mut step: MountStep, spec: &Spec, of: Namespace, host: &str) -> PlanResult<MountStep> {
    let attributes = step.attributes;
    if let (What::Filesystem { fstype, options, fallback }, true) = (&mut step.what, of != Namespace::New) {
        if let (true, Namespace::Join(_)) = (spec.user_namespace.is_some(), of)
            && let Ok(made) = plan::make_filesystem(fstype, options, attributes)
        {
            *fallback = Some(made);
            return Ok(step);
        }
        *fallback = mount::clone_tree(None, &plan::string(host)?, true).ok();
        if let Some(tree) = fallback {
            let _ = mount::set_attributes(tree.as_fd(), 0, libc::MS_SLAVE, true);
            if step.attributes & mount::ATTR_RDONLY != 0 {
                let _ = mount::set_attributes(tree.as_fd(), mount::ATTR_RDONLY, 0, true);
            }
        }
    }
    Ok(step)
}

fn proc_step(spec: &Spec, readonly: bool) -> PlanResult<MountStep> {
    let ro = if readonly { mount::ATTR_RDONLY } else { 0 };
    shown(filesystem("proc", "", "/proc", NO_EXEC | ro)?, spec, spec.namespaces.pid, "/proc")
}

fn sys_step(spec: &Spec, readonly: bool) -> PlanResult<MountStep> {
    let ro = if readonly { mount::ATTR_RDONLY } else { 0 };
    shown(filesystem("sysfs", "", "/sys", NO_EXEC | ro)?, spec, spec.namespaces.network, "/sys")
}

fn mqueue_step(spec: &Spec) -> PlanResult<MountStep> {
    let made = filesystem("mqueue", "", "/dev/mqueue", NO_EXEC)?;
    let mut step = shown(made, spec, spec.namespaces.ipc, "/dev/mqueue")?;
    step.optional = true;
    Ok(step)
}

fn cgroup_step(spec: &Spec, readonly: bool) -> PlanResult<MountStep> {
    let ro = if readonly { mount::ATTR_RDONLY } else { 0 };
    let mut step = filesystem("cgroup2", "", "/sys/fs/cgroup", NO_EXEC | ro)?;
    step.optional = true;
    let _ = spec;
    Ok(step)
}

/// One entry of the spec.
fn asked_for(m: &Mount, spec: &Spec, table: &Table) -> PlanResult<MountStep> {
    if !m.target.starts_with('/') {
        let message = format!("invalid mount target \"{}\": it must be absolute", m.target);
        return Err(Refusal { message, invalid: true });
    }
    match &m.source {
        Source::Path { .. } | Source::Fd { .. } => {
            let (tree, shown) = plan::bind_source(m, table)?;
            plan::apply_options(&tree, m)?;
            ready(tree, &shown, &m.target)
        }
        Source::Cgroup => cgroup_step(spec, m.readonly),
        Source::Filesystem { fstype, data } => {
            let made = filesystem(fstype, data, &m.target, plan::attributes(m))?;
            match fstype.as_str() {
                "proc" => shown(made, spec, spec.namespaces.pid, "/proc"),
                "sysfs" => shown(made, spec, spec.namespaces.network, "/sys"),
                "mqueue" => shown(made, spec, spec.namespaces.ipc, "/dev/mqueue"),
                _ => Ok(made),
            }
        }
    }
}

/// Device nodes are binds of the host's: mknod is not ours in a user namespace,
/// and as root it would make no difference that a container could see.
fn devices(spec: &Spec, steps: &mut Vec<MountStep>) -> PlanResult<()> {
    for name in DEVICES {
        let path = format!("/dev/{name}");
        let tree = mount::clone_tree(None, &plan::string(&path)?, false)
            .map_err(|e| Refusal::new(format!("the host's {path} cannot be used: {}", plan::text(e))))?;
        mount::set_attributes(tree.as_fd(), mount::ATTR_NOSUID | mount::ATTR_NOEXEC, libc::MS_PRIVATE, false).ok();
        let mut step = ready(tree, &path, &path)?;
        step.is_null = name == "null";
        steps.push(step);
    }
    for (path, target) in LINKS {
        if target == KCORE && !std::path::Path::new(KCORE).exists() {
            continue;
        }
        steps.push(step(What::Symlink(plan::string(target)?), target, path, 0)?);
    }
    if spec.all_devices {
        all_devices("/dev", steps, 0);
    }
    for device in &spec.devices {
        let host = plan::path_string(&device.host)?;
        let tree = mount::clone_tree(None, &host, true).map_err(|e| {
            let path = device.host.display();
            Refusal::new(format!(
                "error gathering device information while adding custom device \"{path}\": {}",
                plan::text(e)
            ))
        })?;
        mount::set_attributes(tree.as_fd(), mount::ATTR_NOSUID | mount::ATTR_NOEXEC, libc::MS_PRIVATE, true).ok();
        steps.push(ready(tree, &device.host.display().to_string(), &device.container)?);
    }
    Ok(())
}

/// Every device node of the host that is ours to open, for `--privileged`.
fn all_devices(dir: &str, steps: &mut Vec<MountStep>, depth: u32) {
    use std::os::unix::fs::FileTypeExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let (Some(name), Ok(kind)) = (entry.file_name().to_str().map(str::to_owned), entry.file_type()) else {
            continue;
        };
        let path = format!("{dir}/{name}");
        let skip = ["pts", "shm", "mqueue", "fd", "console", "ptmx", "stdin", "stdout", "stderr", "core", "log"];
        if (depth == 0 && (skip.contains(&name.as_str()) || DEVICES.contains(&name.as_str()))) || steps.len() > 500 {
            continue;
        }
        if kind.is_dir() && depth < 4 {
            all_devices(&path, steps, depth + 1);
        } else if kind.is_char_device() || kind.is_block_device() {
            let usable = nix::unistd::access(path.as_str(), nix::unistd::AccessFlags::R_OK).is_ok();
            let tree = CString::new(path.as_str()).ok().and_then(|p| mount::clone_tree(None, &p, false).ok());
            if let (true, Some(tree)) = (usable, tree)
                && let Ok(mut step) = ready(tree, &path, &path)
            {
                step.optional = true;
                steps.push(step);
            }
        }
    }
}

/// Whether group `gid` exists in our user namespace.
fn maps_gid(gid: u32) -> bool {
    crate::runtime::userns::current("/proc/self/gid_map")
        .is_ok_and(|map| map.iter().any(|(c, _, n)| (*c..c.saturating_add(*n)).contains(&gid)))
}
