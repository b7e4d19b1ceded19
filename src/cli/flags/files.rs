//! Environment and labels, from flags and from files of them.

use crate::error::{Error, Result, errno_text};
use std::collections::BTreeMap;

/// The variables of the files, then those of the flags. A bare name takes the
/// client's own value; without one it stays bare in a flag (the daemon then
/// unsets it) and is left out of a file.
pub fn environment(files: &[String], flags: &[String]) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for file in files {
        for line in lines(file)? {
            match line.split_once('=') {
                Some(_) => out.push(line),
                None => out.extend(inherited(&line)),
            }
        }
    }
    for flag in flags {
        match flag.contains('=') {
            true => out.push(flag.clone()),
            false => out.push(inherited(flag).unwrap_or_else(|| flag.clone())),
        }
    }
    Ok(out)
}

fn inherited(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| format!("{name}={}", value.to_string_lossy()))
}

pub fn labels(files: &[String], flags: &[String]) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for file in files {
        for line in lines(file)? {
            if let Some((key, value)) = line.split_once('=') {
                out.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    out.extend(super::key_values(flags));
    Ok(out)
}

/// The lines of such a file: blanks in front, empty ones and comments gone.
fn lines(file: &str) -> Result<Vec<String>> {
    let bytes = std::fs::read(file).map_err(|e| Error::invalid(format!("open {file}: {}", errno_text(&e))))?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut out = Vec::new();
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = std::str::from_utf8(line)
            .map_err(|_| Error::invalid(format!("invalid env file ({file}): invalid utf8 bytes at line {}", n + 1)))?;
        let line = line.trim_start().trim_end_matches('\r');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or("");
        if name.is_empty() {
            return Err(Error::invalid(format!("invalid env file ({file}): no variable name on line '{line}'")));
        }
        if name.contains(char::is_whitespace) {
            return Err(Error::invalid(format!("invalid env file ({file}): variable '{name}' contains whitespaces")));
        }
        out.push(line.to_owned());
    }
    Ok(out)
}
