//! Driver options of a bridge network: which we know, and what is wrong with a
//! value, in Docker's (and Go's) words. Pure. Options that nobody knows are kept
//! and shown, as in the original.

use crate::api::network::{EndpointSettings, Map};
use crate::error::{Error, Result};
use crate::util::units;
use std::net::IpAddr;

pub const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub const ICC: &str = "com.docker.network.bridge.enable_icc";
pub const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub const BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub const MTU: &str = "com.docker.network.driver.mtu";
const GATEWAY_MODES: [&str; 2] =
    ["com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6"];

pub fn check(options: &Map, internal: bool) -> Result<()> {
    let failed = |key: &str, value: &str, why: &str| {
        Err(Error::invalid(format!("failed to parse {key} value: {value} ({why})")))
    };
    if let Some(text) = options.get(MTU) {
        match text.parse::<i64>() {
            Err(_) => return failed(MTU, text, &format!("strconv.Atoi: parsing {text:?}: invalid syntax")),
            Ok(n) if n < 0 => return Err(Error::invalid(format!("invalid MTU number: {n}"))),
            Ok(n) if n != 0 && !(68..=65535).contains(&n) => return Err(Error::invalid("invalid argument")),
            Ok(_) => {}
        }
    }
    for key in [ICC, MASQUERADE, "com.docker.network.bridge.inhibit_ipv4"] {
        if let Some(value) = options.get(key).filter(|v| units::parse_bool(v).is_err()) {
            return failed(key, value, &format!("strconv.ParseBool: parsing {value:?}: invalid syntax"));
        }
    }
    if let Some(text) = options.get(BINDING).filter(|t| t.parse::<IpAddr>().is_err()) {
        return failed(BINDING, text, "nil ip");
    }
    for key in GATEWAY_MODES {
        match options.get(key).map_or("", String::as_str) {
            "" | "nat" | "nat-unprotected" => {}
            "isolated" if internal => {}
            "isolated" => {
                return Err(Error::invalid("gateway mode 'isolated' can only be used for an internal network"));
            }
            "routed" => {
                return Err(Error::not_implemented(format!(
                    "{key}=routed is not available: routes of the host are root's to set"
                )));
            }
            other => return failed(key, other, &format!("unknown gateway mode {other}")),
        }
    }
    if let Some(name) = options.get(BRIDGE_NAME).filter(|n| !n.is_empty()) {
        let plain = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
        if name.len() > 15 {
            return Err(Error::invalid("numerical result out of range"));
        }
        if !name.chars().all(plain) || matches!(name.as_str(), "." | ".." | "lo" | "all" | "default") {
            return Err(Error::invalid(format!("invalid bridge name: {name}")));
        }
    }
    Ok(())
}

const INTERFACE: &str = "com.docker.network.endpoint.ifname";
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

fn of<'a>(settings: &'a EndpointSettings, key: &str) -> Option<&'a String> {
    settings.driver_opts.as_ref()?.get(key).filter(|v| !v.is_empty())
}

/// The name that an endpoint asks for its interface.
pub fn interface(settings: &EndpointSettings) -> Result<Option<String>> {
    let Some(name) = of(settings, INTERFACE) else { return Ok(None) };
    let plain = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if name.len() > 15 || !name.chars().all(plain) || matches!(name.as_str(), "." | ".." | "lo" | "all" | "default") {
        return Err(Error::invalid(format!("invalid interface name {name:?}")));
    }
    Ok(Some(name.clone()))
}

/// "net.ipv4.conf.IFNAME.log_martians=1,…": only what belongs to the interface.
pub fn sysctls(settings: &EndpointSettings) -> Result<Vec<(String, String)>> {
    let Some(text) = of(settings, SYSCTLS) else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for entry in text.split(',') {
        let wrong =
            || Error::invalid(format!("invalid sysctl {entry:?}: it should be net.TYPE.CLASS.IFNAME.NAME=VALUE"));
        let (key, value) = entry.split_once('=').ok_or_else(wrong)?;
        let parts: Vec<&str> = key.split('.').collect();
        match parts.as_slice() {
            // The client's reader of options makes it small letters.
            ["net", family @ ("ipv4" | "ipv6" | "mpls"), class, place, name]
                if place.eq_ignore_ascii_case("IFNAME") =>
            {
                all.push((format!("net.{family}.{class}.IFNAME.{name}"), value.to_owned()));
            }
            _ => return Err(wrong()),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_in_dockers_words() {
        let text = |key: &str, value: &str| {
            let options = [(key.to_owned(), value.to_owned())].into();
            check(&options, false).map_err(|e| e.message().to_owned()).err().unwrap_or_default()
        };
        assert_eq!(
            text(MTU, "x"),
            "failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing \"x\": invalid syntax)"
        );
        assert_eq!(text(MTU, "-1"), "invalid MTU number: -1");
        assert_eq!(
            text(ICC, "maybe"),
            "failed to parse com.docker.network.bridge.enable_icc value: maybe (strconv.ParseBool: parsing \"maybe\": invalid syntax)"
        );
        assert_eq!(text(BINDING, "x"), "failed to parse com.docker.network.bridge.host_binding_ipv4 value: x (nil ip)");
        assert_eq!(
            text(GATEWAY_MODES[0], "foo"),
            "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: foo (unknown gateway mode foo)"
        );
        assert!(text(GATEWAY_MODES[0], "isolated").ends_with("can only be used for an internal network"));
        for (key, value) in
            [(MTU, "0"), (MTU, "9000"), (ICC, "T"), (BRIDGE_NAME, "br-x"), ("a.b", "c"), (GATEWAY_MODES[1], "nat")]
        {
            assert_eq!(text(key, value), "");
        }
    }
}
