//! What a container asks of its networks when it starts, and what it gets: plain
//! data between `engine::container` and `engine::network`.

use crate::api::network::{EndpointSettings, PortMap};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// A container that is about to start, as the networks see it.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub id: String,
    /// Without the slash.
    pub name: String,
    pub hostname: String,
    pub domainname: String,
    /// `HostConfig.NetworkMode` after defaults: "bridge", "host", "none" or a
    /// network's name or id. `container:X` never comes here: join X's namespace.
    pub mode: String,
    /// `NetworkSettings.Networks` as recorded, by network name; may lack `mode`.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// `Config.MacAddress`, for the network named by `mode`.
    pub mac_address: String,
    pub port_bindings: PortMap,
    /// `Config.ExposedPorts`, e.g. "80/tcp".
    pub exposed: Vec<String>,
    pub publish_all: bool,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// `HostConfig.ExtraHosts`: "name:address" or "name:host-gateway".
    pub extra_hosts: Vec<String>,
    /// `HostConfig.Links` on the default network, with the container looked up.
    pub links: Vec<Link>,
    /// `HostConfig.Links` on other networks: `target:alias`.
    pub aliases: Vec<String>,
}

/// One `--link`.
#[derive(Debug, Clone, Default)]
pub struct Link {
    pub container_id: String,
    /// Without the slash.
    pub container_name: String,
    pub hostname: String,
    pub alias: String,
}

/// What `runtime::Spec` is to do for the network namespace.
#[derive(Debug)]
pub enum Namespace {
    Host,
    /// A fresh one with nothing but loopback (`--network none`).
    New,
    Join(OwnedFd),
}

/// A container's network, ready to be entered.
#[derive(Debug)]
pub struct Sandbox {
    pub namespace: Namespace,
    pub sandbox_id: String,
    pub sandbox_key: String,
    /// For `NetworkSettings.Networks`, by network name.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// For `NetworkSettings.Ports`.
    pub ports: PortMap,
    /// Whole text of /etc/hosts.
    pub hosts: String,
    /// Whole text of /etc/resolv.conf.
    pub resolv_conf: String,
}

impl Sandbox {
    fn bare(wanted: &Wanted, namespace: Namespace) -> Self {
        Self {
            namespace,
            sandbox_id: crate::util::id::random(),
            sandbox_key: String::new(),
            endpoints: wanted.endpoints.clone(),
            ports: PortMap::new(),
            hosts: String::new(),
            resolv_conf: String::new(),
        }
    }

    pub(super) fn host(wanted: &Wanted) -> Self {
        Self {
            sandbox_key: "/var/run/docker/netns/default".into(),
            hosts: std::fs::read_to_string("/etc/hosts").unwrap_or_default() + &super::files::extra(wanted, &[]),
            resolv_conf: super::files::host_resolv_conf(wanted),
            ..Self::bare(wanted, Namespace::Host)
        }
    }

    pub(super) fn none(wanted: &Wanted) -> Self {
        Self {
            hosts: "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned()
                + &super::files::extra(wanted, &[]),
            resolv_conf: std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
            ..Self::bare(wanted, Namespace::New)
        }
    }
}
