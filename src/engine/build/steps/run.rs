//! RUN: an ordinary container on the stage's layers, whose writable layer becomes
//! the next one. Runs on the thread of its stage.

use super::mounts::{Mount, Real};
use crate::api::container::{
    ContainerConfig, CreateRequest, DeviceRequest, Healthcheck, HostConfig, LogConfig, Ulimit,
};
use crate::engine::build::cache;
use crate::engine::build::execute::{Build, Ongoing};
use crate::engine::build::language::instruction::{Command, Run};
use crate::engine::build::language::parser::heredoc_marker;
use crate::engine::build::report::Progress;
use crate::engine::container::cdi;
use crate::engine::container::create::{self, Step};
use crate::engine::container::record::Record;
use crate::engine::container::{Pending, remove, start, wait};
use crate::engine::copy::commit;
use crate::error::{Context, Error, Result};
use crate::image::manifest::Platform;
use crate::image::store::LayerRef;
use crate::runtime::Attach;
use crate::storage::RwOptions;
use crate::sys::fs as sysfs;
use crate::util::{frames, order};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::PoisonError;

/// As the builder of today names it.
const HOSTNAME: &str = "buildkitsandbox";

/// What is executed: the words, and a script that begins with `#!`.
struct Argv {
    words: Vec<String>,
    script: Option<(String, String)>,
}

impl Build<'_> {
    pub fn run_step(&self, ongoing: &mut Ongoing, run: &Run, progress: &Progress<'_>) -> Result<()> {
        if run.security.as_deref() == Some("insecure") {
            return Err(Error::forbidden("security.insecure is not allowed: builds run without privileges"));
        }
        let allowed = |what: &str| self.request.options.allow.iter().any(|a| a == what);
        if run.network.as_deref() == Some("host")
            && self.request.options.network_mode != "host"
            && !allowed("network.host")
        {
            return Err(Error::forbidden("network.host is not allowed").with_hint("build with --allow network.host"));
        }
        for device in &run.devices {
            let name = device.split(',').next().unwrap_or_default();
            if !allowed("device") && !allowed(&format!("device={name}")) {
                let hint = format!("build with --allow device={name}");
                return Err(Error::forbidden(format!("device {name} is not allowed")).with_hint(hint));
            }
        }
        let argv = argv(ongoing, run);
        let mounts = self.mounts(ongoing, &run.mounts)?;
        let (all, declared) = ongoing.state.run_args(&self.scope());
        let text = argv.words.join(" ");
        let created_by = match declared.len() {
            0 => format!("RUN {text}"),
            n => format!("RUN |{n} {} {text}", declared.join(" ")),
        };
        let key = self.run_key(ongoing, run, &argv, &mounts, &declared, progress)?;
        let parent = ongoing.state.chain_ids.last().cloned().unwrap_or_default();
        let layer = match self.earlier(ongoing, &key, &parent) {
            Some(found) => {
                progress.cached();
                found
            }
            None => {
                let mut real = self.real_mounts(ongoing, &mounts, progress)?;
                let made = self.execute(ongoing, run, argv, all, &mut real, progress)?;
                self.engine.builds.cache.remember(&key, &made.chain_id, &created_by)?;
                made
            }
        };
        self.note(key, parent, &layer, &created_by);
        self.stack(ongoing, layer, created_by);
        Ok(())
    }

    fn run_key(
        &self,
        ongoing: &Ongoing,
        run: &Run,
        argv: &Argv,
        mounts: &[Mount],
        declared: &[String],
        progress: &Progress<'_>,
    ) -> Result<crate::image::digest::Digest> {
        let state = &ongoing.state;
        let (words, env) = (format!("{:?} {:?}", argv.words, argv.script), format!("{:?}", state.env()));
        Ok(cache::key(&[
            "run",
            state.chain_ids.last().map_or("", String::as_str),
            &words,
            &env,
            &format!("{declared:?}"),
            &state.config.run.user,
            &state.config.run.working_dir,
            self.network(run),
            &format!("{:?} {:?}{}", self.rewriting()?, run.devices, self.hostname().trim_start_matches(HOSTNAME)),
            &self.mounts_key(ongoing, mounts, progress)?,
        ]))
    }

    fn hostname(&self) -> &str {
        self.request.options.argument("BUILDKIT_SANDBOX_HOSTNAME").unwrap_or(HOSTNAME)
    }

    fn network<'r>(&'r self, run: &'r Run) -> &'r str {
        match run.network.as_deref() {
            None | Some("default") => match self.request.options.network_mode.as_str() {
                "" | "default" => "bridge",
                mode => mode,
            },
            Some(mode) => mode,
        }
    }

    fn request(
        &self,
        ongoing: &Ongoing,
        run: &Run,
        words: Vec<String>,
        args: Vec<String>,
        extra: &[String],
    ) -> CreateRequest {
        let options = &self.request.options;
        let state = &ongoing.state;
        let name = |e: &String| e.split('=').next().unwrap_or("").to_owned();
        // ENV shadows ARG.
        let set: Vec<String> = state.env().iter().map(name).collect();
        let mut env: Vec<String> = args.into_iter().filter(|a| !set.contains(&name(a))).collect();
        env.extend(state.env().iter().cloned());
        env.extend(extra.iter().cloned());
        let network = self.network(run).to_owned();
        let config = ContainerConfig {
            hostname: match network == "host" || network.starts_with("container:") {
                true => String::new(),
                false => self.hostname().into(),
            },
            user: state.config.run.user.clone(),
            env: Some(env),
            cmd: Some(words),
            working_dir: state.config.run.working_dir.clone(),
            healthcheck: Some(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() }),
            ..ContainerConfig::default()
        };
        let ulimit = |u: &crate::api::build::Ulimit| Ulimit { name: u.name.clone(), hard: u.hard, soft: u.soft };
        let mut host = HostConfig {
            network_mode: network,
            extra_hosts: Some(options.extra_hosts.clone()),
            shm_size: options.shm_size,
            // What a step prints goes to the client and nowhere else.
            log_config: LogConfig { kind: "none".into(), config: None },
            ..HostConfig::default()
        };
        host.memory = options.memory;
        host.memory_swap = options.memory_swap;
        host.cpu_shares = options.cpu_shares;
        host.cpu_period = options.cpu_period;
        host.cpu_quota = options.cpu_quota;
        host.cpuset_cpus.clone_from(&options.cpuset_cpus);
        host.cpuset_mems.clone_from(&options.cpuset_mems);
        host.cgroup_parent.clone_from(&options.cgroup_parent);
        host.device_requests = self.devices(&run.devices);
        host.ulimits = Some(options.ulimits.iter().map(ulimit).collect());
        CreateRequest { config, host_config: Some(host), networking_config: None }
    }

    /// CDI devices; what is not `required` may be missing on this host.
    fn devices(&self, wanted: &[String]) -> Option<Vec<DeviceRequest>> {
        let request = |name: &str| DeviceRequest {
            driver: "cdi".into(),
            device_ids: Some(vec![name.to_owned()]),
            ..DeviceRequest::default()
        };
        let there = |request: &DeviceRequest| {
            let host = HostConfig { device_requests: Some(vec![request.clone()]), ..HostConfig::default() };
            cdi::changes(&host, &self.engine.config.cdi_dirs).is_ok()
        };
        let kept = wanted.iter().filter_map(|text| {
            let (name, rest) = text.split_once(',').unwrap_or((text, ""));
            let request = request(name);
            (matches!(rest, "required" | "required=true") || there(&request)).then_some(request)
        });
        let kept: Vec<DeviceRequest> = kept.collect();
        (!kept.is_empty()).then_some(kept)
    }

    fn execute(
        &self,
        ongoing: &Ongoing,
        run: &Run,
        argv: Argv,
        args: Vec<String>,
        real: &mut Real<'_>,
        progress: &Progress<'_>,
    ) -> Result<LayerRef> {
        let shown = argv.words.join(" ");
        let words = match &argv.script {
            Some((name, content)) => vec![self.script(name, content, real)?],
            None => argv.words,
        };
        let request = self.request(ongoing, run, words, args, &real.env);
        let step = Step {
            layers: ongoing.state.chain_ids.clone(),
            mounts: std::mem::take(&mut real.records),
            secret_env: std::mem::take(&mut real.secret_env),
        };
        let targets: Vec<String> = step.mounts.iter().map(|m| m.destination.clone()).collect();
        let id = create::create_step(self.engine, request, step)?;
        let running = Running { build: self, id };
        let short = crate::util::id::short(&running.id).to_owned();
        progress.classic(format!(" ---> Running in {short}\n"));
        let code = running.run(progress)?;
        self.abort.check()?;
        if code != 0 {
            return Err(self.failed_command(&shown, code, &foreign(ongoing, code)));
        }
        let record = self.engine.containers.get(&running.id)?.record();
        self.tidy(&record, &targets)?;
        let layer = commit::layer(self.engine, &record, self.rewriting()?)?;
        drop(running);
        if !self.request.options.keep_intermediate {
            progress.classic(format!(" ---> Removed intermediate container {short}\n"));
        }
        Ok(layer)
    }
}

impl Build<'_> {
    /// Takes the mount points away that the start made.
    fn tidy(&self, record: &Record, targets: &[String]) -> Result<()> {
        let driver = &self.engine.driver;
        if let Some(upper) = driver.upper_root(&record.id)? {
            remove_stubs(upper.as_fd(), targets, None);
            return Ok(());
        }
        // A driver without an upper has one tree: what the image had must stay.
        let whole = driver.mount_rw(&record.id, &record.layers, RwOptions { volatile: record.volatile })?;
        let lower = if record.layers.is_empty() { None } else { Some(driver.mount_ro(&record.layers)?) };
        remove_stubs(whole.as_fd(), targets, lower.as_ref().map(AsFd::as_fd));
        Ok(())
    }
}

/// The container of a step; removed whatever happens.
struct Running<'a, 'b> {
    build: &'a Build<'b>,
    id: String,
}

impl Drop for Running<'_, '_> {
    fn drop(&mut self) {
        self.build.abort.containers.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        let options = remove::Options { force: true, volumes: true, link: false };
        if let Err(e) = remove::remove(self.build.engine, &self.id, options) {
            crate::warn!("cannot remove the container of a build", "id" = self.id, "error" = e);
        }
    }
}

impl Running<'_, '_> {
    /// Starts it, hands its output on, and gives its exit code.
    fn run(&self, progress: &Progress<'_>) -> Result<i32> {
        let engine = self.build.engine;
        let (mut ours, theirs) = UnixStream::pair().context("make a socket pair")?;
        // Whoever waits listens for its client as well; this one never leaves.
        let (_stay, client) = UnixStream::pair().context("make a socket pair")?;
        let waiting = wait::begin(engine, &self.id, wait::Condition::NextExit)?;
        let container = engine.containers.get(&self.id)?;
        let attach = Attach {
            client: OwnedFd::from(theirs),
            leftover: Vec::new(),
            stdin: false,
            stdout: true,
            stderr: true,
            framed: true,
            detach_keys: Vec::new(),
        };
        container.live().pending.push(Pending { token: 0, attach });
        self.build.abort.containers.lock().unwrap_or_else(PoisonError::into_inner).insert(self.id.clone());
        self.build.abort.check()?;
        start::start(engine, &self.id)?;
        if self.build.abort.cancel.fired() {
            // It may have been fired before there was anything to kill.
            let _ = engine.runtime.signal(&self.id, libc::SIGKILL);
        }
        tell(&mut ours, progress)?;
        waiting.finish(client.as_fd())
    }
}

/// What else is to be said of a command that failed as a program of another
/// architecture does: its shim could not execute it (255).
fn foreign(ongoing: &Ongoing, code: i32) -> String {
    let (own, host) = (ongoing.state.config.platform(), Platform::host());
    let emulated = || std::fs::read_dir("/proc/sys/fs/binfmt_misc").is_ok_and(|all| all.count() > 2);
    if code != 255 || own.rank(&host).is_some() || emulated() {
        return String::new();
    }
    format!(
        ": this stage is for {own}, which this machine ({host}) does not run: build it with \
         FROM --platform=$BUILDPLATFORM, or register an emulator with binfmt_misc"
    )
}

/// Output as it comes, each stream cut at ends of characters.
fn tell(output: &mut UnixStream, progress: &Progress<'_>) -> Result<()> {
    let mut kept: [Vec<u8>; 2] = Default::default();
    frames::demultiplex(output, &mut |stream, bytes| {
        let errors = stream == 2;
        let kept = &mut kept[usize::from(errors)];
        kept.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(kept) {
            Err(e) if e.error_len().is_none() => e.valid_up_to(),
            _ => kept.len(),
        };
        let rest = kept.split_off(whole);
        progress.output(std::mem::replace(kept, rest), errors);
        Ok(())
    })
    .context("read a step's output")?;
    for (rest, errors) in kept.into_iter().zip([false, true]) {
        progress.output(rest, errors);
    }
    Ok(())
}

fn argv(ongoing: &Ongoing, run: &Run) -> Argv {
    let state = &ongoing.state;
    let shell = |text: String| state.shell().into_iter().chain([text]).collect();
    let plain = |words| Argv { words, script: None };
    let text = match &run.command {
        Command::Exec(words) => return plain(words.clone()),
        Command::Shell(text) => text,
    };
    // A heredoc alone is the script; behind a command it is the shell's business.
    if let ([heredoc], Some(_)) = (run.heredocs.as_slice(), heredoc_marker(text.trim())) {
        if heredoc.content.starts_with("#!") {
            let words = vec![format!("<<{}", heredoc.name), heredoc.content.clone()];
            return Argv { words, script: Some((heredoc.name.clone(), heredoc.content.clone())) };
        }
        return plain(shell(heredoc.content.clone()));
    }
    let mut text = text.clone();
    for heredoc in &run.heredocs {
        text.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
    }
    plain(shell(text))
}

/// Mount points that the start made and the command left empty.
fn remove_stubs(upper: BorrowedFd<'_>, targets: &[String], lower: Option<BorrowedFd<'_>>) {
    let made = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/shm", "/dev", "/proc", "/sys", "/.dockerenv"];
    let mut all: Vec<&str> = targets.iter().map(String::as_str).chain(made).collect();
    order::sort_by_key(&mut all, |t| std::cmp::Reverse(t.matches('/').count()));
    for target in all {
        let mut path = target.trim_matches('/');
        // The point itself, then the directories above it that are now empty.
        while !path.is_empty() && !lower.is_some_and(|l| is_there(l, path)) && remove_empty(upper, path) {
            path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
    }
}

fn is_there(root: BorrowedFd<'_>, path: &str) -> bool {
    let Ok(path) = CString::new(path) else { return false };
    sysfs::open_in(root, &path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).is_ok()
}

/// An empty file or directory goes; an upper directory over one of the image
/// says nothing without content, so it may go too.
fn remove_empty(upper: BorrowedFd<'_>, path: &str) -> bool {
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    let (Ok(parent), Ok(name)) = (CString::new(parent), CString::new(name)) else { return false };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let Ok(dir) = sysfs::open_in(upper, &parent, flags, Mode::empty()) else { return false };
    let Ok(stat) = nix::sys::stat::fstatat(&dir, name.as_c_str(), nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW) else {
        return false;
    };
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => unlinkat(&dir, name.as_c_str(), UnlinkatFlags::RemoveDir).is_ok(),
        libc::S_IFREG if stat.st_size == 0 => unlinkat(&dir, name.as_c_str(), UnlinkatFlags::NoRemoveDir).is_ok(),
        _ => false,
    }
}
