//! The option columns of a help text in Docker's layout, from argh's description
//! of a command. Pure; used by the client and by the daemon.

use super::argv;
use crate::util::order;
use argh::{FlagInfo, FlagInfoKind};

/// The two columns of options, in the order of their long names.
pub fn options(out: &mut String, mut flags: Vec<&FlagInfo<'_>>, width: usize) {
    order::sort_by_key(&mut flags, |f| f.long);
    let heads: Vec<String> = flags.iter().map(|f| head(f)).collect();
    let column = heads.iter().map(String::len).max().unwrap_or(0) + 3;
    for (flag, head) in flags.iter().zip(&heads) {
        let mut line = format!("{head:column$}");
        let room = width.saturating_sub(column).max(24);
        for (n, part) in fold(&capital(flag.description), room).into_iter().enumerate() {
            if n > 0 {
                out.push_str(line.trim_end());
                out.push('\n');
                line = " ".repeat(column);
            }
            line.push_str(&part);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// `  -p, --publish list`.
fn head(flag: &FlagInfo<'_>) -> String {
    let short = flag.short.map_or_else(|| "    ".to_owned(), |c| format!("-{c}, "));
    match &flag.kind {
        FlagInfoKind::Option { arg_name } if !argv::is_bool(flag) => format!("  {short}{} {arg_name}", flag.long),
        _ => format!("  {short}{}", flag.long),
    }
}

/// argh wants descriptions to begin in lower case; readers want a capital.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

/// Words filled into lines of at most `room` columns.
fn fold(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a last line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() < room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
