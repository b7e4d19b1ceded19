//! What list and prune commands share: filters, labels, the question before
//! something is removed.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use crate::api::filters::Filters;
use crate::cli::context::Context;
use crate::cli::format::human;
use crate::error::{Error, Result};
use crate::util::time::{self, Timestamp};

/// Judges `--filter` while the line is read.
pub fn check(flag: &str, value: &str) -> Result<(), String> {
    if flag == "--filter" && !value.is_empty() && !value.contains('=') {
        return Err("bad format of filter (expected name=value)".to_owned());
    }
    Ok(())
}

/// The filters of a command line; names are of any case.
pub fn filters(given: &[String]) -> Filters {
    let mut filters = Filters::default();
    for filter in given {
        if let Some((name, value)) = filter.split_once('=') {
            filters.add(name.trim().to_lowercase().as_str(), value.trim());
        }
    }
    filters
}

/// The filters of a prune command: the configuration's `pruneFilters` too, unless
/// the line has the opposite.
pub fn prune_filters(cx: &Context, given: &[String]) -> Filters {
    let mut filters = filters(given);
    for filter in cx.config().list("pruneFilters") {
        let Some((name, value)) = filter.split_once('=') else { continue };
        let opposite = match name {
            "label" => "label!",
            "label!" => "label",
            _ => "",
        };
        if !filters.get(opposite).iter().any(|v| v == value) {
            filters.add(name, value);
        }
    }
    filters
}

/// `a=b,c=d` in the order of keys.
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(",")
}

/// `key=value` and bare `key` as a map, the last one counting.
pub fn pairs(given: &[String]) -> BTreeMap<String, String> {
    given
        .iter()
        .map(|p| p.split_once('=').unwrap_or((p.as_str(), "")))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

/// `2 hours ago` for a time in Unix seconds.
pub fn ago(seconds: i64) -> String {
    format!("{} ago", human::duration(age(seconds)))
}

/// RFC 3339 as Go prints a time: `2026-11-23 20:49:35.5 +0000 UTC`.
pub fn go_time(stamp: &str) -> String {
    match time::parse_rfc3339(stamp) {
        Some(t) => time::rfc3339_nano(t).replacen('T', " ", 1).replace('Z', " +0000 UTC"),
        None => stamp.to_owned(),
    }
}

/// Unix seconds as `2024-01-01T00:00:00Z`.
pub fn rfc3339(seconds: i64) -> String {
    time::rfc3339_nano(Timestamp::from_parts(seconds, 0))
}

fn age(seconds: i64) -> Duration {
    time::now().since(Timestamp::from_parts(seconds, 0))
}

/// Whether to go on with a prune: `--force`, or the user says so.
pub fn may_prune(cx: &mut Context, force: bool, warning: &str) -> Result<bool> {
    if force {
        return Ok(true);
    }
    cx.confirm(&format!("WARNING! {warning}\nAre you sure you want to continue?"))
}

/// What a prune command prints at its end.
pub fn pruned(cx: &mut Context, title: &str, names: &[String], reclaimed: u64) -> Result<()> {
    if !names.is_empty() {
        writeln!(cx.out, "{title}:\n{}\n", names.join("\n"))?;
    }
    writeln!(cx.out, "Total reclaimed space: {}", human::size(reclaimed as f64))?;
    Ok(())
}

/// A time as the API's `since` and `until` take it: seconds, with nanoseconds
/// behind the dot. A date, a Unix time, or a duration back from now.
pub fn instant(text: &str) -> Result<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let shown = |t: Timestamp| format!("{}.{:09}", t.secs(), t.nanos());
    // A duration too, but Docker means the beginning of time.
    if text == "0" {
        return Ok(text.to_owned());
    }
    if let Ok(nanos) = crate::util::units::parse_duration(text) {
        return Ok(shown(Timestamp(time::now().0 - i128::from(nanos))));
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.matches('.').count() <= 1 {
        return Ok(text.to_owned());
    }
    // Dates may lack the zone, the time, the seconds: Docker fills in from the right.
    let filled = |rest: &str| time::parse_rfc3339(&format!("{text}{rest}"));
    let found = ["", "Z", ":00Z", ":00:00Z", "T00:00:00Z"].iter().find_map(|rest| filled(rest));
    match found {
        Some(t) => Ok(shown(t)),
        None => Err(Error::invalid(format!("failed to parse value as time or duration: {text:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants() {
        assert_eq!(instant("1700000000.5").unwrap(), "1700000000.5");
        assert_eq!(instant("0").unwrap(), "0");
        assert_eq!(instant("2024-01-01").unwrap(), "1704067200.000000000");
        assert_eq!(instant("2024-01-01T00:00:01.5Z").unwrap(), "1704067201.500000000");
        assert_eq!(instant("2024-01-01T01:00").unwrap(), "1704070800.000000000");
        assert!(instant("10m").is_ok());
        assert_eq!(instant("x").unwrap_err().message(), "failed to parse value as time or duration: \"x\"");
    }

    #[test]
    fn filter_values() {
        let f = filters(&["Label=a=b".to_owned(), "dangling= true".to_owned()]);
        assert_eq!((f.get("label"), f.get("dangling")), (&["a=b".to_owned()][..], &["true".to_owned()][..]));
        assert!(check("--filter", "x").is_err() && check("--filter", "x=").is_ok());
    }
}
