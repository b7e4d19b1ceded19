//! Programs that add commands: `docker-NAME` in one of the plugin folders is run for
//! `docker NAME …`, with the very arguments we got. A plugin is asked who it is
//! (`docker-cli-plugin-metadata`) before it is run and where that is shown: in help
//! and in `info`. What gives no sensible answer is no plugin.
//!
//! A plugin gets an abstract socket by name and holds a connection to it; when we
//! are told to stop we close it, and the plugin winds down. Three times told, it is
//! killed.

use crate::cli::context::{self, Context};
use crate::cli::{exit, help, host, tree};
use crate::error::{Context as _, Error, Result, errno_text};
use crate::util::{id, json};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const SYSTEM_DIRS: &[&str] = &[
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

/// A plugin and what it says of itself.
#[derive(Debug, Clone)]
pub struct Plugin {
    pub name: String,
    pub path: PathBuf,
    pub metadata: Metadata,
    /// Why it cannot be used.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Metadata {
    pub schema_version: String,
    pub vendor: String,
    pub version: String,
    pub short_description: String,
    #[serde(rename = "URL")]
    pub url: String,
}

fn dirs(cx: &Context) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = cx.config().list("cliPluginsExtraDirs").into_iter().map(PathBuf::from).collect();
    dirs.push(cx.config_dir().join("cli-plugins"));
    dirs.extend(SYSTEM_DIRS.iter().map(PathBuf::from));
    dirs
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// The plugin behind a command that is not ours.
pub fn find(cx: &Context, name: &str) -> Option<PathBuf> {
    if !is_name(name) {
        return None;
    }
    let path = dirs(cx).into_iter().map(|d| d.join(format!("docker-{name}"))).find(|p| p.is_file())?;
    let plugin = ask(name.to_owned(), path);
    plugin.error.is_none().then_some(plugin.path)
}

/// All plugins by name; of several with one name the first folder's counts.
pub fn list(cx: &Context) -> Vec<Plugin> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for dir in dirs(cx) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let Some(name) = file.to_str().and_then(|f| f.strip_prefix("docker-")) else { continue };
            if entry.path().is_file() {
                found.entry(name.to_owned()).or_insert_with(|| entry.path());
            }
        }
    }
    found.into_iter().map(|(name, path)| ask(name, path)).collect()
}

/// Plugins as entries of the help: those that can be used, and the others with the
/// reason.
pub fn entries(cx: &Context) -> (Vec<help::Entry>, Vec<help::Entry>) {
    let (usable, broken): (Vec<_>, Vec<_>) = list(cx).into_iter().partition(|p| p.error.is_none());
    let entry = |p: Plugin| help::Entry { name: p.name, about: p.error.unwrap_or(p.metadata.short_description) };
    (usable.into_iter().map(entry).collect(), broken.into_iter().map(entry).collect())
}

/// The metadata call.
fn ask(name: String, path: PathBuf) -> Plugin {
    let plugin = |metadata, error| Plugin { name: name.clone(), path: path.clone(), metadata, error };
    if !is_name(&name) {
        let why = format!("plugin candidate \"{name}\" did not match \"^[a-z][a-z0-9]*$\"");
        return plugin(Metadata::default(), Some(why));
    }
    if tree::is_word(&name) {
        let why = format!("plugin \"{name}\" duplicates builtin command");
        return plugin(Metadata::default(), Some(why));
    }
    let output =
        Command::new(&path).arg("docker-cli-plugin-metadata").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let failed = |why: String| Some(format!("failed to fetch metadata: {why}"));
    let output = match output {
        Ok(output) if output.status.success() => output,
        Ok(output) => return plugin(Metadata::default(), failed(output.status.to_string().replace(": ", " "))),
        Err(e) => {
            let why = format!("fork/exec {}: {}", path.display(), errno_text(&e));
            return plugin(Metadata::default(), failed(why));
        }
    };
    match json::from_slice::<Metadata>(&output.stdout) {
        Err(e) => plugin(Metadata::default(), Some(format!("invalid metadata: {}", no_json(&output.stdout, e)))),
        Ok(m) if m.schema_version != "0.1.0" && !m.schema_version.starts_with("0.") => {
            let why = format!("plugin SchemaVersion \"{}\" is not valid, must be 0.1.0", m.schema_version);
            plugin(m, Some(why))
        }
        Ok(m) if m.vendor.is_empty() => plugin(m, Some("plugin metadata does not define a vendor".into())),
        Ok(m) => plugin(m, None),
    }
}

/// Go has words of its own for a whole text that is empty.
fn no_json(text: &[u8], e: json::Wrong) -> String {
    if text.trim_ascii().is_empty() { "unexpected end of JSON input".into() } else { e.to_string() }
}

/// Runs a plugin with our own arguments until it ends; its status is ours.
pub fn run(cx: &mut Context, path: &Path, args: &[String]) -> Result<ExitCode> {
    cx.out.flush()?;
    let socket = format!("docker_cli_{}", &id::random()[..32]);
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&socket)?)?;
    listener.set_nonblocking(true)?;
    let mut command = Command::new(path);
    command.args(args);
    command.env("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", std::env::args_os().next().unwrap_or_default());
    command.env("DOCKER_CLI_PLUGIN_SOCKET", format!("@{socket}"));
    if let Some(address) = own_default(cx) {
        command.env("DOCKER_HOST", address);
    }
    if path.file_name().is_some_and(|n| n == "docker-compose") && builds_classically(cx) {
        command.env("DOCKER_BUILDKIT", "0").env("COMPOSE_BAKE", "false");
    }
    let mask = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGCHLD]);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut child = command.spawn().context(format!("fork/exec {}", path.display()))?;
    let mut connections = Vec::new();
    let mut told = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(match (status.code(), status.signal()) {
                (Some(code), _) => exit::of_container(code.into()),
                (None, signal) => exit::of_signal(signal.unwrap_or(0)),
            });
        }
        let mut fds =
            [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        if let Ok((connection, _)) = listener.accept() {
            connections.push(connection);
        }
        while let Some(info) = signals.read_signal()? {
            let signal = info.ssi_signo.cast_signed();
            if signal == libc::SIGCHLD {
                continue;
            }
            told += 1;
            if told >= 3 {
                child.kill()?;
                let _ = child.wait();
                writeln!(cx.err, "got 3 SIGTERM/SIGINTs, forcefully exiting")?;
                return Ok(ExitCode::FAILURE);
            }
            // A terminal interrupts the plugin itself, as one of our group.
            let pid = i32::try_from(child.id()).map_err(|_| Error::system("the plugin has no pid"))?;
            if connections.is_empty() && !(signal == libc::SIGINT && std::io::stdin().is_terminal()) {
                let _ = crate::sys::signal::kill(pid, signal);
            }
            connections.clear();
        }
    }
}

/// A plugin looks for the daemon by rules of its own, which do not know the user's
/// own socket: where that is what we would use, it is told.
fn own_default(cx: &Context) -> Option<String> {
    let plain = cx.globals.host.is_empty() && std::env::var_os("DOCKER_HOST").is_none_or(|h| h.is_empty());
    let address = host::default_socket();
    let ours = plain && host::context_name(cx).is_ok_and(|n| n == "default");
    (ours && address != "unix:///var/run/docker.sock").then_some(address)
}

/// Compose takes BuildKit for granted unless it is told; the daemon's ping says who
/// builds. Words of the user's own stand.
fn builds_classically(cx: &Context) -> bool {
    let unsaid = |name: &str| std::env::var_os(name).is_none_or(|v| v.is_empty());
    let builder = || cx.client().ok()?.ping().ok()?;
    unsaid("DOCKER_BUILDKIT") && unsaid("COMPOSE_BAKE") && builder().is_some_and(|b| b == "1")
}

/// `docker bake`: another name of `docker buildx bake`.
pub fn bake(args: &[&str], cx: &mut Context) -> Result<ExitCode> {
    let Some(path) = find(cx, "buildx") else {
        return Err(Error::not_found(
            "docker: 'docker bake' is a command of the buildx plugin, which is not installed",
        )
        .with_hint("Run 'docker --help' for more information"));
    };
    let own = args.iter().skip_while(|a| **a == "--");
    let args: Vec<String> = ["buildx", "bake"].iter().chain(own).map(|a| (*a).to_owned()).collect();
    run(cx, &path, &args)
}

/// What stands behind a word that is no command of ours.
pub fn try_run(cx: &mut Context, word: &str) -> Option<Result<ExitCode>> {
    let path = find(cx, word)?;
    let args = cx.args.clone();
    Some(match run(cx, &path, &args) {
        Err(_) if context::stdout_closed() => Ok(ExitCode::SUCCESS),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(is_name("compose") && is_name("x2"));
        assert!(!is_name("Compose") && !is_name("2x") && !is_name("a-b") && !is_name(""));
    }
}
