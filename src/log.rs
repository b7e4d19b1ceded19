//! The daemon's log: one line per state change in dockerd's logfmt or JSON on
//! stderr. Used by the daemon's processes and all their threads.
//!
//! Invariant: one `write` per line, never a panic (a closed stderr is ignored),
//! nothing after a clone, and no secret is ever handed in.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

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
    let _ = std::io::stderr().write_all(line.as_bytes());
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
