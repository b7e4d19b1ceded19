//! Sizes, durations and numbers as Go programs read them: the forms that flags,
//! filters and daemon.json share. Pure; error texts are those users know from
//! Docker.

use std::time::Duration;

/// `128`, `1k`, `1.5GiB`, `2 mb`: powers of 1024 whatever the spelling.
pub fn parse_bytes(text: &str) -> Result<i64, String> {
    let bad = || format!("invalid size: '{text}'");
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.').ok_or_else(bad)?;
    let (number, suffix) = text.split_at(end + 1);
    if number.starts_with(['-', '+']) || number.contains(['e', 'E']) {
        return Err(bad());
    }
    let value: f64 = number.parse().map_err(|_| bad())?;
    let suffix = suffix.strip_prefix(' ').unwrap_or(suffix).to_ascii_lowercase();
    let unit = match suffix.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    // Whole numbers keep every digit: an f64 has only 53 bits of them.
    match number.parse::<i64>() {
        Ok(whole) => whole.checked_mul(1 << (10 * unit)).ok_or_else(bad),
        Err(_) => Ok((value * f64::from(1 << 10_i32).powi(unit)) as i64),
    }
}

/// Go's time.ParseDuration in nanoseconds: `1h30m`, `1.5s`, `-2ms`, `0`.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let bad = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number = &rest[..end];
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return Err(bad());
        }
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit: i128 = match &rest[..end] {
            "" => return Err(format!("time: missing unit in duration {}", quote(text))),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            other => return Err(format!("time: unknown unit {} in duration {}", quote(other), quote(text))),
        };
        rest = &rest[end..];
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if !whole.is_empty() {
            total += whole.parse::<i128>().map_err(|_| bad())?.checked_mul(unit).ok_or_else(bad)?;
        }
        let mut scale = unit;
        for digit in fraction.bytes() {
            scale /= 10;
            total += i128::from(digit - b'0') * scale;
        }
        if total > i128::from(i64::MAX) {
            return Err(bad());
        }
    }
    Ok(if negative { -(total as i64) } else { total as i64 })
}

/// Go's Duration.String: `1m30s`, `1.5ms`, `0s`.
pub fn duration(d: Duration) -> String {
    let nanos = d.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    let decimal = |value: u128, unit: u128| {
        let digits = unit.ilog10() as usize;
        let fraction = format!("{:0digits$}", value % unit);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() { format!("{}", value / unit) } else { format!("{}.{fraction}", value / unit) }
    };
    match nanos {
        0..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let seconds = d.as_secs();
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = format!("{}s", decimal(nanos % 60_000_000_000, 1_000_000_000));
            match (hours, minutes) {
                (0, 0) => rest,
                (0, m) => format!("{m}m{rest}"),
                (h, m) => format!("{h}h{m}m{rest}"),
            }
        }
    }
}

/// Go's strconv.ParseBool.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text))),
    }
}

/// Go's strconv.ParseInt with base 0 and the given width.
pub fn parse_int(text: &str, bits: u32) -> Result<i64, String> {
    let syntax = || format!("strconv.ParseInt: parsing {}: invalid syntax", quote(text));
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let value = radix_digits(digits).ok_or_else(syntax)?;
    let limit = 1u128 << (bits - 1);
    let range = || format!("strconv.ParseInt: parsing {}: value out of range", quote(text));
    match value {
        Some(v) if negative && v <= limit => Ok(-(v as i128) as i64),
        Some(v) if !negative && v < limit => Ok(v as i64),
        _ => Err(range()),
    }
}

/// Go's strconv.ParseUint with base 0 and the given width.
pub fn parse_uint(text: &str, bits: u32) -> Result<u64, String> {
    let value =
        radix_digits(text).ok_or_else(|| format!("strconv.ParseUint: parsing {}: invalid syntax", quote(text)))?;
    match value {
        Some(v) if v < (1u128 << bits) => Ok(v as u64),
        _ => Err(format!("strconv.ParseUint: parsing {}: value out of range", quote(text))),
    }
}

/// `None`: no number at all. `Some(None)`: a number past 128 bits.
fn radix_digits(text: &str) -> Option<Option<u128>> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some(u128::from_str_radix(digits, radix).ok())
}

/// `--cpus`: a decimal or a fraction as billionths.
pub fn parse_nano_cpus(text: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {text} as a rational number");
    let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
    let (whole, fraction) = numerator.split_once('.').unwrap_or((numerator, ""));
    let (negative, whole) = match whole.strip_prefix('-') {
        Some(w) => (true, w),
        None => (false, whole.strip_prefix('+').unwrap_or(whole)),
    };
    let digits = |s: &str| s.bytes().all(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) || fraction.len() > 25 {
        return Err(bad());
    }
    let denominator: i128 = denominator.parse().ok().filter(|d| *d > 0).ok_or_else(bad)?;
    let value: i128 = format!("0{whole}{fraction}").parse().map_err(|_| bad())?;
    let scaled = value.checked_mul(1_000_000_000).ok_or_else(bad)?;
    let denominator = denominator.checked_mul(10i128.pow(fraction.len() as u32)).ok_or_else(bad)?;
    if scaled % denominator != 0 {
        return Err("value is too precise".into());
    }
    let nano = i64::try_from(scaled / denominator).map_err(|_| bad())?;
    Ok(if negative { -nano } else { nano })
}

/// Go's %q for the texts that turn up in messages.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Decimal units with four significant digits, as progress shows them: Go's `%.4g`.
pub fn human_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

/// The names of limits.
const ULIMITS: &[&str] = &[
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
];

/// `name=soft[:hard]`, in the words of the original's parser.
pub fn parse_ulimit(value: &str) -> Result<(String, i64, i64), String> {
    let (name, limits) = value.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {value}"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let parts: Vec<&str> = limits.split(':').collect();
    if parts.len() > 2 {
        return Err(format!("too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"));
    }
    let number = |t: &str| parse_int(t, 64);
    let soft = number(parts[0])?;
    let hard = match parts.get(1) {
        Some(hard) => number(hard)?,
        None => soft,
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(if soft == -1 {
            format!("ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}")
        } else {
            format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
        });
    }
    Ok((name.to_owned(), soft, hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("1k"), Ok(1024));
        assert_eq!(parse_bytes("1.5g"), Ok(1_610_612_736));
        assert_eq!(parse_bytes("64MiB"), Ok(67_108_864));
        assert_eq!(parse_bytes("x"), Err("invalid size: 'x'".into()));
        assert_eq!(parse_bytes("-1"), Err("invalid size: '-1'".into()));
        assert_eq!(parse_bytes("1z"), Err("invalid suffix: 'z'".into()));
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1h30m"), Ok(5_400_000_000_000));
        assert_eq!(parse_duration("1.5s"), Ok(1_500_000_000));
        assert_eq!(parse_duration("z"), Err("time: invalid duration \"z\"".into()));
        assert_eq!(parse_duration("3"), Err("time: missing unit in duration \"3\"".into()));
        assert_eq!(duration(Duration::from_millis(90_500)), "1m30.5s");
        assert_eq!(duration(Duration::from_secs(7200)), "2h0m0s");
        assert_eq!(duration(Duration::from_micros(1500)), "1.5ms");
    }

    #[test]
    fn numbers() {
        assert_eq!(parse_int("-5", 64), Ok(-5));
        assert_eq!(parse_int("0x10", 64), Ok(16));
        assert!(parse_int("z", 64).unwrap_err().ends_with("invalid syntax"));
        assert_eq!(parse_uint("99999", 16).unwrap_err(), "strconv.ParseUint: parsing \"99999\": value out of range");
        assert_eq!(parse_nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_nano_cpus("1/4"), Ok(250_000_000));
        assert_eq!(parse_nano_cpus("z").unwrap_err(), "failed to parse z as a rational number");
    }

    #[test]
    fn human_sizes() {
        for (n, want) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (18_081_754, "18.08MB"),
            (458_752, "458.8kB"),
            (1_500_000, "1.5MB"),
        ] {
            assert_eq!(human_size(n), want);
        }
    }
}
