//! /etc/hosts and /etc/resolv.conf as a container finds them.

use super::Networks;
use super::sandbox::Wanted;
use crate::net::protocol::{HOST_GATEWAY, SandboxState};
use std::fmt::Write;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

/// systemd-resolved's list of real servers, for hosts whose resolv.conf names
/// only its local stub.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
pub const EMBEDDED: &str = "127.0.0.11";

pub fn hosts(networks: &Networks, wanted: &Wanted, state: &SandboxState) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    text.push_str(&extra(wanted, &networks.defaults.host_gateways));
    links(networks, wanted, &mut text);
    let mut name = wanted.hostname.clone();
    if !wanted.domainname.is_empty() {
        name = format!("{name}.{}", wanted.domainname);
    }
    // The bare name is known too, however its domain was given.
    if let Some((bare, _)) = name.clone().split_once('.') {
        name = format!("{name} {bare}");
    }
    for endpoint in &state.endpoints {
        for address in [endpoint.ipv4, endpoint.ipv6].into_iter().flatten() {
            let _ = writeln!(text, "{address}\t{name}");
        }
    }
    text
}

/// The lines of `--add-host`.
pub fn extra(wanted: &Wanted, gateways: &[IpAddr]) -> String {
    let mut text = String::new();
    for extra in &wanted.extra_hosts {
        let Some((name, address)) = extra.split_once([':', '=']) else { continue };
        if address == "host-gateway" {
            for address in if gateways.is_empty() { &[HOST_GATEWAY][..] } else { gateways } {
                let _ = writeln!(text, "{address}\t{name}");
            }
            continue;
        }
        let _ = writeln!(text, "{}\t{name}", address.trim_start_matches('[').trim_end_matches(']'));
    }
    text
}

/// What a container has made larger than this is left to it: it may well be
/// sparse, and as large as a file can be.
const LARGEST: u64 = 1 << 20;

/// Rewrites a live container's file in place: it is bind-mounted, so its inode
/// has to stay.
pub fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
    if read.is_err() || text.len() as u64 > LARGEST {
        crate::warn!("a container's file is not to be edited", "path" = path.display());
        return;
    }
    let changed = change(text);
    if let Err(e) = std::fs::write(path, changed) {
        crate::warn!("cannot update a container's file", "path" = path.display(), "error" = e);
    }
}

/// `--link` on the default network is a line in /etc/hosts.
fn links(networks: &Networks, wanted: &Wanted, text: &mut String) {
    let live = networks.live();
    for link in &wanted.links {
        let Some(other) = live.get(&link.container_id) else { continue };
        let on_bridge = |e: &&crate::net::protocol::EndpointState| e.names.is_empty();
        for address in other.endpoints.iter().filter(on_bridge).filter_map(|e| e.ipv4) {
            let _ = match link.alias == link.container_name {
                true => writeln!(text, "{address}\t{} {}", link.alias, link.hostname),
                false => writeln!(text, "{address}\t{} {} {}", link.alias, link.hostname, link.container_name),
            };
        }
    }
}

/// The parts of a resolv.conf that matter to us.
#[derive(Debug, Default, PartialEq, Eq)]
struct ResolvConf {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

fn parse(text: &str) -> ResolvConf {
    let mut conf = ResolvConf::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => conf.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
            Some("options") => conf.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    conf
}

fn is_loopback(server: &str) -> bool {
    let address = server.split('%').next().unwrap_or_default();
    address.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())
}

fn host_conf() -> ResolvConf {
    let read = |path: &str| parse(&std::fs::read_to_string(path).unwrap_or_default());
    let conf = read("/etc/resolv.conf");
    if conf.servers.iter().all(|s| is_loopback(s)) {
        let real = read(RESOLVED);
        if !real.servers.is_empty() {
            return ResolvConf { servers: real.servers, ..conf };
        }
    }
    conf
}

/// On the default network: all servers of the host are its own loopback, so a
/// container can only ask through us.
pub fn needs_forwarder(asked: &[String]) -> bool {
    asked.is_empty() && host_conf().servers.iter().all(|s| is_loopback(s))
}

/// On user networks the embedded server comes first and alone; elsewhere the
/// host's servers, less those on its loopback.
pub fn resolv_conf(wanted: &Wanted, user_defined: bool) -> String {
    let embedded = user_defined || needs_forwarder(&wanted.dns);
    let mut conf = asked(wanted, host_conf());
    if wanted.dns.is_empty() {
        conf.servers.retain(|s| !is_loopback(s));
    }
    if embedded {
        conf.servers = vec![EMBEDDED.into()];
        if !conf.options.iter().any(|o| o.starts_with("ndots:")) {
            conf.options.push("ndots:0".into());
        }
    }
    written(conf)
}

/// In the host's network: its own file, less what the container asked for.
pub fn host_resolv_conf(wanted: &Wanted) -> String {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if wanted.dns.is_empty() && wanted.dns_search.is_empty() && wanted.dns_options.is_empty() {
        return text;
    }
    written(asked(wanted, parse(&text)))
}

fn asked(wanted: &Wanted, host: ResolvConf) -> ResolvConf {
    let or = |mine: &Vec<String>, hosts: Vec<String>| if mine.is_empty() { hosts } else { mine.clone() };
    ResolvConf {
        servers: or(&wanted.dns, host.servers),
        search: or(&wanted.dns_search, host.search),
        options: or(&wanted.dns_options, host.options),
    }
}

fn written(conf: ResolvConf) -> String {
    // "." alone means: no search list at all.
    let ResolvConf { servers, search, options } = conf;
    let mut text = String::from("# Written by the engine when the container started; edit it freely.\n\n");
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !search.is_empty() && search != ["."] {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_matter() {
        let conf =
            parse("# x\nnameserver 10.0.0.1 \nnameserver ::1 # y\nsearch a b\noptions ndots:2 rotate\nnonsense\n");
        assert_eq!(conf.servers, ["10.0.0.1", "::1"]);
        assert_eq!(conf.search, ["a", "b"]);
        assert_eq!(conf.options, ["ndots:2", "rotate"]);
        assert!(
            is_loopback("127.0.0.53") && is_loopback("::1") && !is_loopback("10.0.0.1") && !is_loopback("fe80::1%eth0")
        );
    }

    #[test]
    fn what_a_container_blew_up_is_left_alone() {
        let path = std::env::temp_dir().join(format!("coracle-hosts-{}", std::process::id()));
        std::fs::write(&path, "a\n").unwrap();
        edit(&path, |text| text + "b\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"a\nb\n");
        std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 42).unwrap();
        edit(&path, |_| panic!("it was read"));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_was_asked_for_wins() {
        let wanted = Wanted {
            dns: vec!["9.9.9.9".into()],
            dns_search: vec![".".into()],
            dns_options: vec!["timeout:1".into()],
            ..Wanted::default()
        };
        let plain = resolv_conf(&wanted, false);
        assert!(plain.ends_with("\n\nnameserver 9.9.9.9\noptions timeout:1\n"), "{plain}");
        let user = resolv_conf(&wanted, true);
        assert!(user.ends_with("\n\nnameserver 127.0.0.11\noptions timeout:1 ndots:0\n"), "{user}");
    }
}
