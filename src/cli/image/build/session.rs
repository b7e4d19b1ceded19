//! What the daemon takes from us beside the request: connections to ssh agents,
//! and places for what a build makes. Each is a connection of its own, opened
//! when the daemon says that it wants them.
//!
//! Invariant: through a forwarded agent keys can be listed and used, nothing else:
//! a step can neither remove nor add one.

use super::keys::{self, FAILURE, Keys};
use crate::api::build::Output;
use crate::cli::copy::unpack;
use crate::client::Client;
use crate::client::hijack::Hijacked;
use crate::error::{Context as _, Error, Result};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Where an output goes.
enum Sink {
    Stdout,
    File(PathBuf),
    Folder(PathBuf),
}

/// What answers for one id of `--ssh`.
#[derive(Clone)]
pub(super) enum Agent {
    /// The user's own, behind its socket.
    Socket(PathBuf),
    /// Keys from files, used by us.
    Keys(Arc<Keys>),
}

pub(super) struct Session {
    client: Client,
    id: String,
    agents: BTreeMap<String, Agent>,
    sinks: Vec<(String, Sink)>,
    running: Vec<JoinHandle<Result<()>>>,
}

impl Session {
    /// `outputs` lose their `dest`, which says nothing to the daemon.
    pub(super) fn new(
        client: &Client,
        id: &str,
        agents: BTreeMap<String, Agent>,
        outputs: &mut [Output],
        cache_to: &[String],
    ) -> Result<Self> {
        let mut sinks = Vec::new();
        for (n, output) in outputs.iter_mut().enumerate() {
            if let Some(sink) = sink(output)? {
                output.attrs.insert("dest".into(), "-".into());
                sinks.push((format!("output:{n}"), sink));
            }
        }
        if sinks.iter().filter(|(_, s)| matches!(s, Sink::Stdout)).count() > 1 {
            return Err(Error::invalid("only one output can go to stdout"));
        }
        for (n, spec) in cache_to.iter().enumerate() {
            let attrs: BTreeMap<&str, &str> = spec.split(',').filter_map(|pair| pair.split_once('=')).collect();
            if let (Some(&"local"), Some(dest)) = (attrs.get("type"), attrs.get("dest")) {
                sinks.push((format!("cache:{n}"), Sink::Folder(dest.into())));
            }
        }
        Ok(Self { client: client.clone(), id: id.to_owned(), agents, sinks, running: Vec::new() })
    }

    /// The result goes where words would stand.
    pub(super) fn takes_stdout(&self) -> bool {
        self.sinks.iter().any(|(_, s)| matches!(s, Sink::Stdout))
    }

    /// The daemon is ready for connections.
    pub(super) fn begin(&mut self) {
        for (name, sink) in std::mem::take(&mut self.sinks) {
            let (client, id) = (self.client.clone(), self.id.clone());
            self.running.push(std::thread::spawn(move || receive(&open(&client, &id, &name)?, &sink)));
        }
        for (name, agent) in std::mem::take(&mut self.agents) {
            let (client, id) = (self.client.clone(), self.id.clone());
            // Ends with the build, or with us.
            std::thread::spawn(move || forward(&client, &id, &name, &agent));
        }
    }

    /// Waits until everything is on the disk.
    pub(super) fn finish(self) -> Result<()> {
        for thread in self.running {
            thread.join().unwrap_or_else(|_| Err(Error::system("the thread that keeps an output failed")))?;
        }
        Ok(())
    }
}

fn open(client: &Client, id: &str, name: &str) -> Result<Hijacked> {
    client.post("/build/attach").query("id", id).query("name", name).hijack()
}

fn sink(output: &Output) -> Result<Option<Sink>> {
    let kind = output.r#type.as_str();
    let dest = output.attrs.get("dest").map(String::as_str).filter(|d| !d.is_empty());
    let unpacked = output.attrs.get("tar").is_some_and(|t| t == "false");
    Ok(Some(match (kind, dest) {
        ("local", Some(path)) => Sink::Folder(path.into()),
        ("local", None) => return Err(Error::invalid("dest is required for local exporter")),
        ("docker", None) => return Ok(None),
        ("oci" | "docker", Some(path)) if unpacked => Sink::Folder(path.into()),
        ("oci", None) if unpacked => return Err(Error::invalid("dest is required for oci exporter with tar=false")),
        ("tar" | "oci" | "docker", None | Some("-")) => {
            if io::stdout().is_terminal() {
                return Err(Error::invalid(format!(
                    "dest file is required for {kind} exporter. refusing to write to console"
                )));
            }
            Sink::Stdout
        }
        ("tar" | "oci" | "docker", Some(path)) if Path::new(path).is_dir() => {
            return Err(Error::invalid(format!("destination file {path} is a directory")));
        }
        ("tar" | "oci" | "docker", Some(path)) => Sink::File(path.into()),
        _ => return Ok(None),
    }))
}

fn receive(connection: &Hijacked, sink: &Sink) -> Result<()> {
    let mut reader = io::BufReader::with_capacity(128 << 10, connection.reader()?);
    match sink {
        Sink::Stdout => {
            let mut out = io::stdout().lock();
            io::copy(&mut reader, &mut out)?;
            out.flush()?;
        }
        Sink::File(path) => {
            // Under its name only when it is whole.
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let partial = path.with_file_name(format!(".{name}.{}", &crate::util::id::random()[..8]));
            let result = File::create(&partial).and_then(|mut file| io::copy(&mut reader, &mut file));
            let result = result.and_then(|_| fs::rename(&partial, path));
            if result.is_err() {
                let _ = fs::remove_file(&partial);
            }
            result.with_context(|| format!("write {}", path.display()))?;
        }
        Sink::Folder(path) => {
            fs::create_dir_all(path).with_context(|| format!("mkdir {}", path.display()))?;
            let unpacked = unpack::read(&mut reader, &path.to_string_lossy(), &str::to_owned);
            unpacked.with_context(|| format!("unpack the result into {}", path.display()))?;
            io::copy(&mut reader, &mut io::sink())?;
        }
    }
    // Our end tells the daemon that it may finish.
    let _ = connection.socket.shutdown(std::net::Shutdown::Both);
    Ok(())
}

/// Keeps one idle connection open for an agent; the step's first byte makes it a
/// conversation, and another one is opened.
fn forward(client: &Client, id: &str, name: &str, agent: &Agent) {
    while let Ok(connection) = open(client, id, &format!("ssh:{name}")) {
        let Ok(mut reader) = connection.reader() else { return };
        let mut first = [0];
        if !matches!(reader.read(&mut first), Ok(1)) {
            return;
        }
        let agent = agent.clone();
        std::thread::spawn(move || {
            let input = io::Cursor::new(first).chain(reader);
            let result = agent.answers().and_then(|mut ask| converse(input, &mut &connection.socket, &mut *ask));
            if let Err(e) = result {
                crate::debug!("a conversation with an ssh agent ended", "error" = e);
            }
            let _ = connection.socket.shutdown(std::net::Shutdown::Both);
        });
    }
}

/// Longest message that an agent takes (OpenSSH's own limit).
const MAX_MESSAGE: u32 = 256 << 10;

type Ask<'a> = dyn FnMut(&[u8]) -> io::Result<Vec<u8>> + 'a;

impl Agent {
    /// What gives the answer to a question of one conversation.
    fn answers(self) -> io::Result<Box<Ask<'static>>> {
        match self {
            Agent::Keys(keys) => Ok(Box::new(move |question| Ok(keys.answer(question)))),
            Agent::Socket(path) => {
                let agent = UnixStream::connect(&path)?;
                Ok(Box::new(move |question| {
                    { &agent }.write_all(question)?;
                    message(&mut { &agent })?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
                }))
            }
        }
    }
}

/// Question and answer in turns, until the asking side ends.
fn converse(mut from: impl Read, to: &mut impl Write, ask: &mut Ask<'_>) -> io::Result<()> {
    while let Some(question) = message(&mut from)? {
        let allowed = question.get(4).is_some_and(|kind| [keys::LIST, keys::SIGN].contains(kind));
        let answer = if allowed { ask(&question)? } else { FAILURE.to_vec() };
        to.write_all(&answer)?;
    }
    Ok(())
}

/// With its length in front; None at the end.
fn message(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    match from.read_exact(&mut head) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(head);
    if length > MAX_MESSAGE {
        return Err(io::Error::other("an agent's message is too long"));
    }
    let mut whole = head.to_vec();
    whole.resize(4 + length as usize, 0);
    from.read_exact(&mut whole[4..])?;
    Ok(Some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listing_and_signing_pass() {
        let (mut asked, mut out) = (Vec::new(), Vec::new());
        let mut ask = |question: &[u8]| {
            asked.push(question[4]);
            Ok(vec![0, 0, 0, 2, 12, question[4]])
        };
        // REMOVE_ALL_IDENTITIES, then REQUEST_IDENTITIES.
        converse(&[0, 0, 0, 1, 19, 0, 0, 0, 1, 11][..], &mut out, &mut ask).unwrap();
        assert!(converse(&[255, 0, 0, 0][..], &mut out, &mut ask).is_err());
        assert_eq!(out, [FAILURE, &[0, 0, 0, 2, 12, 11]].concat());
        assert_eq!(asked, [11]);
    }
}
