//! Times in queries: unix seconds with a fraction, RFC 3339, and Go durations
//! that count back from now. Pure but for the clock.

use crate::api::filters::Filters;
use crate::error::{Error, Result};
use crate::util::time::{Timestamp, now, parse_rfc3339};

/// The `until` filter of the prunes.
pub fn parse(filters: &Filters) -> Result<Option<Timestamp>> {
    match filters.get("until") {
        [] => Ok(None),
        [one] => point(one)
            .map(Some)
            .ok_or_else(|| Error::invalid(format!("failed to parse value as time or duration: {one:?}"))),
        _ => Err(Error::invalid("more than one until filter specified")),
    }
}

/// A point in time in any of the forms.
pub fn point(text: &str) -> Option<Timestamp> {
    if let Some(back) = duration(text) {
        return Some(Timestamp(now().0.saturating_sub(back)));
    }
    seconds(text).or_else(|| parse_rfc3339(text)).or_else(|| {
        // A date, or a date and a time without a zone, is UTC.
        [format!("{text}Z"), format!("{text}:00Z"), format!("{text}T00:00:00Z")].iter().find_map(|t| parse_rfc3339(t))
    })
}

/// `SECONDS[.FRACTION]`.
pub fn seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(Timestamp::from_parts(whole, nanos.parse().ok()?))
}

/// Go's durations, in nanoseconds: `1h30m`, `1.5s`, `-2m`.
pub fn duration(text: &str) -> Option<i128> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let units = [("ms", 1e6), ("us", 1e3), ("µs", 1e3), ("ns", 1.0), ("h", 3.6e12), ("m", 6e10), ("s", 1e9)];
        let (unit, factor) = units.iter().find(|(u, _)| rest.starts_with(u))?;
        rest = &rest[unit.len()..];
        total += number * factor;
    }
    Some(sign * total as i128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms() {
        assert_eq!(seconds("12.5"), Some(Timestamp(12_500_000_000)));
        assert_eq!(duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(duration("1.5s"), Some(1_500_000_000));
        assert_eq!(duration("10"), None);
        assert_eq!(point("2026-01-01"), parse_rfc3339("2026-01-01T00:00:00Z"));
        assert_eq!(point("2026-01-01T10:00"), parse_rfc3339("2026-01-01T10:00:00Z"));
        assert!(point("1h").unwrap() < now());
        assert_eq!(point("bogus"), None);
        // Beyond all times, and no panic.
        let far = "9".repeat(300) + "h";
        assert!(point(&format!("-{far}")).unwrap() > point(&far).unwrap());
    }
}
