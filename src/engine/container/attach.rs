//! `attach`: hands a client's connection to the container's shim, at once or
//! when it starts. Request threads; the shim carries the bytes.

use super::state::Phase;
use super::{Container, Pending, publish};
use crate::engine::watch::{Gone, Woken};
use crate::engine::{Engine, keys, logs};
use crate::error::{Context, Error, Result};
use crate::runtime::Attach;
use crate::sys::socket;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone, Default)]
pub struct Options {
    pub stream: bool,
    pub logs: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// As the client sent them.
    pub detach_keys: String,
    /// Never in frames of streams: whoever carries the bytes has its own.
    pub raw: bool,
}

/// A checked attach, before the connection is taken over.
#[derive(Debug)]
pub struct Ready {
    pub container: Arc<Container>,
    pub tty: bool,
    keys: Vec<u8>,
}

pub fn check(engine: &Engine, reference: &str, options: &Options) -> Result<Ready> {
    let container = engine.containers.get(reference)?;
    let keys = keys::parse(&options.detach_keys)?;
    let (phase, tty) = {
        let live = container.live();
        (live.record.state.phase, live.record.config.tty)
    };
    match phase {
        Phase::Paused => {
            Err(Error::conflict(format!("container {reference} is paused, unpause the container before attach")))
        }
        Phase::Restarting => {
            Err(Error::conflict(format!("container {reference} is restarting, wait until the container is running")))
        }
        _ => Ok(Ready { container, tty, keys }),
    }
}

/// Waits a moment until the client has read the head of its stream. The Python SDK
/// reads the head through a buffer and the stream past it, and so loses whatever
/// arrives together with the head.
pub fn let_head_be_read(client: BorrowedFd<'_>) {
    let mut pause = Duration::from_micros(20);
    // 80 ms at most: a client that does not read cannot hold us up.
    for _ in 0..12 {
        match socket::unread(client) {
            Ok(1..) => std::thread::sleep(pause),
            _ => return,
        }
        pause *= 2;
    }
}

/// Returns when the shim has `client`, or when it left before the container
/// started. `head` is what it is to read first.
///
/// The head goes out under the lock that the start takes to collect waiting
/// clients: a client may ask for the start as soon as it has read the head, and
/// then it must be on the list already.
pub fn attach(
    engine: &Engine,
    ready: Ready,
    options: &Options,
    client: OwnedFd,
    leftover: Vec<u8>,
    head: &[u8],
) -> Result<()> {
    let Ready { container, tty, keys } = ready;
    let mut head = head;
    if options.logs {
        let mut out = File::from(client.try_clone().context("duplicate the client's connection")?);
        out.write_all(std::mem::take(&mut head)).map_err(|_| Error::cancelled())?;
        let_head_be_read(client.as_fd());
        let choice = logs::Options { stdout: options.stdout, stderr: options.stderr, ..logs::Options::default() };
        logs::read::logs(engine, &container, &choice, !tty && !options.raw, &mut out, None)?;
    }
    publish(engine, &container, "attach", &[]);
    let attach = Attach {
        client,
        leftover,
        stdin: options.stdin && container.live().record.config.open_stdin,
        stdout: options.stdout,
        stderr: options.stderr,
        framed: !tty && !options.raw,
        detach_keys: if keys.is_empty() { keys::DEFAULT.to_vec() } else { keys },
    };
    let watcher = container.attaches_taken.watch()?;
    let probe = attach.client.try_clone().context("duplicate the client's connection")?;
    let token = {
        let mut live = container.live();
        // Nothing has been written to this connection yet: it has room.
        if !head.is_empty() && socket::try_write(attach.client.as_fd(), head).ok() != Some(head.len()) {
            return Ok(());
        }
        if !options.stream || live.removed || live.record.state.removing {
            return Ok(());
        }
        if live.record.state.is_up() {
            drop(live);
            drop(probe);
            let_head_be_read(attach.client.as_fd());
            return engine.runtime.attach(&container.id, attach);
        }
        live.next_pending += 1;
        let token = live.next_pending;
        live.pending.push(Pending { token, attach });
        token
    };
    // The start takes the connection from the list; until then somebody must
    // notice if its client leaves.
    while container.live().pending.iter().any(|p| p.token == token) {
        if watcher.wait(Some((probe.as_fd(), Gone::Closed)), None)? == Woken::ClientGone {
            container.live().pending.retain(|p| p.token != token);
        }
    }
    Ok(())
}

pub fn resize(engine: &Engine, reference: &str, rows: u16, cols: u16) -> Result<()> {
    let container = engine.containers.get(reference)?;
    if !container.live().record.state.is_up() {
        return Err(Error::conflict(format!("container {} is not running", container.id)));
    }
    engine.runtime.resize(&container.id, rows, cols)?;
    let (rows, cols) = (rows.to_string(), cols.to_string());
    publish(engine, &container, "resize", &[("height", &rows), ("width", &cols)]);
    Ok(())
}
