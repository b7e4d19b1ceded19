//! Sizes and ages as people read them, in the wording of Docker. Pure.

use std::time::Duration;

/// `%.{digits}g` of Go: significant digits, an exponent when the number is too
/// large for them (999.9 to three digits is `1e+03`).
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{:.*e}", digits - 1, value);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |s: &str| match s.contains('.') {
        true => s.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => s.to_owned(),
    };
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(digits as i32 - 1 - exponent).unwrap_or(0);
    trim(&format!("{value:.decimals$}"))
}

fn scaled(size: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut size = size;
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    format!("{}{}", significant(size, digits), units[unit])
}

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Decimal units, four digits: `13.46MB`.
pub fn size(bytes: f64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 4)
}

/// Decimal units, three digits: `13.5MB`.
pub fn size3(bytes: f64) -> String {
    scaled(bytes, 1000.0, &DECIMAL, 3)
}

/// Binary units, four digits: `1.953GiB`.
pub fn binary_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

/// `About a minute`, `2 hours`, …; ages in lists add ` ago`.
pub fn duration(d: Duration) -> String {
    let seconds = d.as_secs();
    let hours = (d.as_secs_f64() / 3600.0 + 0.5) as u64;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        s if s < 60 => format!("{s} seconds"),
        s if s < 120 => "About a minute".to_owned(),
        s if s < 3600 => format!("{} minutes", s / 60),
        _ => match hours {
            0 | 1 => "About an hour".to_owned(),
            h if h < 48 => format!("{h} hours"),
            h if h < 24 * 7 * 2 => format!("{} days", h / 24),
            h if h < 24 * 30 * 2 => format!("{} weeks", h / 24 / 7),
            h if h < 24 * 365 * 2 => format!("{} months", h / 24 / 30),
            _ => format!("{} years", (d.as_secs_f64() / 3600.0) as u64 / 24 / 365),
        },
    }
}

/// At most `width` characters, the last of them `…` when something is lost.
/// Wide characters count as one: columns are rarely that exact.
pub fn ellipsis(s: &str, width: usize) -> String {
    if s.chars().count() <= width {
        return s.to_owned();
    }
    match width {
        0 => String::new(),
        n => s.chars().take(n - 1).chain(['…']).collect(),
    }
}

/// The first `n` bytes, backing off from the middle of a character.
pub fn cut_bytes(s: &str, n: usize) -> &str {
    let mut end = n.min(s.len());
    while !s.is_char_boundary(end) {
        end -= 1;
    }
    &s[..end]
}

/// `2006-01-02 15:04:05 +0000 UTC`: how Go prints the time of a list row.
/// Our static binary knows no zones; lists are in UTC, as on most servers.
pub fn date(secs: i64) -> String {
    let stamp = crate::util::time::rfc3339_nano(crate::util::time::Timestamp::from_parts(secs, 0));
    stamp.replacen('T', " ", 1).replace('Z', " +0000 UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, four, three) in [
            (0.0, "0B", "0B"),
            (999.0, "999B", "999B"),
            (1000.0, "1kB", "1kB"),
            (1_982_715.0, "1.983MB", "1.98MB"),
            (273_146_463.0, "273.1MB", "273MB"),
            (999_900.0, "999.9kB", "1e+03kB"),
        ] {
            assert_eq!(size(bytes), four);
            assert_eq!(size3(bytes), three);
        }
        assert_eq!(binary_size(25_260_961_792.0), "23.53GiB");
    }

    #[test]
    fn ages() {
        for (secs, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (150, "2 minutes"),
            (3700, "About an hour"),
            (2 * 3600, "2 hours"),
            (3 * 86_400, "3 days"),
            (20 * 86_400, "2 weeks"),
            (100 * 86_400, "3 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(secs)), text);
        }
        assert_eq!(date(1_704_067_200), "2024-01-01 00:00:00 +0000 UTC");
    }

    #[test]
    fn cuts() {
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(cut_bytes("aé", 2), "a");
    }
}
