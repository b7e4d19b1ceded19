//! The daemon's log: one line per state change in dockerd's logfmt or JSON on
//! stderr. Used by the daemon's processes and all their threads.
//!
//! Invariant: one `write` per line, never a panic (a closed stderr is ignored),
//! nothing after a clone, and no secret is ever handed in.
//!
//! Where no service manager keeps stderr, [`to_file`] puts a file in its place, for
//! panics too, and begins a new one before it grows without end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A log file is begun anew at this size,
const FILE_SIZE: u64 = 10_000_000;
/// and so many old ones are kept: `PATH.1` is the youngest.
const KEPT: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warning",
            Level::Error => "error",
            Level::Fatal => "fatal",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);
static FORMAT: OnceLock<Format> = OnceLock::new();

/// Sets the threshold; may be called again when the configuration is re-read.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Chooses the line format once, before the first line.
pub fn set_format(format: Format) {
    let _ = FORMAT.set(format);
}

pub fn enabled(level: Level) -> bool {
    level as u8 >= LEVEL.load(Ordering::Relaxed)
}

/// Writes one line. `fields` are appended as `key=value`; use the macros.
pub fn write(level: Level, message: &str, fields: &[(&str, &dyn std::fmt::Display)]) {
    if !enabled(level) {
        return;
    }
    let time = crate::util::time::rfc3339_nano(crate::util::time::now());
    let mut line = String::with_capacity(128);
    match FORMAT.get().copied().unwrap_or(Format::Text) {
        Format::Text => {
            use std::fmt::Write as _;
            let _ = write!(line, "time={} level={} msg={}", quote(&time), level.name(), quote(message));
            for (key, value) in fields {
                let _ = write!(line, " {key}={}", quote(&value.to_string()));
            }
        }
        Format::Json => {
            let mut map = serde_json::Map::new();
            map.insert("level".into(), level.name().into());
            map.insert("msg".into(), message.into());
            map.insert("time".into(), time.into());
            for (key, value) in fields {
                map.insert((*key).into(), value.to_string().into());
            }
            line = serde_json::Value::Object(map).to_string();
        }
    }
    line.push('\n');
    let _ = io::stderr().write_all(line.as_bytes());
    let mut sink = SINK.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sink) = &mut *sink {
        sink.written += line.len() as u64;
        if sink.written >= FILE_SIZE {
            let _ = sink.rotate();
        }
    }
}

/// The file that stderr is.
struct Sink {
    path: PathBuf,
    written: u64,
}

static SINK: Mutex<Option<Sink>> = Mutex::new(None);

impl Sink {
    fn open(path: &Path) -> io::Result<Self> {
        let file: File = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        nix::unistd::dup2_stderr(&file)?;
        Ok(Self { path: path.into(), written: file.metadata()?.len() })
    }
    fn old(&self, n: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{n}"));
        name.into()
    }
    fn rotate(&mut self) -> io::Result<()> {
        // Also when it fails: a full disk must not make every line try again.
        self.written = 0;
        for n in (1..KEPT).rev() {
            let _ = std::fs::rename(self.old(n), self.old(n + 1));
        }
        std::fs::rename(&self.path, self.old(1))?;
        *self = Self::open(&self.path)?;
        Ok(())
    }
}

/// From now on stderr is this file.
pub fn to_file(path: &Path) -> io::Result<()> {
    *SINK.lock().unwrap_or_else(PoisonError::into_inner) = Some(Sink::open(path)?);
    Ok(())
}

/// Opens the file by its name again: somebody else (logrotate) moved the old one.
pub fn reopen() {
    let mut sink = SINK.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(old) = &mut *sink
        && let Ok(new) = Sink::open(&old.path)
    {
        *old = new;
    }
}

/// logrus quotes whatever is not made of plain word characters.
fn quote(s: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if !s.is_empty() && s.chars().all(plain) { s.to_owned() } else { format!("{s:?}") }
}

#[macro_export]
macro_rules! debug { ($msg:expr $(, $k:literal = $v:expr)* $(,)?) => { $crate::log::write($crate::log::Level::Debug, &$msg.to_string(), &[$(($k, &$v)),*]) }; }
#[macro_export]
macro_rules! info { ($msg:expr $(, $k:literal = $v:expr)* $(,)?) => { $crate::log::write($crate::log::Level::Info, &$msg.to_string(), &[$(($k, &$v)),*]) }; }
#[macro_export]
macro_rules! warn { ($msg:expr $(, $k:literal = $v:expr)* $(,)?) => { $crate::log::write($crate::log::Level::Warn, &$msg.to_string(), &[$(($k, &$v)),*]) }; }
#[macro_export]
macro_rules! error { ($msg:expr $(, $k:literal = $v:expr)* $(,)?) => { $crate::log::write($crate::log::Level::Error, &$msg.to_string(), &[$(($k, &$v)),*]) }; }
