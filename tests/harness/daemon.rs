//! A private dockerd in a scratch directory, and the clients that talk to it.
//! When a test fails, the daemon's log is printed with it.

use super::command::{Output, PATIENCE, eventually, run, run_with_input};
use super::{Scratch, image, probe};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("CORACLE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_coracle").into(), PathBuf::from)
}

/// Whose command line drives the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Ours,
    Real,
}

pub struct Daemon {
    flags: Vec<String>,
    env: Vec<(String, String)>,
    child: Option<Child>,
    theirs: Option<PathBuf>,
    /// Last, so that it is removed after everything that lives in it.
    pub scratch: Scratch,
}

impl Daemon {
    /// A running daemon with the busybox image in it.
    pub fn with_busybox() -> Self {
        let daemon = Self::start();
        daemon.load_busybox();
        daemon
    }

    pub fn start() -> Self {
        Self::start_with(&[], &[])
    }

    pub fn start_with(flags: &[&str], env: &[(&str, &str)]) -> Self {
        let mut daemon = Self::prepare(flags, env);
        match std::env::var("CORACLE_THEIR_SOCKET") {
            Ok(socket) if flags.is_empty() && env.is_empty() => daemon.adopt(socket.into()),
            _ => daemon.up(),
        }
        daemon
    }

    /// Judges the tests instead of us: the original's daemon, emptied first.
    /// For `CORACLE_THEIR_SOCKET=… cargo test -- --test-threads=1 TOPIC`.
    fn adopt(&mut self, socket: PathBuf) {
        self.theirs = Some(socket);
        let listed = self.docker(&["ps", "-aq"]).ok();
        for id in listed.split_whitespace() {
            let _ = self.docker(&["rm", "-fv", id]);
        }
    }

    /// The directories and the environment, with no dockerd running yet.
    pub fn prepare(flags: &[&str], env: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new();
        for dir in ["home", "run", "data", "bin", "tmp"] {
            scratch.dir(dir);
        }
        for name in ["docker", "dockerd"] {
            std::os::unix::fs::symlink(binary(), scratch.join("bin").join(name)).unwrap();
        }
        Self {
            flags: flags.iter().map(ToString::to_string).collect(),
            env: env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            child: None,
            theirs: None,
            scratch,
        }
    }

    /// Before [`Daemon::up`]: what needs the scratch directory to be there.
    pub fn flag(&mut self, flag: &str) {
        self.flags.push(flag.to_owned());
    }

    pub fn env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// `dockerd` as [`Daemon::up`] starts it.
    pub fn dockerd(&self) -> Command {
        let mut command = self.command("bin/dockerd");
        command
            .args(["--data-root".as_ref(), self.scratch.join("data").as_os_str()])
            .args(["--exec-root".as_ref(), self.scratch.join("run/x").as_os_str()])
            .args(["--pidfile".as_ref(), self.scratch.join("run/docker.pid").as_os_str()])
            .args(["-H".to_owned(), self.host()])
            .args(&self.flags)
            .envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Starts dockerd (again) on the same roots and waits until it answers.
    pub fn up(&mut self) {
        let dockerd = self.dockerd();
        self.up_as(dockerd);
    }

    /// The same by a command of the test's own.
    pub fn up_as(&mut self, mut dockerd: Command) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let child = dockerd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.child = Some(child);
        eventually("the daemon's first answer", || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "dockerd ended at once:\n{}", self.log());
            self.try_api("GET", "/_ping", None).is_some_and(|(status, _)| status == 200)
        });
    }

    /// For the next [`Daemon::up`].
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(ToString::to_string).collect();
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// kill -9, as a crash.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Its process, unwaited: [`Daemon::up`] starts another.
    pub fn forget(&mut self) -> Forgotten {
        Forgotten(self.child.take())
    }

    /// Waits for an end that has been asked for, and gives its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.take()?.wait().ok()?.code()
    }

    /// SIGTERM and wait, as an operator.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), "TERM");
            eventually("the daemon's end", || child.try_wait().unwrap().is_some());
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.theirs.clone().unwrap_or_else(|| self.scratch.join("run/docker.sock"))
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub fn log_path(&self) -> PathBuf {
        self.scratch.join("dockerd.log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// A program with nothing in its environment but what a login has.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let program = program.as_ref();
        let program = if program.starts_with("bin") { self.scratch.join(program) } else { program.to_owned() };
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.scratch.join("home"))
            .env("XDG_RUNTIME_DIR", self.scratch.join("run"))
            .env("TMPDIR", self.scratch.join("tmp"))
            .env("USER", std::env::var("USER").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .env("DOCKER_HOST", self.host())
            .env("CORACLE_TEST", self.scratch.path())
            .current_dir(self.scratch.path());
        command
    }

    /// The clients that can run here: ours always, the original where it is.
    pub fn clients(&self) -> Vec<Client> {
        match probe::real_docker() {
            Ok(()) => vec![Client::Ours, Client::Real],
            Err(reason) => {
                probe::skip("the real Docker CLI's half of a test", &reason);
                vec![Client::Ours]
            }
        }
    }

    pub fn cli(&self, client: Client) -> Command {
        match client {
            Client::Ours => self.command("bin/docker"),
            Client::Real => self.command(probe::real_docker_path()),
        }
    }

    /// Our client.
    pub fn docker(&self, args: &[&str]) -> Output {
        self.with(Client::Ours, args)
    }

    pub fn with(&self, client: Client, args: &[&str]) -> Output {
        run(self.cli(client).args(args))
    }

    pub fn docker_input(&self, client: Client, args: &[&str], input: impl Into<Vec<u8>>) -> Output {
        run_with_input(self.cli(client).args(args), input.into())
    }

    pub fn load_busybox(&self) {
        let archive = image::busybox_archive();
        self.docker(&["load", "-q", "-i", archive.to_str().unwrap()]).ok();
    }

    /// Runs a container in the background and gives its id.
    #[track_caller]
    pub fn run_detached(&self, args: &[&str]) -> String {
        self.docker(&[&["run", "-d"], args].concat()).ok().trim().to_owned()
    }

    /// `docker inspect -f`.
    #[track_caller]
    pub fn inspect(&self, name: &str, template: &str) -> String {
        self.docker(&["inspect", "-f", template, name]).ok().trim_end().to_owned()
    }

    /// One request on a connection of its own: status and body.
    #[track_caller]
    pub fn api(&self, method: &str, path: &str, body: Option<&str>) -> (u16, String) {
        self.try_api(method, path, body).unwrap_or_else(|| panic!("{method} {path}: no answer\n{}", self.log()))
    }

    #[track_caller]
    pub fn json(&self, method: &str, path: &str, body: Option<&str>) -> serde_json::Value {
        let (status, text) = self.api(method, path, body);
        assert!(status < 300, "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{method} {path}: {e}: {text}"))
    }

    fn try_api(&self, method: &str, path: &str, body: Option<&str>) -> Option<(u16, String)> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let body = body.unwrap_or("");
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        parse_answer(&answer)
    }
}

/// Status and body of a whole HTTP/1.1 answer, chunks put together.
fn parse_answer(answer: &[u8]) -> Option<(u16, String)> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut body = &answer[end + 4..];
    let mut text = Vec::new();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        while let Some(line) = body.windows(2).position(|w| w == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).ok()?.trim(), 16).ok()?;
            if size == 0 {
                break;
            }
            text.extend_from_slice(body.get(line + 2..line + 2 + size)?);
            body = body.get(line + 4 + size..)?;
        }
    } else {
        text.extend_from_slice(body);
    }
    Some((status, String::from_utf8_lossy(&text).into_owned()))
}

pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([format!("-{name}"), pid.to_string()]).stderr(Stdio::null()).status();
}

/// A zombie until it is dropped.
pub struct Forgotten(Option<Child>);

impl Drop for Forgotten {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.wait();
        }
    }
}

/// What an operation that was cut short left in a data root: staged layers,
/// temporary files, writable layers and folders of containers that are not listed.
pub fn litter(d: &Daemon) -> Vec<String> {
    let data = d.scratch.join("data");
    let listed = d.docker(&["ps", "-aq", "--no-trunc"]).ok();
    let known = |name: &str| listed.lines().any(|id| name.starts_with(id));
    let mut found = Vec::new();
    let mut pending = vec![data.clone()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let below = entry.path().strip_prefix(&data).unwrap().display().to_string();
            let parent = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let owned_by_nobody = (parent == "rw" || below == format!("containers/{name}")) && !known(&name);
            if ["staging", "tmp"].contains(&parent.as_str())
                || name.ends_with(".tmp")
                || name.ends_with(".unreadable")
                || owned_by_nobody
            {
                found.push(below);
            } else if entry.file_type().is_ok_and(|t| t.is_dir())
                && !["layers", "rw", "volumes"].contains(&parent.as_str())
            {
                pending.push(entry.path());
            }
        }
    }
    found
}

/// Waits until nothing of what was cut short is left; a big tree goes in the background.
#[track_caller]
pub fn comes_clean(d: &Daemon) {
    let limit = Instant::now() + PATIENCE;
    loop {
        let found = litter(d);
        if found.is_empty() {
            return;
        }
        assert!(Instant::now() < limit, "left in the data root: {found:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Every image that is listed runs.
#[track_caller]
pub fn all_images_run(d: &Daemon) {
    for name in d.docker(&["images", "-aq"]).ok().lines() {
        d.docker(&["run", "--rm", "--network", "none", "--entrypoint", "true", name]).ok();
    }
}

/// Processes that this scratch directory's daemon left: those with its mark in
/// their environment, its path in their title or open files in it, and everything
/// below them: a container's process has nothing of ours.
pub fn processes_of(scratch: &Path) -> Vec<u32> {
    let mark = format!("CORACLE_TEST={}", scratch.display());
    let mut parents = Vec::new();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|s| s.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name, in parentheses, may hold blanks and parentheses itself.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.push((pid, parent.unwrap_or(0)));
        let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        // The spawner's and the shims' titles cover their environment; their files do not lie.
        let files = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        let holds = |f: std::fs::DirEntry| std::fs::read_link(f.path()).is_ok_and(|p| p.starts_with(scratch));
        let title = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // By component: the folder c1-1 must not claim what belongs to c1-10.
        let titled = title.split(|b| *b == 0).any(|arg| Path::new(OsStr::from_bytes(arg)).starts_with(scratch));
        if environ.split(|b| *b == 0).any(|v| v == mark.as_bytes())
            || (comm.starts_with("coracle") && (titled || files.into_iter().any(holds)))
        {
            found.push(pid);
        }
    }
    let mut next = 0;
    while next < found.len() {
        let pid = found[next];
        let children = parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child);
        let new: Vec<u32> = children.filter(|child| !found.contains(child)).collect();
        found.extend(new);
        next += 1;
    }
    found.retain(|pid| *pid != std::process::id());
    found
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), "TERM");
            let limit = Instant::now() + PATIENCE;
            while child.try_wait().ok().flatten().is_none() && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        for pid in processes_of(self.scratch.path()) {
            signal(pid, "KILL");
        }
        if std::thread::panicking() {
            let log = self.log();
            let start = (log.len().saturating_sub(6000)..log.len()).find(|i| log.is_char_boundary(*i)).unwrap_or(0);
            println!("--- dockerd.log\n{}", &log[start..]);
        }
    }
}
