//! What a host lacks for running containers without root, and the command that
//! mends each lack. Reads files and asks nobody; no daemon is needed.
//!
//! Invariant: a probe never changes anything, and every finding that is not `Ok`
//! says what does not work because of it. Paths are taken below `Host::root`, so
//! that tests can lay out a host of their own.

mod ids;
mod kernel;
mod machine;
mod session;

use std::path::{Path, PathBuf};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// Works, with something less.
    Note,
    /// Containers do not run.
    Bad,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub name: &'static str,
    pub verdict: Verdict,
    /// What was found and what follows from it.
    pub text: String,
    /// Lines to type, in order.
    pub remedy: Vec<String>,
}

impl Finding {
    fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, text: text.into(), remedy: Vec::new() }
    }
    fn note(name: &'static str, text: impl Into<String>, remedy: &[&str]) -> Self {
        Self::with(name, Verdict::Note, text, remedy)
    }
    fn bad(name: &'static str, text: impl Into<String>, remedy: &[&str]) -> Self {
        Self::with(name, Verdict::Bad, text, remedy)
    }
    fn with(name: &'static str, verdict: Verdict, text: impl Into<String>, remedy: &[&str]) -> Self {
        Self { name, verdict, text: text.into(), remedy: remedy.iter().map(|r| (*r).to_owned()).collect() }
    }
}

/// The host and who asks.
#[derive(Debug, Clone)]
pub struct Host {
    /// `/`, or a test's folder.
    pub root: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub user: String,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// Where images and containers would lie.
    pub data_root: PathBuf,
    /// Folders of `$PATH`.
    pub path: Vec<PathBuf>,
    /// What came of trying to make a user namespace: `None` when nobody tried.
    pub userns: Option<Result<(), nix::errno::Errno>>,
    /// Our own executable, for remedies that name it.
    pub program: PathBuf,
}

impl Host {
    /// This host, for the calling process.
    pub fn current() -> Self {
        let uid = nix::unistd::getuid().as_raw();
        let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = variable("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let data_root = match uid {
            0 => PathBuf::from("/var/lib/coracle"),
            _ => variable("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share")).join("coracle"),
        };
        let mut host = Self {
            root: PathBuf::from("/"),
            uid,
            gid: nix::unistd::getgid().as_raw(),
            user: String::new(),
            runtime_dir: variable("XDG_RUNTIME_DIR"),
            data_root,
            path: std::env::var_os("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default(),
            userns: None,
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/local/bin/coracle")),
        };
        host.user = host.user_name().unwrap_or_else(|| uid.to_string());
        host
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.at(path)).ok()
    }
    fn number(&self, path: &str) -> Option<i64> {
        self.read(path)?.trim().parse().ok()
    }
    fn exists(&self, path: &str) -> bool {
        self.at(path).exists()
    }
    /// A program of `$PATH` or of the usual folders.
    fn program(&self, name: &str) -> Option<PathBuf> {
        let usual = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"].map(PathBuf::from);
        self.path.iter().chain(&usual).map(|dir| self.at(&dir.join(name).to_string_lossy())).find(|p| p.is_file())
    }
    /// /etc/passwd and nothing else: our libc cannot ask NSS.
    fn user_name(&self) -> Option<String> {
        let uid = self.uid.to_string();
        self.read("/etc/passwd")?.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == uid).then(|| name.to_owned())
        })
    }
    /// How this distribution installs a package, by its names in each family.
    fn install(&self, debian: &str, fedora: &str, alpine: &str, arch: &str) -> String {
        let release = self.read("/etc/os-release").unwrap_or_default();
        let family: String =
            release.lines().filter(|l| l.starts_with("ID=") || l.starts_with("ID_LIKE=")).collect::<Vec<_>>().join(" ");
        let has = |names: &[&str]| names.iter().any(|n| family.contains(n));
        if has(&["alpine"]) {
            format!("sudo apk add {alpine}")
        } else if has(&["arch"]) {
            format!("sudo pacman -S {arch}")
        } else if has(&["suse"]) {
            format!("sudo zypper install {fedora}")
        } else if has(&["fedora", "rhel", "centos"]) {
            format!("sudo dnf install {fedora}")
        } else {
            format!("sudo apt-get install {debian}")
        }
    }
}

/// All probes, what matters most first.
pub fn examine(host: &Host) -> Vec<Finding> {
    let mut found = vec![kernel::version(host)];
    if host.uid != 0 {
        found.push(kernel::user_namespaces(host));
        found.push(ids::helpers(host));
        found.push(ids::ranges(host));
    }
    found.extend([machine::data_root(host), machine::overlay(host), session::runtime_dir(host)]);
    found.push(machine::cgroups(host));
    if host.uid != 0 {
        found.extend([kernel::ports(host), kernel::ping(host), session::linger(host)]);
    }
    found.push(session::files(host));
    found
}

/// A line for a sysctl that lasts.
fn sysctl(name: &str, value: &str) -> [String; 2] {
    [
        format!("sudo sysctl -w {name}=\"{value}\""),
        format!("echo '{name} = {value}' | sudo tee /etc/sysctl.d/50-coracle-{}.conf", name.replace(['.', '/'], "-")),
    ]
}

fn lines(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, files: &[(&str, &str)]) -> Host {
        let root = std::env::temp_dir().join(format!("coracle-doctor-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Host {
            root,
            uid: 1000,
            gid: 1000,
            user: "ann".into(),
            runtime_dir: None,
            data_root: "/home/ann/data".into(),
            path: Vec::new(),
            userns: None,
            program: "/usr/bin/coracle".into(),
        }
    }

    #[test]
    fn namespaces_switched_off() {
        for (file, value) in [
            ("proc/sys/user/max_user_namespaces", "0"),
            ("proc/sys/kernel/unprivileged_userns_clone", "0"),
            ("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
        ] {
            let mut h = host("ns", &[(file, value)]);
            h.userns = Some(Err(nix::errno::Errno::EPERM));
            let found = kernel::user_namespaces(&h);
            assert_eq!(found.verdict, Verdict::Bad, "{file}");
            assert!(!found.remedy.is_empty());
            // The kernel lets us all the same: an AppArmor profile is in place, say.
            h.userns = Some(Ok(()));
            assert_eq!(kernel::user_namespaces(&h).verdict, Verdict::Ok, "{file}");
        }
    }

    #[test]
    fn ranges_of_ids() {
        let h = host("ids", &[("etc/subuid", "bob:100000:65536\n"), ("etc/subgid", "ann:100000:65536\n")]);
        let found = ids::ranges(&h);
        assert_eq!(found.verdict, Verdict::Note);
        assert_eq!(found.remedy, ["sudo usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ann"]);
        let h = host("ids", &[("etc/subuid", "ann:1:65536\n"), ("etc/subgid", "1000:1:65536\n")]);
        assert_eq!(ids::ranges(&h).verdict, Verdict::Ok);
    }

    #[test]
    fn packages_by_family() {
        let h = host("pkg", &[("etc/os-release", "ID=ubuntu\nID_LIKE=debian\n")]);
        assert_eq!(ids::helpers(&h).remedy, ["sudo apt-get install uidmap"]);
        let h = host("pkg", &[("etc/os-release", "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n")]);
        assert_eq!(ids::helpers(&h).remedy, ["sudo dnf install shadow-utils"]);
    }

    #[test]
    fn ports_and_ping() {
        let h = host(
            "net",
            &[("proc/sys/net/ipv4/ip_unprivileged_port_start", "1024"), ("proc/sys/net/ipv4/ping_group_range", "1\t0")],
        );
        assert_eq!(kernel::ports(&h).verdict, Verdict::Note);
        assert_eq!(kernel::ping(&h).verdict, Verdict::Note);
        let h = host(
            "net",
            &[
                ("proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
                ("proc/sys/net/ipv4/ping_group_range", "0\t2147483647"),
            ],
        );
        assert_eq!(kernel::ports(&h).verdict, Verdict::Ok);
        assert_eq!(kernel::ping(&h).verdict, Verdict::Ok);
    }

    #[test]
    fn cgroups_by_kind() {
        let h = host("cg", &[("sys/fs/cgroup/memory/x", "")]);
        assert!(machine::cgroups(&h).text.contains("version 1"));
        let slice = "sys/fs/cgroup/user.slice/user-1000.slice/session-1.scope";
        let h = host(
            "cg",
            &[
                ("sys/fs/cgroup/cgroup.controllers", "cpu memory pids"),
                ("proc/self/cgroup", "0::/user.slice/user-1000.slice/session-1.scope\n"),
                (&format!("{slice}/cgroup.procs"), ""),
                (&format!("{slice}/cgroup.controllers"), "memory pids"),
            ],
        );
        let found = machine::cgroups(&h);
        assert_eq!(found.verdict, Verdict::Note);
        assert!(found.text.contains("cpu"), "{}", found.text);
    }
}
