//! The detach sequence: `ctrl-p,ctrl-q`, single characters and `DEL`. Pure.

use crate::error::{Error, Result};

/// ctrl-p, ctrl-q.
pub const DEFAULT: &[u8] = &[16, 17];

/// The bytes to look for; empty text means "the default", given back empty.
pub fn parse(text: &str) -> Result<Vec<u8>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|key| byte(key).ok_or_else(|| Error::invalid(format!("Invalid detach keys ({text}) provided"))))
        .collect()
}

fn byte(key: &str) -> Option<u8> {
    if let [one] = key.as_bytes() {
        return Some(*one);
    }
    if key.eq_ignore_ascii_case("DEL") {
        return Some(127);
    }
    let rest = key.strip_prefix("ctrl-")?;
    match rest.as_bytes() {
        [c @ b'a'..=b'z'] => Some(c - b'a' + 1),
        [c @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(c - b'@'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences() {
        assert_eq!(parse("").unwrap(), b"");
        assert_eq!(parse("ctrl-p,ctrl-q").unwrap(), DEFAULT);
        assert_eq!(parse("a,ctrl-@,ctrl-_,DEL").unwrap(), [b'a', 0, 31, 127]);
        assert_eq!(parse("ctrl-é").unwrap_err().message(), "Invalid detach keys (ctrl-é) provided");
    }
}
