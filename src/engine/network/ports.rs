//! `PortBindings` to what netd publishes and back to `NetworkSettings.Ports`.

use super::sandbox::Wanted;
use crate::api::network::{PortBinding, PortMap};
use crate::error::{Error, Result};
use crate::net::protocol::{PortSpec, PortState, Protocol};
use crate::util::order;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// "80/tcp", "80" and "80/TCP"; sctp is refused, we cannot carry it. What follows a
/// second slash is nothing to the original either: the Python SDK makes "80/tcp/tcp".
fn parse_port(text: &str) -> Result<(u16, Protocol)> {
    let mut parts = text.split('/');
    let (number, protocol) = (parts.next().unwrap_or_default(), parts.next().unwrap_or("tcp"));
    let port = number.parse().map_err(|_| Error::invalid(format!("invalid port specification: \"{text}\"")))?;
    match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Ok((port, Protocol::Tcp)),
        "udp" => Ok((port, Protocol::Udp)),
        "sctp" => Err(Error::not_implemented(format!("cannot publish {text}: sctp is not supported without root"))),
        other => Err(Error::invalid(format!("invalid proto: {other}"))),
    }
}

fn parse_range(text: &str) -> Result<(u16, u16)> {
    let wrong = || Error::invalid(format!("invalid port specification: \"{text}\""));
    if text.is_empty() {
        return Ok((0, 0));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
    if range.0 > range.1 { Err(wrong()) } else { Ok(range) }
}

/// All ports to publish, in the order of Docker's map: by port text.
pub fn wanted(wanted: &Wanted, default_binding: Option<&str>) -> Result<Vec<PortSpec>> {
    let mut specs = Vec::new();
    for (port, bindings) in &wanted.port_bindings {
        let (container_port, protocol) = parse_port(port)?;
        let any = [PortBinding::default()];
        let bindings = match bindings.as_deref() {
            None | Some([]) => &any[..],
            Some(bindings) => bindings,
        };
        for binding in bindings {
            let host_ports = parse_range(&binding.host_port)?;
            publish(&mut specs, container_port, protocol, &binding.host_ip, host_ports, default_binding)?;
        }
    }
    if wanted.publish_all {
        for port in wanted.exposed.iter().filter(|p| !wanted.port_bindings.contains_key(*p)) {
            let (container_port, protocol) = parse_port(port)?;
            publish(&mut specs, container_port, protocol, "", (0, 0), default_binding)?;
        }
    }
    Ok(specs)
}

fn publish(
    specs: &mut Vec<PortSpec>,
    container_port: u16,
    protocol: Protocol,
    host_ip: &str,
    host_ports: (u16, u16),
    default_binding: Option<&str>,
) -> Result<()> {
    let spec = |host_ip, with_previous| PortSpec { container_port, protocol, host_ip, host_ports, with_previous };
    let host_ip = match (host_ip, default_binding) {
        ("", Some("0.0.0.0")) => "",
        ("", default) => default.unwrap_or_default(),
        (ip, _) => ip,
    };
    if host_ip.is_empty() {
        specs.push(spec(Ipv4Addr::UNSPECIFIED.into(), false));
        specs.push(spec(Ipv6Addr::UNSPECIFIED.into(), true));
        return Ok(());
    }
    let ip: IpAddr = host_ip
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .map_err(|_| Error::invalid(format!("invalid IP address in port binding: {host_ip}")))?;
    specs.push(spec(ip, false));
    Ok(())
}

/// What `inspect` and `docker port` show. An exposed port that nobody published
/// stands there with null.
pub fn bound(wanted: &Wanted, states: &[PortState]) -> PortMap {
    let mut map: PortMap = order::map(wanted.exposed.iter().map(|p| (p.clone(), None)));
    for state in states {
        let port = format!("{}/{}", state.container_port, state.protocol.as_str());
        let binding = PortBinding { host_ip: state.host_ip.to_string(), host_port: state.host_port.to_string() };
        map.entry(port).or_default().get_or_insert_default().push(binding);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(bindings: &[(&str, &[(&str, &str)])]) -> Wanted {
        let binding = |(ip, port): &(&str, &str)| PortBinding { host_ip: (*ip).into(), host_port: (*port).into() };
        let port_bindings =
            bindings.iter().map(|(p, b)| ((*p).to_owned(), Some(b.iter().map(binding).collect()))).collect();
        Wanted { port_bindings, ..Wanted::default() }
    }

    #[test]
    fn bindings_become_specs() {
        let specs = wanted(&container(&[("80/tcp", &[("", "8080")]), ("53/udp", &[("127.0.0.1", "1000-1010")])]), None);
        let specs = specs.unwrap();
        let shown: Vec<_> = specs.iter().map(|s| (s.host_ip.to_string(), s.host_ports, s.with_previous)).collect();
        assert_eq!(
            shown,
            [
                ("127.0.0.1".to_owned(), (1000, 1010), false),
                ("0.0.0.0".to_owned(), (8080, 8080), false),
                ("::".to_owned(), (8080, 8080), true)
            ]
        );
        assert_eq!(wanted(&container(&[("80/tcp", &[("", "1")])]), Some("127.0.0.1")).unwrap().len(), 1);
        assert_eq!(wanted(&container(&[("80/tcp", &[])]), None).unwrap()[0].host_ports, (0, 0));
        for bad in [("x/tcp", "1"), ("80/x", "1"), ("80/tcp", "9-8"), ("80/tcp", "70000")] {
            assert!(wanted(&container(&[(bad.0, &[("", bad.1)])]), None).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn exposed_ports_that_are_not_published() {
        let mut w = Wanted { exposed: vec!["80/tcp".into(), "90/udp".into()], ..Wanted::default() };
        let state = PortState {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: Ipv4Addr::UNSPECIFIED.into(),
            host_port: 8080,
        };
        let map = bound(&w, &[state]);
        assert_eq!(map["90/udp"], None);
        assert_eq!(map["80/tcp"].as_ref().unwrap()[0].host_port, "8080");
        w.publish_all = true;
        assert_eq!(wanted(&w, None).unwrap().len(), 4);
    }
}
