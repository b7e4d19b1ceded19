//! The terminal joined with a running container: what `run`, `start` and `attach` do
//! until it ends, and the status they end with.

use crate::api::container::WaitResponse;
use crate::cli::attach::{self, End, Happening, Session, Signals};
use crate::cli::context::Context;
use crate::cli::exit;
use crate::client::Client;
use crate::client::hijack::Hijacked;
use crate::client::http::Reply;
use crate::error::{Error, Result};
use std::io::Write;
use std::process::ExitCode;

/// A started container and what is joined with it.
pub struct Joined {
    pub hijacked: Hijacked,
    pub wait: Reply,
    pub stdin: bool,
    pub tty: bool,
    pub keys: Vec<u8>,
    pub signals: Option<Signals>,
    /// `attach` says so when the user leaves, `run` and `start` do not.
    pub detach_is_error: bool,
}

/// Passes everything both ways until the container has ended; its status is ours.
pub fn joined(cx: &mut Context, client: &Client, id: &str, j: Joined) -> Result<ExitCode> {
    let tty = j.tty;
    let mut on_signal = |happening| match happening {
        Happening::Resized => resize(|rows, cols| client.container_resize(id, rows, cols), 1),
        Happening::Signal(number) => {
            let _ = client.container_kill(id, Some(&number.to_string()));
        }
    };
    if tty {
        resize(|rows, cols| client.container_resize(id, rows, cols), 5);
    }
    let session = Session {
        hijacked: j.hijacked,
        stdin: j.stdin,
        tty,
        detach_keys: j.keys,
        wait: Some(j.wait),
        on_signal: &mut on_signal,
        signals: j.signals,
    };
    match session.run(cx)? {
        End::Ended(answer) => status(answer.as_deref().unwrap_or_default()),
        End::Detached if j.detach_is_error => Err(attach::escaped()),
        End::Detached => Ok(ExitCode::SUCCESS),
        End::Killed(signal) => Ok(exit::of_signal(signal)),
        End::Forced => {
            writeln!(cx.err, "\ngot 3 SIGTERM/SIGINTs, forcefully exiting")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The container's own status out of the answer to `wait`.
pub fn status(answer: &[u8]) -> Result<ExitCode> {
    let answer: WaitResponse = crate::api::decode::from_slice(answer)
        .map_err(|_| Error::system("error waiting for container: unexpected EOF"))?;
    match answer.error {
        Some(e) if !e.message.is_empty() => Err(Error::system(format!("Error waiting for container: {}", e.message))),
        _ => Ok(exit::of_container(answer.status_code)),
    }
}

/// Tells the size of our terminal, a few times while the process comes up.
pub fn resize(send: impl Fn(u16, u16) -> Result<()>, tries: u32) {
    let Some((rows, cols)) = attach::window_size() else { return };
    for attempt in 0..tries {
        if send(rows, cols).is_ok() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10 * u64::from(attempt + 1)));
    }
}
