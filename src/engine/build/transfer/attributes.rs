//! `--chmod` and `--chown`. Pure but for the stage's own passwd and group.

use super::tree::Target;
use crate::error::{Error, Result};

/// `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    Absolute(u32),
    /// Who (bits of u, g, o), operator, permissions (`rwxXst`).
    Symbolic(Vec<(u32, char, String)>),
}

impl ModeChange {
    /// Octal, or `u=rwX,go-w`.
    pub fn parse(text: &str) -> Result<Self> {
        if let Ok(mode) = u32::from_str_radix(text, 8)
            && mode <= 0o7777
        {
            return Ok(ModeChange::Absolute(mode));
        }
        let bad = || {
            Error::invalid(format!(
                "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
            ))
        };
        let mut changes = Vec::new();
        for clause in text.split(',') {
            let at = clause.find(['+', '-', '=']).ok_or_else(bad)?;
            let (who, rest) = clause.split_at(at);
            let mut bits = 0;
            for c in who.chars() {
                bits |= match c {
                    'u' => 0o4700,
                    'g' => 0o2070,
                    'o' => 0o1007,
                    'a' => 0o7777,
                    _ => return Err(bad()),
                };
            }
            let permissions = &rest[1..];
            if !permissions.chars().all(|c| "rwxXst".contains(c)) {
                return Err(bad());
            }
            changes.push((if bits == 0 { 0o7777 } else { bits }, rest.as_bytes()[0] as char, permissions.to_owned()));
        }
        Ok(ModeChange::Symbolic(changes))
    }

    pub(super) fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            ModeChange::Absolute(mode) => *mode,
            ModeChange::Symbolic(changes) => changes.iter().fold(mode, |mode, (who, operator, permissions)| {
                let bits = permissions.chars().fold(0, |bits, c| {
                    bits | match c {
                        'r' => 0o444,
                        'w' => 0o222,
                        'x' => 0o111,
                        'X' if is_dir || mode & 0o111 != 0 => 0o111,
                        's' => 0o6000,
                        't' => 0o1000,
                        _ => 0,
                    }
                }) & who;
                match operator {
                    '+' => mode | bits,
                    '-' => mode & !bits,
                    _ => (mode & !(who & 0o777)) | bits,
                }
            }),
        }
    }
}

/// `--chown`: numbers as they are, names from the stage's own files.
pub fn owner(text: &str, target: &Target) -> Result<(u64, u64)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let find = |file: &str, name: &str| -> Result<Vec<String>> {
        let text = target.read(file);
        let line = text.lines().find(|l| l.split(':').next() == Some(name));
        let kind = if file.ends_with("group") { "group" } else { "user" };
        line.map(|l| l.split(':').map(str::to_owned).collect())
            .ok_or_else(|| Error::invalid(format!("can't find {kind} {name} in {file}: {kind} not found")))
    };
    let number = |row: &[String], column: usize| row.get(column).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let (uid, primary) = match user.parse::<u64>() {
        Ok(uid) => (uid, uid),
        Err(_) => {
            let row = find("/etc/passwd", user)?;
            (number(&row, 2), number(&row, 3))
        }
    };
    let gid = match group {
        None | Some("") => primary,
        Some(group) => match group.parse::<u64>() {
            Ok(gid) => gid,
            Err(_) => number(&find("/etc/group", group)?, 2),
        },
    };
    Ok((uid, gid))
}
