//! A terminal or pipe of ours joined with a container's streams: one poll loop on
//! the main thread over stdin, the connection, signals and, for `run`, the answer
//! to `wait`.
//!
//! Nothing here blocks on the connection's writing side: a container that does not
//! read its stdin must not keep us from taking its output, and it may well be
//! waiting for exactly that.
//!
//! Invariant: a terminal that was made raw is itself again when the loop is left,
//! also by a signal.

use crate::cli::context::Context;
use crate::client::hijack::Hijacked;
use crate::client::http::Reply;
use crate::error::{Error, Result};
use crate::util::frames::Demux;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, SetArg, Termios};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// What is joined with what.
pub struct Session<'a> {
    pub hijacked: Hijacked,
    /// Hand our stdin on.
    pub stdin: bool,
    /// The container has a terminal: no frames, raw mode, window size.
    pub tty: bool,
    /// The key sequence that leaves, for a terminal with stdin.
    pub detach_keys: Vec<u8>,
    /// The answer that tells the end of the container.
    pub wait: Option<Reply>,
    /// Told of window changes and of signals to hand on.
    pub on_signal: &'a mut dyn FnMut(Happening),
    pub signals: Option<Signals>,
}

/// What the owner of the session is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    Resized,
    Signal(i32),
}

#[derive(Debug)]
pub enum End {
    /// Output ended; with `wait`, its answer.
    Ended(Option<Vec<u8>>),
    /// The user typed the detach keys.
    Detached,
    /// A signal that is not handed on asks us to stop.
    Killed(i32),
    /// Three times interrupted.
    Forced,
}

/// Signals taken from their default actions for as long as this lives.
pub struct Signals {
    fd: SignalFd,
    mask: SigSet,
    /// Hand them to the container; else those that end a program end us, tidily.
    proxy: bool,
}

impl Signals {
    /// With `proxy` all that a user may send; with a terminal also those that
    /// would leave it raw. `None` when nothing needs catching.
    pub fn take(proxy: bool, tty: bool) -> Result<Option<Self>> {
        let mut mask = SigSet::empty();
        let ending = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];
        // All that somebody may send, but those that say something of ourselves.
        let other = [
            Signal::SIGABRT,
            Signal::SIGALRM,
            Signal::SIGCONT,
            Signal::SIGIO,
            Signal::SIGPWR,
            Signal::SIGSYS,
            Signal::SIGTRAP,
            Signal::SIGTSTP,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGVTALRM,
            Signal::SIGWINCH,
            Signal::SIGXCPU,
            Signal::SIGXFSZ,
        ];
        if proxy || tty {
            ending.iter().for_each(|s| mask.add(*s));
        }
        if proxy {
            other.iter().for_each(|s| mask.add(*s));
        }
        if tty {
            mask.add(Signal::SIGWINCH);
        }
        if mask.iter().next().is_none() {
            return Ok(None);
        }
        mask.thread_block()?;
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Some(Self { fd, mask, proxy }))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = self.mask.thread_unblock();
    }
}

/// The terminal as it was before.
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// `None` if stdin is no terminal.
    pub fn enter() -> Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &self.before);
    }
}

/// Rows and columns of the terminal we write to.
pub fn window_size() -> Option<(u16, u16)> {
    crate::sys::term::window_size(io::stdout().as_fd()).ok().filter(|(rows, cols)| *rows > 0 && *cols > 0)
}

/// `the input device is not a TTY`, before anything is started.
pub fn check_tty(stdin: bool, tty: bool) -> Result<()> {
    match tty && stdin && !io::stdin().is_terminal() {
        true => Err(Error::invalid("the input device is not a TTY")),
        false => Ok(()),
    }
}

/// `ctrl-p,ctrl-q`: one character or `ctrl-` and one of `a-z@[\]^_`, by commas.
fn parse_keys(text: &str) -> Result<Vec<u8>> {
    let key = |word: &str| -> Option<u8> {
        if word == "DEL" {
            return Some(127);
        }
        match *word.as_bytes() {
            [b] => Some(b),
            _ => match *word.strip_prefix("ctrl-")?.as_bytes() {
                [c @ b'a'..=b'z'] => Some(c - b'a' + 1),
                [b'@'] => Some(0),
                [c @ b'['..=b'_'] => Some(c - b'[' + 27),
                _ => None,
            },
        }
    };
    text.split(',').map(|w| key(w).ok_or_else(|| Error::invalid(format!("Unknown character: '{w}'")))).collect()
}

/// What attach and exec say when the user left by the detach keys.
pub fn escaped() -> Error {
    Error::cancelled_with("read escape sequence")
}

/// The keys that count: the flag, the configuration, Docker's.
pub fn detach_keys(cx: &Context, flag: Option<&str>) -> Result<(Vec<u8>, String)> {
    let text = flag.filter(|k| !k.is_empty()).or_else(|| cx.config().text("detachKeys")).unwrap_or("").to_owned();
    let keys = if text.is_empty() { vec![16, 17] } else { parse_keys(&text)? };
    Ok((keys, text))
}

/// Finds the detach sequence in what is typed. A beginning of it is held back
/// until it is clear what it is.
struct Detach<'k> {
    keys: &'k [u8],
    seen: usize,
}

impl Detach<'_> {
    /// Appends what goes on to `out`; true when the sequence is complete.
    fn feed(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in typed {
            if self.keys.is_empty() {
                out.push(byte);
                continue;
            }
            if byte == self.keys[self.seen] {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return true;
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.seen]);
            self.seen = usize::from(byte == self.keys[0]);
            if self.seen == 0 {
                out.push(byte);
            }
        }
        false
    }
}

/// Everything the loop changes.
struct Loop {
    pending: Vec<u8>,
    stdin: bool,
    output: bool,
    answer: Option<Vec<u8>>,
    demux: Demux,
    interrupts: u32,
}

impl Session<'_> {
    /// Runs until output and, if asked for, the container have ended.
    pub fn run(mut self, cx: &mut Context) -> Result<End> {
        cx.out.flush()?;
        let raw = if self.tty && self.stdin { RawMode::enter()? } else { None };
        let end = self.turn();
        drop(raw);
        end
    }

    fn turn(&mut self) -> Result<End> {
        self.hijacked.socket.set_nonblocking(true)?;
        let keys = if self.tty { std::mem::take(&mut self.detach_keys) } else { Vec::new() };
        let mut detach = Detach { keys: &keys, seen: 0 };
        let mut state = Loop {
            pending: Vec::new(),
            stdin: self.stdin,
            output: true,
            answer: None,
            demux: Demux::default(),
            interrupts: 0,
        };
        let first = std::mem::take(&mut self.hijacked.leftover);
        self.output(&mut state, &first)?;
        loop {
            if !state.output && (self.wait.is_none() || state.answer.is_some()) {
                return Ok(End::Ended(state.answer));
            }
            let ready = self.wait_for(&state)?;
            if ready.signal
                && let Some(end) = self.signal(&mut state)?
            {
                return Ok(end);
            }
            if ready.readable {
                self.read_output(&mut state)?;
            }
            if ready.stdin && self.read_stdin(&mut state, &mut detach)? {
                return Ok(End::Detached);
            }
            if !state.pending.is_empty() || (ready.writable && !state.stdin) {
                self.write_stdin(&mut state);
            }
            if ready.answer
                && let Some(wait) = &mut self.wait
            {
                state.answer = Some(wait.whole()?);
            }
        }
    }

    fn wait_for(&self, state: &Loop) -> Result<Ready> {
        let stdin = io::stdin();
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(4);
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, state.output);
        flags.set(PollFlags::POLLOUT, !state.pending.is_empty());
        let socket = if flags.is_empty() {
            None
        } else {
            fds.push(PollFd::new(self.hijacked.socket.as_fd(), flags));
            Some(fds.len() - 1)
        };
        let input = (state.stdin && state.pending.is_empty()).then(|| {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            fds.len() - 1
        });
        let signal = self.signals.as_ref().map(|s| {
            fds.push(PollFd::new(s.fd.as_fd(), PollFlags::POLLIN));
            fds.len() - 1
        });
        let buffered = self.wait.as_ref().is_some_and(|w| w.buffered() && state.answer.is_none());
        let answer = self.wait.as_ref().filter(|_| state.answer.is_none()).and_then(|w| w.fd()).map(|fd| {
            fds.push(PollFd::new(fd, PollFlags::POLLIN));
            fds.len() - 1
        });
        let timeout = if buffered { PollTimeout::ZERO } else { PollTimeout::NONE };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let is = |at: Option<usize>, wanted: PollFlags| {
            at.and_then(|at| fds[at].revents()).is_some_and(|r| r.intersects(wanted | PollFlags::POLLERR))
        };
        let gone = PollFlags::POLLIN | PollFlags::POLLHUP;
        Ok(Ready {
            readable: state.output && is(socket, gone),
            writable: is(socket, PollFlags::POLLOUT),
            stdin: is(input, gone | PollFlags::POLLNVAL),
            signal: is(signal, PollFlags::POLLIN),
            answer: buffered || is(answer, gone),
        })
    }

    fn signal(&mut self, state: &mut Loop) -> Result<Option<End>> {
        let Some(signals) = &self.signals else { return Ok(None) };
        let proxy = signals.proxy;
        while let Some(info) = signals.fd.read_signal()? {
            let number = info.ssi_signo.cast_signed();
            if number == libc::SIGWINCH && self.tty {
                (self.on_signal)(Happening::Resized);
                continue;
            }
            if !proxy {
                return Ok(Some(End::Killed(number)));
            }
            if matches!(number, libc::SIGINT | libc::SIGTERM) {
                state.interrupts += 1;
                if state.interrupts >= 3 {
                    return Ok(Some(End::Forced));
                }
            }
            (self.on_signal)(Happening::Signal(number));
        }
        Ok(None)
    }

    fn read_output(&mut self, state: &mut Loop) -> Result<()> {
        let mut buffer = [0u8; 32 * 1024];
        match self.hijacked.socket.read(&mut buffer) {
            Ok(0) => state.output = false,
            Ok(n) => self.output(state, &buffer[..n])?,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // A daemon that went away resets; what came until then is all there is.
            Err(_) => state.output = false,
        }
        if !state.output {
            state.stdin = false;
            state.pending.clear();
        }
        Ok(())
    }

    fn output(&self, state: &mut Loop, bytes: &[u8]) -> Result<()> {
        if self.tty {
            return put(io::stdout().as_fd(), bytes);
        }
        state.demux.feed(bytes, &mut |stream, data| match stream {
            2 => put(io::stderr().as_fd(), data),
            _ => put(io::stdout().as_fd(), data),
        })
    }

    /// True when the user wants to leave.
    fn read_stdin(&mut self, state: &mut Loop, detach: &mut Detach<'_>) -> Result<bool> {
        let mut buffer = [0u8; 16 * 1024];
        match nix::unistd::read(io::stdin(), &mut buffer) {
            Ok(0) => {
                state.stdin = false;
                state.pending.extend_from_slice(&detach.keys[..detach.seen]);
                detach.seen = 0;
                if state.pending.is_empty() {
                    self.hijacked.close_write();
                }
            }
            Ok(n) => return Ok(detach.feed(&buffer[..n], &mut state.pending)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => {
                state.stdin = false;
                self.hijacked.close_write();
            }
        }
        Ok(false)
    }

    fn write_stdin(&mut self, state: &mut Loop) {
        while !state.pending.is_empty() {
            match self.hijacked.socket.write(&state.pending) {
                Ok(n) => {
                    state.pending.drain(..n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    // Nobody reads any more; output may still come.
                    state.pending.clear();
                    state.stdin = false;
                }
            }
        }
        if !state.stdin {
            self.hijacked.close_write();
        }
    }
}

struct Ready {
    readable: bool,
    writable: bool,
    stdin: bool,
    signal: bool,
    answer: bool,
}

/// Writes all of it, also to a descriptor that somebody made non-blocking.
fn put(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(Errno::EPIPE) => {
                crate::cli::context::note_closed();
                return Err(Errno::EPIPE.into());
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(parse_keys("ctrl-p,ctrl-q").unwrap(), [16, 17]);
        assert_eq!(parse_keys("ctrl-@,a,DEL,ctrl-_").unwrap(), [0, b'a', 127, 31]);
        assert!(parse_keys("ctrl-?").is_err() && parse_keys("xx").is_err());
    }

    #[test]
    fn sequence() {
        let keys = [16, 17];
        let mut detach = Detach { keys: &keys, seen: 0 };
        let mut out = Vec::new();
        assert!(!detach.feed(&[b'a', 16], &mut out));
        assert_eq!(out, b"a");
        assert!(!detach.feed(&[16, b'b'], &mut out));
        assert_eq!(out, [b'a', 16, 16, b'b']);
        assert!(detach.feed(&[16, 17, b'c'], &mut out));
    }
}
