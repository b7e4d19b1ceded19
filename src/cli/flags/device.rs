//! `--device`, `--gpus`, block I/O rates and weights.

use crate::api::container::{DeviceMapping, DeviceRequest, ThrottleDevice, WeightDevice};
use crate::cli::container::run::Run;
use crate::cli::flags::list::csv;
use crate::error::{Error, Result};
use crate::util::units;
use std::collections::BTreeMap;

/// Host devices, and requests to device drivers (CDI names, GPUs).
pub fn requests(run: &Run) -> Result<(Vec<DeviceMapping>, Vec<DeviceRequest>)> {
    let (mut devices, mut cdi) = (Vec::new(), Vec::new());
    for value in &run.device {
        if is_cdi(value) {
            cdi.push(value.clone());
        } else {
            devices.push(mapping(value)?);
        }
    }
    let mut requests = run.gpus.iter().map(|g| gpus(g)).collect::<Result<Vec<_>, _>>().map_err(Error::invalid)?;
    if !cdi.is_empty() {
        requests.push(DeviceRequest { driver: "cdi".into(), device_ids: Some(cdi), ..DeviceRequest::default() });
    }
    Ok((devices, requests))
}

/// `vendor.com/class=name`.
fn is_cdi(value: &str) -> bool {
    let word = |w: &str| {
        w.starts_with(|c: char| c.is_ascii_alphabetic())
            && w.ends_with(|c: char| c.is_ascii_alphanumeric())
            && w.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    value.split_once('=').is_some_and(|(kind, name)| {
        !name.is_empty() && kind.split_once('/').is_some_and(|(vendor, class)| word(vendor) && word(class))
    })
}

fn is_mode(mode: &str) -> bool {
    let seen = |c: char| mode.matches(c).count() <= 1;
    !mode.is_empty() && mode.chars().all(|c| matches!(c, 'r' | 'w' | 'm') && seen(c))
}

/// `HOST[:CONTAINER][:rwm]`.
fn mapping(value: &str) -> Result<DeviceMapping> {
    let parts: Vec<&str> = value.split(':').collect();
    let (host, container, mode) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, mode] if is_mode(mode) => (*host, *host, *mode),
        [host, container] => (*host, *container, "rwm"),
        [_, _, mode] if !is_mode(mode) => return Err(Error::invalid(format!("bad mode specified: {mode}"))),
        [host, container, mode] => (*host, *container, *mode),
        _ => return Err(Error::invalid(format!("bad format for path: {value}"))),
    };
    if !container.starts_with('/') {
        return Err(Error::invalid(format!("{container} is not an absolute path")));
    }
    Ok(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: container.to_owned(),
        cgroup_permissions: mode.to_owned(),
    })
}

/// `all`, a number, or `key=value` pairs.
pub fn gpus(value: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest { options: Some(BTreeMap::new()), ..DeviceRequest::default() };
    let mut capabilities: Vec<String> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let fields = csv(value)?;
    for field in &fields {
        let (key, text) = field.split_once('=').unwrap_or(("count", field));
        if seen.contains(&key) {
            return Err(format!("gpu request key '{key}' can be specified only once"));
        }
        seen.push(key);
        match key {
            "count" => request.count = gpu_count(text)?,
            "driver" => request.driver = text.to_owned(),
            "device" => request.device_ids = Some(text.split(',').map(str::to_owned).collect()),
            "capabilities" => capabilities = text.split(',').map(str::to_owned).collect(),
            "options" => request.options = Some(super::key_values(&csv(text)?)),
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if request.count == 0 && request.device_ids.is_none() {
        request.count = 1;
    }
    if !capabilities.iter().any(|c| c == "gpu") {
        capabilities.push("gpu".into());
    }
    request.capabilities = Some(vec![capabilities]);
    Ok(request)
}

fn gpu_count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse()
        .map_err(|_| format!("invalid count ({text}): value must be either \"all\" or an integer: invalid syntax"))
}

/// `c 1:* rwm`.
pub fn cgroup_rule(value: &str) -> Result<(), String> {
    let number = |t: &str| t == "*" || (!t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()));
    let valid = match value.split(' ').collect::<Vec<_>>().as_slice() {
        [kind, numbers, mode] => {
            matches!(*kind, "a" | "c" | "b")
                && numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&mode.len())
                && mode.chars().all(|c| matches!(c, 'r' | 'w' | 'm'))
        }
        _ => false,
    };
    if valid { Ok(()) } else { Err(format!("invalid device cgroup format '{value}'")) }
}

fn split_device(value: &str) -> Result<(&str, &str), String> {
    let (path, number) = value
        .split_once(':')
        .filter(|(p, n)| !p.is_empty() && !n.is_empty())
        .ok_or_else(|| format!("bad format: {value}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {value}"));
    }
    Ok((path, number))
}

pub fn weight(value: &str) -> Result<WeightDevice, String> {
    let (path, number) = split_device(value)?;
    let weight = number
        .parse()
        .ok()
        .filter(|w| *w == 0 || (10..=1000).contains(w))
        .ok_or_else(|| format!("invalid weight for device: {value}"))?;
    Ok(WeightDevice { path: path.to_owned(), weight })
}

pub fn weights(values: &[String]) -> Vec<WeightDevice> {
    values.iter().filter_map(|v| weight(v).ok()).collect()
}

/// With `bytes` the number may have a unit.
pub fn rate(value: &str, bytes: bool) -> Result<ThrottleDevice, String> {
    let (path, number) = split_device(value)?;
    let parsed = if bytes { units::parse_bytes(number).ok() } else { number.parse().ok() };
    let rate = parsed.filter(|n| *n >= 0).and_then(|n: i64| u64::try_from(n).ok());
    let rate = rate.ok_or_else(|| {
        let form = if bytes { "<number>[<unit>]" } else { "<number>" };
        let more = if bytes { ". Unit is optional and can be kb, mb, or gb" } else { "" };
        format!(
            "invalid rate for device: {value}. The correct format is <device-path>:{form}. Number must be a positive integer{more}"
        )
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// Values that passed [`rate`] while the line was read: with a unit they are bytes,
/// without one both readings agree.
pub fn rates(values: &[String]) -> Vec<ThrottleDevice> {
    values.iter().filter_map(|v| rate(v, true).ok()).collect()
}
