//! `--log-driver` and `--log-opt`: defaults, Docker's refusals, and what the
//! shim is told. Pure.

use super::log_tag;
use super::record::Record;
use crate::api::container::LogConfig;
use crate::engine::EngineConfig;
use crate::error::{Error, Result};
use crate::runtime::spec::{LogDriver, LogSpec};
use crate::util::{json, units};
use std::collections::BTreeMap;
use std::path::Path;

const JSON_FILE: &[&str] = &["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];
const LOCAL: &[&str] = &["max-file", "max-size", "compress"];
const COMMON: &[&str] = &["mode", "max-buffer-size"];

/// Fills in the daemon's defaults and checks the result.
pub fn settle(log: &mut LogConfig, engine: &EngineConfig) -> Result<()> {
    if log.kind.is_empty() {
        log.kind.clone_from(&engine.log_driver);
    }
    let options = log.config.get_or_insert_default();
    if log.kind == engine.log_driver {
        for (key, value) in &engine.log_opts {
            options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let mode = options.get("mode").map(String::as_str).unwrap_or_default();
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(Error::invalid(format!("logger: logging mode not supported: {mode}")));
    }
    if let Some(size) = options.get("max-buffer-size") {
        if mode != "non-blocking" {
            return Err(Error::invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'"));
        }
        parse_size(size)
            .ok_or_else(|| Error::invalid(format!("error parsing option max-buffer-size: invalid size: '{size}'")))?;
    }
    let (known, text): (&[&str], fn(&str) -> String) = match log.kind.as_str() {
        "json-file" => (JSON_FILE, |k| format!("unknown log opt '{k}' for json-file log driver")),
        "local" => (LOCAL, |k| format!("unknown log opt '{k}' for log driver local")),
        "none" => return Ok(()),
        kind => {
            return Err(Error::invalid(format!("error looking up logging plugin {kind}: plugin \"{kind}\" not found")));
        }
    };
    match options.keys().find(|k| !known.contains(&k.as_str()) && !COMMON.contains(&k.as_str())) {
        Some(key) => Err(Error::invalid(text(key))),
        None => Ok(()),
    }
}

/// `10k`, `5m`, `1g`, plain bytes; none for what is no size.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let text = text.strip_suffix('i').unwrap_or(text);
    let (digits, factor) = match text.chars().last()? {
        'k' => (&text[..text.len() - 1], 1u64 << 10),
        'm' => (&text[..text.len() - 1], 1 << 20),
        'g' => (&text[..text.len() - 1], 1 << 30),
        't' => (&text[..text.len() - 1], 1 << 40),
        _ => (text, 1),
    };
    let number: f64 = digits.trim().parse().ok().filter(|n: &f64| *n >= 0.0)?;
    Some((number * factor as f64) as u64)
}

/// The log file of a container with the json-file driver, "" for others.
pub fn json_path(record: &Record, dir: &Path) -> String {
    match record.host_config.log_config.kind.as_str() {
        "json-file" => dir.join(format!("{}-json.log", record.id)).display().to_string(),
        _ => String::new(),
    }
}

/// What the shim is to do. Refuses values that Docker refuses at start.
pub fn spec(record: &Record, dir: &Path) -> Result<LogSpec> {
    let spec = judge(record, dir);
    spec.map_err(|e| {
        Error::invalid(format!("failed to create task for container: failed to initialize logging driver: {e}"))
    })
}

/// The same, in the words of the driver alone.
fn judge(record: &Record, dir: &Path) -> Result<LogSpec, String> {
    let log = &record.host_config.log_config;
    let empty = BTreeMap::new();
    let options = log.config.as_ref().unwrap_or(&empty);
    let get = |key: &str| options.get(key).map(String::as_str).filter(|v| !v.is_empty());
    let local = log.kind == "local";
    let size = |key: &str| {
        let context = if local { "invalid value for max-size: " } else { "" };
        let text = |v: &str| match v.starts_with('-') && local {
            true => format!("{context}{v}: invalid size: '{v}'"),
            false => format!("invalid size: '{v}'"),
        };
        get(key).map(|v| parse_size(v).ok_or_else(|| text(v))).transpose()
    };
    let max_size = size("max-size")?.filter(|n| *n > 0);
    let max_file = match get("max-file") {
        None => None,
        Some(text) => match text.parse::<i64>() {
            Err(_) => return Err(format!("strconv.Atoi: parsing \"{text}\": invalid syntax")),
            Ok(number) if number < 1 && !local => return Err("max-file cannot be less than 1".into()),
            Ok(number) => Some(number.max(0) as u32),
        },
    };
    let context = if local { "error reading compress log option: " } else { "" };
    let compress = get("compress").map(units::parse_bool).transpose().map_err(|e| format!("{context}{e}"))?;
    let driver = match log.kind.as_str() {
        "json-file" => {
            let max_file = max_file.unwrap_or(1);
            if compress == Some(true) && (max_size.is_none() || max_file < 2) {
                return Err("compress cannot be true when max-file is less than 2 or max-size is not set".into());
            }
            let attrs = attributes(record, options).map_err(|e| e.message().to_owned())?;
            let path = json_path(record, dir).into();
            LogDriver::JsonFile { path, max_size, max_file, compress: compress.unwrap_or(false), attrs }
        }
        "local" => {
            let (max_file, compress) = (max_file.unwrap_or(5), compress.unwrap_or(true));
            if compress && max_file < 2 {
                return Err("compression cannot be enabled when max file count is 1".into());
            }
            let path = dir.join("local-logs").join("container.log");
            LogDriver::Local { path, max_size: max_size.unwrap_or(20 << 20), max_file: max_file.max(1), compress }
        }
        _ => LogDriver::None,
    };
    let ring_bytes = match get("mode") {
        Some("non-blocking") => Some(size("max-buffer-size")?.unwrap_or(1 << 20)),
        _ => None,
    };
    Ok(LogSpec { driver, ring_bytes })
}

/// The `attrs` of every json-file line: chosen labels and variables, and a tag.
fn attributes(record: &Record, options: &BTreeMap<String, String>) -> Result<String> {
    let mut chosen = BTreeMap::new();
    let names = |key: &str| -> Vec<String> {
        let list = options.get(key).map(String::as_str).unwrap_or_default();
        list.split(',').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
    };
    let regex = |key: &str| {
        let bad = |e: regex_lite::Error| Error::invalid(format!("error parsing regexp: {e}"));
        let text = options.get(key).filter(|r| !r.is_empty());
        text.map(|r| regex_lite::Regex::new(r).map_err(bad)).transpose()
    };
    let (labels, labels_regex) = (names("labels"), regex("labels-regex")?);
    for (key, value) in record.config.labels.iter().flatten() {
        if labels.contains(key) || labels_regex.as_ref().is_some_and(|r| r.is_match(key)) {
            chosen.insert(key.clone(), value.clone());
        }
    }
    let (variables, variables_regex) = (names("env"), regex("env-regex")?);
    for entry in record.config.env.iter().flatten() {
        let Some((key, value)) = entry.split_once('=') else { continue };
        if variables.iter().any(|v| v == key) || variables_regex.as_ref().is_some_and(|r| r.is_match(key)) {
            chosen.insert(key.to_owned(), value.to_owned());
        }
    }
    if let Some(tag) = options.get("tag").filter(|t| !t.is_empty()) {
        chosen.insert("tag".into(), log_tag::render(tag, record)?);
    }
    Ok(if chosen.is_empty() { String::new() } else { json::to_string(&chosen).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_refusals() {
        assert_eq!(parse_size("10k"), Some(10_240));
        assert_eq!(parse_size("1.5M"), Some(1_572_864));
        assert_eq!(parse_size("7"), Some(7));
        assert_eq!(parse_size("y"), None);
        let config = EngineConfig::new("/d".into(), "/e".into());
        let text = |kind: &str, key: &str, value: &str| {
            let mut log = LogConfig { kind: kind.into(), config: Some(BTreeMap::from([(key.into(), value.into())])) };
            settle(&mut log, &config).unwrap_err().message().to_owned()
        };
        assert_eq!(text("json-file", "x", "y"), "unknown log opt 'x' for json-file log driver");
        assert_eq!(text("local", "tag", "y"), "unknown log opt 'tag' for log driver local");
        assert_eq!(text("nosuch", "x", "y"), "error looking up logging plugin nosuch: plugin \"nosuch\" not found");
        assert_eq!(text("json-file", "mode", "y"), "logger: logging mode not supported: y");
    }

    #[test]
    fn attributes_are_chosen() {
        let mut record = Record { name: "web".into(), id: "ab".repeat(32), ..Record::default() };
        record.config.labels = Some(BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]));
        record.config.env = Some(vec!["X=y".into()]);
        let options = [("labels", "a"), ("env-regex", "^X"), ("tag", "{{.Name}}/{{.ID}}")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(
            attributes(&record, &BTreeMap::from(options)).unwrap(),
            r#"{"X":"y","a":"1","tag":"web/abababababab"}"#
        );
    }
}
