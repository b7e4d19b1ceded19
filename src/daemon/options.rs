//! Every option of the daemon: its flag, its key in daemon.json, what its value
//! is, and what becomes of it here. A flat table; pure.

/// What a value is, in both spellings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int,
    /// Bytes: a number, or "64m".
    Size,
    Text,
    List,
    /// KEY=VALUE, an object of strings.
    Map,
    /// NAME[=BOOL], an object of booleans.
    Features,
    /// DRIVER=KEY=VALUE, an object of objects of strings.
    MapMap,
    /// base=CIDR,size=N; an array of `{base,size}`.
    Pools,
    /// NAME=SOFT[:HARD]; an object of `{Name,Soft,Hard}`.
    Ulimits,
    /// NAME=PATH; an object of `{path,…}`.
    Runtimes,
    /// Only in the file, never looked into.
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    Used,
    /// Parsed, and said in the log to have no effect.
    Unused,
    /// Ignoring it would be worse than stopping.
    Refused,
}

#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// With its dashes; empty for keys that only the file has.
    pub flag: &'static str,
    /// Dotted for a member of an object.
    pub key: &'static str,
    pub kind: Kind,
    pub tier: Tier,
    /// Takes effect on SIGHUP.
    pub reload: bool,
}

const fn option(flag: &'static str, key: &'static str, kind: Kind, tier: Tier, reload: bool) -> Opt {
    Opt { flag, key, kind, tier, reload }
}

#[rustfmt::skip]
pub const OPTIONS: &[Opt] = &[
    option("--add-runtime", "runtimes", Kind::Runtimes, Tier::Unused, true),
    option("--allow-direct-routing", "allow-direct-routing", Kind::Bool, Tier::Unused, false),
    option("--allow-nondistributable-artifacts", "allow-nondistributable-artifacts", Kind::List, Tier::Unused, false),
    option("--api-cors-header", "api-cors-header", Kind::Text, Tier::Refused, false),
    option("--authorization-plugin", "authorization-plugins", Kind::List, Tier::Refused, true),
    option("--bip", "bip", Kind::Text, Tier::Used, false),
    option("--bip6", "bip6", Kind::Text, Tier::Used, false),
    option("--bridge", "bridge", Kind::Text, Tier::Used, false),
    option("--bridge-accept-fwmark", "bridge-accept-fwmark", Kind::Text, Tier::Unused, false),
    option("--cdi-spec-dir", "cdi-spec-dirs", Kind::List, Tier::Used, false),
    option("--cgroup-parent", "cgroup-parent", Kind::Text, Tier::Used, false),
    option("--containerd", "containerd", Kind::Text, Tier::Unused, false),
    option("--containerd-namespace", "containerd-namespace", Kind::Text, Tier::Unused, false),
    option("--containerd-plugins-namespace", "containerd-plugin-namespace", Kind::Text, Tier::Unused, false),
    option("--cpu-rt-period", "cpu-rt-period", Kind::Int, Tier::Refused, false),
    option("--cpu-rt-runtime", "cpu-rt-runtime", Kind::Int, Tier::Refused, false),
    option("--cri-containerd", "cri-containerd", Kind::Bool, Tier::Unused, false),
    option("--data-root", "data-root", Kind::Text, Tier::Used, false),
    option("--debug", "debug", Kind::Bool, Tier::Used, true),
    option("--default-address-pool", "default-address-pools", Kind::Pools, Tier::Used, false),
    option("--default-cgroupns-mode", "default-cgroupns-mode", Kind::Text, Tier::Used, true),
    option("--default-gateway", "default-gateway", Kind::Text, Tier::Used, false),
    option("--default-gateway-v6", "default-gateway-v6", Kind::Text, Tier::Used, false),
    option("--default-ipc-mode", "default-ipc-mode", Kind::Text, Tier::Used, true),
    option("--default-network-opt", "default-network-opts", Kind::MapMap, Tier::Used, false),
    option("--default-runtime", "default-runtime", Kind::Text, Tier::Unused, true),
    option("--default-shm-size", "default-shm-size", Kind::Size, Tier::Used, true),
    option("--default-stop-timeout", "default-stop-timeout", Kind::Int, Tier::Used, true),
    option("--default-ulimit", "default-ulimits", Kind::Ulimits, Tier::Used, false),
    option("--default-userns-mode", "default-userns-mode", Kind::Text, Tier::Used, true),
    option("--dns", "dns", Kind::List, Tier::Used, false),
    option("--dns-opt", "dns-opts", Kind::List, Tier::Used, false),
    option("--dns-search", "dns-search", Kind::List, Tier::Used, false),
    option("--exec-opt", "exec-opts", Kind::List, Tier::Unused, false),
    option("--exec-root", "exec-root", Kind::Text, Tier::Used, false),
    option("--experimental", "experimental", Kind::Bool, Tier::Used, false),
    option("--feature", "features", Kind::Features, Tier::Unused, true),
    option("--firewall-backend", "firewall-backend", Kind::Text, Tier::Unused, false),
    option("--fixed-cidr", "fixed-cidr", Kind::Text, Tier::Used, false),
    option("--fixed-cidr-v6", "fixed-cidr-v6", Kind::Text, Tier::Used, false),
    option("--group", "group", Kind::Text, Tier::Used, false),
    option("--host", "hosts", Kind::List, Tier::Used, false),
    option("--host-gateway-ip", "host-gateway-ips", Kind::List, Tier::Used, false),
    option("--http-proxy", "proxies.http-proxy", Kind::Text, Tier::Used, false),
    option("--https-proxy", "proxies.https-proxy", Kind::Text, Tier::Used, false),
    option("--icc", "icc", Kind::Bool, Tier::Used, false),
    option("--init", "init", Kind::Bool, Tier::Used, false),
    option("--init-path", "init-path", Kind::Text, Tier::Unused, false),
    option("--insecure-registry", "insecure-registries", Kind::List, Tier::Used, true),
    option("--ip", "ip", Kind::Text, Tier::Used, false),
    option("--ip-forward", "ip-forward", Kind::Bool, Tier::Unused, false),
    option("--ip-forward-no-drop", "ip-forward-no-drop", Kind::Bool, Tier::Unused, false),
    option("--ip-masq", "ip-masq", Kind::Bool, Tier::Used, false),
    option("--ip6tables", "ip6tables", Kind::Bool, Tier::Unused, false),
    option("--iptables", "iptables", Kind::Bool, Tier::Unused, false),
    option("--ipv6", "ipv6", Kind::Bool, Tier::Used, false),
    option("--keep-blobs", "keep-blobs", Kind::Bool, Tier::Used, false),
    option("--label", "labels", Kind::List, Tier::Used, true),
    option("--live-restore", "live-restore", Kind::Bool, Tier::Used, true),
    option("--log-driver", "log-driver", Kind::Text, Tier::Used, false),
    option("--log-file", "log-file", Kind::Text, Tier::Used, false),
    option("--log-format", "log-format", Kind::Text, Tier::Used, false),
    option("--log-level", "log-level", Kind::Text, Tier::Used, false),
    option("--log-opt", "log-opts", Kind::Map, Tier::Used, false),
    option("--max-concurrent-downloads", "max-concurrent-downloads", Kind::Int, Tier::Used, true),
    option("--max-concurrent-uploads", "max-concurrent-uploads", Kind::Int, Tier::Used, true),
    option("--max-download-attempts", "max-download-attempts", Kind::Int, Tier::Used, true),
    option("--metrics-addr", "metrics-addr", Kind::Text, Tier::Used, false),
    option("--mtu", "mtu", Kind::Int, Tier::Used, false),
    option("--network-control-plane-mtu", "network-control-plane-mtu", Kind::Int, Tier::Unused, false),
    option("--network-diagnostic-port", "network-diagnostic-port", Kind::Int, Tier::Unused, true),
    option("--no-new-privileges", "no-new-privileges", Kind::Bool, Tier::Used, false),
    option("--no-proxy", "proxies.no-proxy", Kind::Text, Tier::Used, false),
    option("--node-generic-resource", "node-generic-resources", Kind::List, Tier::Unused, false),
    option("--nri-opts", "nri-opts", Kind::Text, Tier::Refused, true),
    option("--pidfile", "pidfile", Kind::Text, Tier::Used, false),
    option("--raw-logs", "raw-logs", Kind::Bool, Tier::Used, false),
    option("--registry-mirror", "registry-mirrors", Kind::List, Tier::Used, true),
    option("--rootless", "rootless", Kind::Bool, Tier::Used, false),
    option("--seccomp-profile", "seccomp-profile", Kind::Text, Tier::Used, false),
    option("--selinux-enabled", "selinux-enabled", Kind::Bool, Tier::Unused, false),
    option("--shutdown-timeout", "shutdown-timeout", Kind::Int, Tier::Used, true),
    option("--storage-driver", "storage-driver", Kind::Text, Tier::Used, false),
    option("--storage-opt", "storage-opts", Kind::List, Tier::Unused, false),
    option("--swarm-default-advertise-addr", "swarm-default-advertise-addr", Kind::Text, Tier::Unused, false),
    option("--tls-role", "tls-roles", Kind::Map, Tier::Used, true),
    option("--tls", "tls", Kind::Bool, Tier::Used, false),
    option("--tlscacert", "tlscacert", Kind::Text, Tier::Used, false),
    option("--tlscert", "tlscert", Kind::Text, Tier::Used, false),
    option("--tlskey", "tlskey", Kind::Text, Tier::Used, false),
    option("--tlsverify", "tlsverify", Kind::Bool, Tier::Used, false),
    option("--userland-proxy", "userland-proxy", Kind::Bool, Tier::Unused, false),
    option("--userland-proxy-path", "userland-proxy-path", Kind::Text, Tier::Unused, false),
    option("--userns-remap", "userns-remap", Kind::Text, Tier::Refused, false),
    option("", "min-api-version", Kind::Text, Tier::Used, false),
    option("", "builder", Kind::Any, Tier::Unused, false),
    option("", "default-init", Kind::Text, Tier::Unused, false),
    option("", "resolv-conf", Kind::Text, Tier::Unused, false),
    option("", "swarm-raft-heartbeat-tick", Kind::Int, Tier::Unused, false),
    option("", "swarm-raft-election-tick", Kind::Int, Tier::Unused, false),
    option("", "deprecated-key-path", Kind::Text, Tier::Unused, false),
    option("", "host-gateway-ip", Kind::Text, Tier::Used, false),
];

pub fn by_flag(flag: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|o| o.flag == flag && !flag.is_empty())
}

pub fn by_key(key: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|o| o.key == key)
}

/// Why an option does nothing here, or must not be ignored.
pub fn reason(key: &str) -> &'static str {
    match key {
        "runtimes" | "default-runtime" => "containers are run by the built-in runtime",
        "containerd" | "containerd-namespace" | "containerd-plugin-namespace" | "cri-containerd" => {
            "there is no containerd: images and containers are managed by this process"
        }
        "init-path" | "default-init" => "the init process is built in",
        "userland-proxy" | "userland-proxy-path" => "published ports are forwarded by the built-in network process",
        "iptables"
        | "ip6tables"
        | "ip-forward"
        | "ip-forward-no-drop"
        | "firewall-backend"
        | "bridge-accept-fwmark"
        | "allow-direct-routing" => "networking needs no firewall rules of the host",
        "selinux-enabled" => "SELinux labels are not set",
        "exec-opts" => "the cgroup driver is chosen by what the host delegates",
        "authorization-plugins" => {
            "authorization plugins are not supported, and ignoring one would drop a security control"
        }
        "userns-remap" => "the daemon is in a user namespace of its own already",
        "cpu-rt-period" | "cpu-rt-runtime" => {
            "daemon-scoped cpu-rt-period and cpu-rt-runtime are not supported by the kernel"
        }
        "nri-opts" => "the node resource interface is not supported",
        "api-cors-header" => "the API answers no browser",
        k if k.contains("swarm") || k.contains("node-") || k.starts_with("network-") => "there is no swarm mode",
        _ => "it is not supported",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argh::ArgsInfo;

    #[test]
    fn flags_and_table_name_the_same() {
        let info = crate::daemon::flags::Flags::get_args_info();
        for flag in info.flags {
            let tier = by_flag(flag.long).map(|o| o.tier);
            assert_eq!(flag.description.ends_with("(no effect here)"), tier == Some(Tier::Unused), "{}", flag.long);
            assert_eq!(flag.description.ends_with("(refused here)"), tier == Some(Tier::Refused), "{}", flag.long);
            let known = by_flag(flag.long).is_some();
            let own = matches!(
                flag.long,
                "--help"
                    | "--tls-init"
                    | "--config-file"
                    | "--validate"
                    | "--version"
                    | "--restart"
                    | "--install-service"
                    | "--service-kind"
                    | "--service-root"
            );
            assert!(known != own, "{}", flag.long);
        }
        for option in OPTIONS.iter().filter(|o| !o.flag.is_empty()) {
            assert!(info.flags.iter().any(|f| f.long == option.flag), "{}", option.flag);
        }
    }
}
