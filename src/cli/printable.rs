//! What strangers wrote, on a terminal. Names, labels, progress and errors come from
//! images, registries and daemons: none of it may move the cursor, set the title or
//! type on the keyboard. The original lets it all through. Pure.
//!
//! Invariant: of the control characters only line ends and tabs pass; colours (SGR)
//! where they are asked for, because people put them into their own formats.

use std::borrow::Cow;

/// `bytes` with a `?` in place of each control character (C0, DEL, C1) and of what is
/// no UTF-8. With `colours`, `ESC [ … m` passes.
pub fn harmless(bytes: &[u8], colours: bool) -> Cow<'_, [u8]> {
    if std::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(is_control)) {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        sieve(chunk.valid(), colours, &mut out);
        if !chunk.invalid().is_empty() {
            out.push(b'?');
        }
    }
    Cow::Owned(out)
}

/// The same for text, without colours.
pub fn plain(text: &str) -> String {
    String::from_utf8_lossy(&harmless(text.as_bytes(), false)).into_owned()
}

fn is_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

fn sieve(text: &str, colours: bool, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.find(is_control) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let found = &rest[at..];
        let used = match found.chars().next() {
            Some('\r') if found[1..].starts_with('\n') => 1,
            Some('\x1b') if colours => colour(found),
            _ => 0,
        };
        if used > 0 {
            out.extend_from_slice(&found.as_bytes()[..used]);
            rest = &found[used..];
        } else {
            out.push(b'?');
            rest = &found[found.chars().next().map_or(1, char::len_utf8)..];
        }
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Length of the SGR sequence that `text` begins with, or 0.
fn colour(text: &str) -> usize {
    let Some(body) = text.strip_prefix("\x1b[") else { return 0 };
    let end = body.bytes().position(|b| !(b.is_ascii_digit() || matches!(b, b';' | b':')));
    match end.map(|end| (end, body.as_bytes()[end])) {
        Some((end, b'm')) => 2 + end + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_drives_a_terminal() {
        for (given, strict, coloured) in [
            ("plain äöü\tx\r\n", "plain äöü\tx\r\n", "plain äöü\tx\r\n"),
            ("a\x1b[2Jb", "a?[2Jb", "a?[2Jb"),
            ("\x1b]0;title\x07", "?]0;title?", "?]0;title?"),
            ("\x1b[1;31mred\x1b[0m", "?[1;31mred?[0m", "\x1b[1;31mred\x1b[0m"),
            ("\u{9b}2J\u{7f}\u{85}", "?2J??", "?2J??"),
            ("over\rwritten\x08", "over?written?", "over?written?"),
            ("\x1b[", "?[", "?["),
        ] {
            assert_eq!(plain(given), strict, "{given:?}");
            assert_eq!(harmless(given.as_bytes(), true), coloured.as_bytes(), "{given:?}");
        }
        assert_eq!(&*harmless(b"\x9b2J\xff", false), b"?2J?");
    }
}
