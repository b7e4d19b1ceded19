//! `-p` in its short and long form, and `--expose`.

use crate::api::network::{PortBinding, PortMap};
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The ports that are exposed and where they are published.
pub fn published(values: &[String]) -> Result<(BTreeSet<String>, PortMap)> {
    let (mut exposed, mut bindings) = (BTreeSet::new(), PortMap::new());
    for value in values {
        for (port, binding) in one(&standard(value)?)? {
            exposed.insert(port.clone());
            bindings.entry(port).or_default().get_or_insert_default().push(binding);
        }
    }
    Ok((exposed, bindings))
}

/// `target=80,published=8080,protocol=tcp` in the short form.
fn standard(value: &str) -> Result<String> {
    if !value.contains('=') {
        return Ok(value.to_owned());
    }
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for field in value.split(',') {
        match field.split_once('=') {
            Some(("target", t)) => target = t,
            Some(("published", p)) => published = p,
            Some(("protocol", p)) => protocol = p,
            Some(_) => {}
            None => {
                let text = format!("invalid publish opts format (should be name=value but got '{field}')");
                return Err(Error::invalid(text));
            }
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// `[IP:][HOST[-HOST]:]CONTAINER[-CONTAINER][/PROTO]`.
fn one(value: &str) -> Result<Vec<(String, PortBinding)>> {
    let wrong = |what: &str, text: &str| Error::invalid(format!("{what}: {text}"));
    let (rest, protocol) = match value.rsplit_once('/') {
        Some((rest, protocol)) => (rest, protocol.to_ascii_lowercase()),
        None => (value, "tcp".into()),
    };
    let (before, container) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (address, host) = before.rsplit_once(':').unwrap_or(("", before));
    if container.is_empty() {
        return Err(Error::invalid(format!("no port specified: {value}<empty>")));
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(wrong("invalid IP address", address));
    }
    let (first, last) = range(container).map_err(|_| wrong("invalid containerPort", container))?;
    let hosts = match host {
        "" => None,
        host => Some(range(host).map_err(|_| wrong("invalid hostPort", host))?),
    };
    if let Some((low, high)) = hosts
        && last - first != high - low
        && first != last
    {
        let text = format!("invalid ranges specified for container and host Ports: {container} and {host}");
        return Err(Error::invalid(text));
    }
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(wrong("invalid proto", &protocol));
    }
    let binding = |n: u16| {
        let host_port = match hosts {
            None => String::new(),
            Some((low, high)) if first == last && low != high => format!("{low}-{high}"),
            Some((low, _)) => (low + n).to_string(),
        };
        PortBinding { host_ip: bare.to_owned(), host_port }
    };
    Ok((0..=last - first).map(|n| (format!("{}/{protocol}", first + n), binding(n))).collect())
}

/// Ports of `--expose`, ranges taken apart.
pub fn exposed(values: &[String]) -> Result<BTreeSet<String>> {
    let mut out = BTreeSet::new();
    for value in values {
        if value.contains(':') {
            return Err(Error::invalid(format!("invalid port format for --expose: {value}")));
        }
        let (ports, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
        let (first, last) = range(ports)
            .map_err(|e| Error::invalid(format!("invalid range format for --expose: {value}, error: {e}")))?;
        out.extend((first..=last).map(|p| format!("{p}/{protocol}")));
    }
    Ok(out)
}

fn range(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".into());
    }
    let number = |t: &str| {
        let decimal = t.bytes().all(|b| b.is_ascii_digit()) && !t.is_empty();
        match t.parse::<u16>() {
            Ok(n) if decimal => Ok(n),
            _ if decimal => Err(format!("strconv.ParseUint: parsing \"{t}\": value out of range")),
            _ => Err(format!("strconv.ParseUint: parsing \"{t}\": invalid syntax")),
        }
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let show = |v: &str| match published(&[v.to_owned()]) {
            Ok((_, map)) => map
                .iter()
                .flat_map(|(p, b)| b.iter().flatten().map(move |b| format!("{p}={}:{}", b.host_ip, b.host_port)))
                .collect::<Vec<_>>()
                .join(" "),
            Err(e) => e.message().to_owned(),
        };
        assert_eq!(show("80"), "80/tcp=:");
        assert_eq!(show("8080-8081:80-81/udp"), "80/udp=:8080 81/udp=:8081");
        assert_eq!(show("8000-8010:80"), "80/tcp=:8000-8010");
        assert_eq!(show("127.0.0.1::80"), "80/tcp=127.0.0.1:");
        assert_eq!(show("[::1]:80:80"), "80/tcp=::1:80");
        assert_eq!(show("::1:80:80"), "80/tcp=::1:80");
        assert_eq!(show("target=80,published=81,protocol=udp"), "80/udp=:81");
        assert_eq!(show("99999:80"), "invalid hostPort: 99999");
        assert_eq!(show("80:80:80:80"), "invalid IP address: 80:80");
        assert_eq!(show("80:90-91"), "invalid ranges specified for container and host Ports: 90-91 and 80");
        assert_eq!(show(""), "no port specified: <empty>");
        assert_eq!(show("published=81"), "no port specified: 81:/tcp<empty>");
        assert_eq!(exposed(&["90-91/udp".into()]).unwrap().into_iter().collect::<Vec<_>>(), ["90/udp", "91/udp"]);
    }
}
