//! Judges single values of list flags, in the words that pflag's callers use.

use crate::api::container::Ulimit;
use crate::cli::flags::{device, mount, network};
use crate::util::units;
use std::net::IpAddr;

/// Kernel parameters that belong to the IPC namespace; net.* and fs.mqueue.* belong
/// to others of the container's.
const SYSCTLS: &[&str] = &[
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// The check of run, create and exec.
pub fn check(flag: &str, value: &str) -> Result<(), String> {
    match flag {
        "--attach" if !["stdin", "stdout", "stderr"].contains(&value.to_ascii_lowercase().as_str()) => {
            Err("valid streams are STDIN, STDOUT and STDERR".into())
        }
        "--add-host" => host(value),
        "--env" if value.starts_with('=') || value.is_empty() => Err(format!("invalid environment variable: {value}")),
        "--dns" if value.trim().parse::<IpAddr>().is_err() => {
            Err(format!("IP address is not correctly formatted: {value}"))
        }
        "--dns-search" => domain(value),
        "--link" => link(value),
        "--ulimit" => ulimit(value).map(drop),
        "--sysctl" => sysctl(value),
        "--mount" => mount::parse(value).map(drop),
        "--network" => network::parse(value).map(drop),
        "--gpus" => device::gpus(value).map(drop),
        "--device-cgroup-rule" => device::cgroup_rule(value),
        "--blkio-weight-device" => device::weight(value).map(drop),
        "--device-read-bps" | "--device-write-bps" => device::rate(value, true).map(drop),
        "--device-read-iops" | "--device-write-iops" => device::rate(value, false).map(drop),
        _ => Ok(()),
    }
}

fn split_host(value: &str) -> Option<(&str, &str)> {
    // `host=ip` reads better with IPv6; the first of the two separators counts.
    let at = value.find(['=', ':'])?;
    Some((&value[..at], &value[at + 1..]))
}

fn host(value: &str) -> Result<(), String> {
    let (name, address) = split_host(value).unwrap_or_default();
    if name.is_empty() || address.is_empty() {
        return Err(format!("bad format for add-host: {}", units::quote(value)));
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    if address != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {}", units::quote(address)));
    }
    Ok(())
}

/// `name:address`, the form on the wire.
pub fn extra_host(value: &str) -> String {
    let (name, address) = split_host(value).unwrap_or((value, ""));
    let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    format!("{name}:{address}")
}

fn domain(value: &str) -> Result<(), String> {
    let name = value.trim();
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let valid = name == "." || name.strip_suffix('.').unwrap_or(name).split('.').all(label);
    if valid && name.len() <= 255 { Ok(()) } else { Err(format!("{value} is not a valid domain")) }
}

fn link(value: &str) -> Result<(), String> {
    match value.split(':').count() {
        _ if value.is_empty() => Err("empty string specified for links".into()),
        1 | 2 => Ok(()),
        _ => Err(format!("bad format for links: {value}")),
    }
}

/// `name=soft[:hard]`.
pub fn ulimit(value: &str) -> Result<Ulimit, String> {
    let (name, soft, hard) = units::parse_ulimit(value)?;
    Ok(Ulimit { name, hard, soft })
}

fn sysctl(value: &str) -> Result<(), String> {
    let allowed = value
        .split_once('=')
        .is_some_and(|(name, _)| SYSCTLS.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue."));
    if allowed { Ok(()) } else { Err(format!("sysctl '{value}' is not allowed")) }
}

/// The fields of one line of comma separated values, quotes and all.
pub fn csv(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        let mut field = String::new();
        if chars.peek() == Some(&'"') {
            chars.next();
            loop {
                match chars.next() {
                    Some('"') if chars.peek() == Some(&'"') => {
                        chars.next();
                        field.push('"');
                    }
                    Some('"') => break,
                    Some(c) => field.push(c),
                    None => {
                        return Err("parse error on line 1, column 1: extraneous or missing \" in quoted-field".into());
                    }
                }
            }
        }
        while let Some(&c) = chars.peek() {
            if c == ',' {
                break;
            }
            if c == '"' {
                return Err("parse error on line 1, column 1: bare \" in non-quoted-field".into());
            }
            field.push(c);
            chars.next();
        }
        fields.push(field);
        if chars.next().is_none() {
            return Ok(fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(
            ulimit("nofile=10:5").unwrap_err(),
            "ulimit soft limit must be less than or equal to hard limit: 10 > 5"
        );
        assert_eq!(ulimit("nofile=-1").unwrap().hard, -1);
        assert!(check("--sysctl", "kernel.foo=1").is_err() && check("--sysctl", "net.a=1").is_ok());
        assert_eq!(check("--add-host", "foo:bar").unwrap_err(), "invalid IP address in add-host: \"bar\"");
        assert_eq!(extra_host("b=::1"), "b:::1");
        assert!(check("--dns-search", "a..b").is_err() && check("--dns-search", ".").is_ok());
        assert_eq!(csv("a,\"b,c\",d").unwrap(), ["a", "b,c", "d"]);
    }
}
