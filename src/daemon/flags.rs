//! The command line of dockerd, as one argh description: parsing, help and the
//! manual derive from it. What the options mean stands in `options.rs`.

use argh::{ArgsInfo, FromArgs};

/// a self-sufficient runtime for containers
#[derive(FromArgs, ArgsInfo, Debug, Default)]
#[argh(name = "dockerd", help_triggers("--help"))]
// The values are read from the normalised line; argh's struct is the description.
pub struct Flags {
    /// register another OCI runtime as NAME=PATH (no effect here)
    #[argh(option, arg_name = "runtime")]
    pub add_runtime: Vec<String>,
    /// reach published ports on container addresses from outside (no effect here)
    #[argh(switch)]
    pub allow_direct_routing: bool,
    /// push layers that are marked as not distributable (no effect here)
    #[argh(option, arg_name = "list")]
    pub allow_nondistributable_artifacts: Vec<String>,
    /// send this CORS header with API answers (refused here)
    #[argh(option, arg_name = "string")]
    pub api_cors_header: Option<String>,
    /// load an authorization plugin (refused here)
    #[argh(option, arg_name = "list")]
    pub authorization_plugin: Vec<String>,
    /// address and prefix of the default bridge (CIDR)
    #[argh(option, arg_name = "string")]
    pub bip: Option<String>,
    /// IPv6 address and prefix of the default bridge (CIDR)
    #[argh(option, arg_name = "string")]
    pub bip6: Option<String>,
    /// bridge of the default network; none for no default network
    #[argh(option, short = 'b', arg_name = "string")]
    pub bridge: Option<String>,
    /// accept packets with this firewall mark (no effect here)
    #[argh(option, arg_name = "string")]
    pub bridge_accept_fwmark: Option<String>,
    /// directory of CDI device specifications
    #[argh(option, arg_name = "list")]
    pub cdi_spec_dir: Vec<String>,
    /// parent cgroup of all containers
    #[argh(option, arg_name = "string")]
    pub cgroup_parent: Option<String>,
    /// configuration file of the daemon
    #[argh(option, arg_name = "string")]
    pub config_file: Option<String>,
    /// socket of containerd (no effect here)
    #[argh(option, arg_name = "string")]
    pub containerd: Option<String>,
    /// containerd namespace of containers (no effect here)
    #[argh(option, arg_name = "string")]
    pub containerd_namespace: Option<String>,
    /// containerd namespace of plugins (no effect here)
    #[argh(option, arg_name = "string")]
    pub containerd_plugins_namespace: Option<String>,
    /// real-time period of the parent cgroup in microseconds (refused here)
    #[argh(option, arg_name = "int")]
    pub cpu_rt_period: Option<String>,
    /// real-time runtime of the parent cgroup in microseconds (refused here)
    #[argh(option, arg_name = "int")]
    pub cpu_rt_runtime: Option<String>,
    /// start containerd with its CRI plugin (no effect here)
    #[argh(switch)]
    pub cri_containerd: bool,
    /// directory of images, containers and volumes
    #[argh(option, arg_name = "string")]
    pub data_root: Option<String>,
    /// log debugging messages
    #[argh(switch, short = 'D')]
    pub debug: bool,
    /// pool for new networks as base=CIDR,size=N
    #[argh(option, arg_name = "pool-options")]
    pub default_address_pool: Vec<String>,
    /// cgroup namespace of containers ("host" | "private")
    #[argh(option, arg_name = "string")]
    pub default_cgroupns_mode: Option<String>,
    /// IPv4 gateway of the default bridge
    #[argh(option, arg_name = "ip")]
    pub default_gateway: Option<String>,
    /// IPv6 gateway of the default bridge
    #[argh(option, arg_name = "ip")]
    pub default_gateway_v6: Option<String>,
    /// IPC mode of containers ("shareable" | "private")
    #[argh(option, arg_name = "string")]
    pub default_ipc_mode: Option<String>,
    /// option of new networks as DRIVER=KEY=VALUE
    #[argh(option, arg_name = "mapmap")]
    pub default_network_opt: Vec<String>,
    /// runtime of containers that name none (no effect here)
    #[argh(option, arg_name = "string")]
    pub default_runtime: Option<String>,
    /// size of /dev/shm in containers
    #[argh(option, arg_name = "bytes")]
    pub default_shm_size: Option<String>,
    /// seconds between the stop signal and SIGKILL
    #[argh(option, arg_name = "int")]
    pub default_stop_timeout: Option<String>,
    /// resource limit of containers as NAME=SOFT[:HARD]
    #[argh(option, arg_name = "ulimit")]
    pub default_ulimit: Vec<String>,
    /// user namespace of containers ("host" | "keep-id[:uid=N,gid=N]")
    #[argh(option, arg_name = "string")]
    pub default_userns_mode: Option<String>,
    /// DNS server of containers
    #[argh(option, arg_name = "ipSlice")]
    pub dns: Vec<String>,
    /// resolver option of containers
    #[argh(option, arg_name = "list")]
    pub dns_opt: Vec<String>,
    /// search domain of containers
    #[argh(option, arg_name = "list")]
    pub dns_search: Vec<String>,
    /// option of the runtime (no effect here)
    #[argh(option, arg_name = "list")]
    pub exec_opt: Vec<String>,
    /// directory of state that a reboot may lose
    #[argh(option, arg_name = "string")]
    pub exec_root: Option<String>,
    /// enable what is experimental
    #[argh(switch)]
    pub experimental: bool,
    /// switch a feature as NAME[=BOOL] (no effect here)
    #[argh(option, arg_name = "map")]
    pub feature: Vec<String>,
    /// backend of firewall rules (no effect here)
    #[argh(option, arg_name = "string")]
    pub firewall_backend: Option<String>,
    /// IPv4 range of the default bridge's addresses
    #[argh(option, arg_name = "string")]
    pub fixed_cidr: Option<String>,
    /// IPv6 range of the default bridge's addresses
    #[argh(option, arg_name = "string")]
    pub fixed_cidr_v6: Option<String>,
    /// group of the unix socket
    #[argh(option, short = 'G', arg_name = "string")]
    pub group: Option<String>,
    /// address to listen on: unix://PATH, tcp://HOST:PORT or fd://
    #[argh(option, short = 'H', arg_name = "list")]
    pub host: Vec<String>,
    /// what host-gateway means in --add-host
    #[argh(option, arg_name = "list")]
    pub host_gateway_ip: Vec<String>,
    /// proxy for http
    #[argh(option, arg_name = "string")]
    pub http_proxy: Option<String>,
    /// proxy for https
    #[argh(option, arg_name = "string")]
    pub https_proxy: Option<String>,
    /// let containers of the default bridge reach one another
    #[argh(option, arg_name = "bool")]
    pub icc: Option<String>,
    /// run an init process in every container
    #[argh(switch)]
    pub init: bool,
    /// program to use as init process (no effect here)
    #[argh(option, arg_name = "string")]
    pub init_path: Option<String>,
    /// registry or network of registries to reach without checked TLS
    #[argh(option, arg_name = "list")]
    pub insecure_registry: Vec<String>,
    /// host address of published ports
    #[argh(option, arg_name = "ip")]
    pub ip: Option<String>,
    /// forward packets between networks (no effect here)
    #[argh(option, arg_name = "bool")]
    pub ip_forward: Option<String>,
    /// leave the policy of forwarded packets alone (no effect here)
    #[argh(switch)]
    pub ip_forward_no_drop: bool,
    /// let containers of the default bridge reach out
    #[argh(option, arg_name = "bool")]
    pub ip_masq: Option<String>,
    /// add rules for IPv6 (no effect here)
    #[argh(option, arg_name = "bool")]
    pub ip6tables: Option<String>,
    /// add rules for IPv4 (no effect here)
    #[argh(option, arg_name = "bool")]
    pub iptables: Option<String>,
    /// give the default bridge IPv6
    #[argh(switch)]
    pub ipv6: bool,
    /// keep the compressed form of pulled layers, so that pushing them again needs no packing
    #[argh(option, arg_name = "bool")]
    pub keep_blobs: Option<String>,
    /// label of the daemon as KEY=VALUE
    #[argh(option, arg_name = "list")]
    pub label: Vec<String>,
    /// leave containers running when the daemon stops
    #[argh(switch)]
    pub live_restore: bool,
    /// logging driver of containers
    #[argh(option, arg_name = "string")]
    pub log_driver: Option<String>,
    /// write the daemon's log to this file, begun anew at 10 MB (three old ones are kept), instead of to stderr
    #[argh(option, arg_name = "string")]
    pub log_file: Option<String>,
    /// form of the daemon's log ("text" | "json")
    #[argh(option, arg_name = "string")]
    pub log_format: Option<String>,
    /// lowest level to log ("debug" | "info" | "warn" | "error" | "fatal")
    #[argh(option, short = 'l', arg_name = "string")]
    pub log_level: Option<String>,
    /// option of the logging driver as KEY=VALUE
    #[argh(option, arg_name = "map")]
    pub log_opt: Vec<String>,
    /// layers of one pull to fetch at once
    #[argh(option, arg_name = "int")]
    pub max_concurrent_downloads: Option<String>,
    /// layers of one push to send at once
    #[argh(option, arg_name = "int")]
    pub max_concurrent_uploads: Option<String>,
    /// times to try a download
    #[argh(option, arg_name = "int")]
    pub max_download_attempts: Option<String>,
    /// address of the metrics listener
    #[argh(option, arg_name = "string")]
    pub metrics_addr: Option<String>,
    /// MTU of the default bridge
    #[argh(option, arg_name = "int")]
    pub mtu: Option<String>,
    /// MTU of the swarm's control network (no effect here)
    #[argh(option, arg_name = "int")]
    pub network_control_plane_mtu: Option<String>,
    /// port of the network diagnostic server (no effect here)
    #[argh(option, arg_name = "int")]
    pub network_diagnostic_port: Option<String>,
    /// forbid new privileges in containers
    #[argh(switch)]
    pub no_new_privileges: bool,
    /// hosts to reach without a proxy
    #[argh(option, arg_name = "string")]
    pub no_proxy: Option<String>,
    /// resource of the swarm node as NAME=VALUE (no effect here)
    #[argh(option, arg_name = "list")]
    pub node_generic_resource: Vec<String>,
    /// options of the node resource interface (refused here)
    #[argh(option, arg_name = "string")]
    pub nri_opts: Option<String>,
    /// file with the daemon's process id
    #[argh(option, short = 'p', arg_name = "string")]
    pub pidfile: Option<String>,
    /// log without colours
    #[argh(switch)]
    pub raw_logs: bool,
    /// mirror of Docker Hub
    #[argh(option, arg_name = "list")]
    pub registry_mirror: Vec<String>,
    /// restart containers (old name of restart policies)
    #[argh(option, short = 'r', arg_name = "bool")]
    pub restart: Option<String>,
    /// run without root
    #[argh(switch)]
    pub rootless: bool,
    /// seccomp profile of containers: builtin, unconfined or a file
    #[argh(option, arg_name = "string")]
    pub seccomp_profile: Option<String>,
    /// use SELinux (no effect here)
    #[argh(switch)]
    pub selinux_enabled: bool,
    /// seconds that containers have to stop when the daemon does
    #[argh(option, arg_name = "int")]
    pub shutdown_timeout: Option<String>,
    /// driver of the layers ("overlay2" | "fuse-overlayfs" | "vfs")
    #[argh(option, short = 's', arg_name = "string")]
    pub storage_driver: Option<String>,
    /// install what starts the daemon with the machine or the session, and exit
    #[argh(switch)]
    pub install_service: bool,
    /// service manager to install for ("systemd-user" | "systemd" | "openrc" | "sysv" | "runit"); found out if not given
    #[argh(option, arg_name = "string")]
    pub service_kind: Option<String>,
    /// folder that stands for / in --install-service
    #[argh(option, arg_name = "string")]
    pub service_root: Option<String>,
    /// option of the storage driver (no effect here)
    #[argh(option, arg_name = "list")]
    pub storage_opt: Vec<String>,
    /// address that a swarm node advertises (no effect here)
    #[argh(option, arg_name = "string")]
    pub swarm_default_advertise_addr: Option<String>,
    /// use TLS; implied by --tlsverify
    #[argh(switch)]
    pub tls: bool,
    /// what clients whose certificate has the common name NAME may do ("full" | "read-only"); NAME * stands for all others
    #[argh(option, arg_name = "map")]
    pub tls_role: Vec<String>,
    /// make a certificate authority and certificates for this machine, and exit
    #[argh(switch)]
    pub tls_init: bool,
    /// certificates to trust clients by
    #[argh(option, arg_name = "string")]
    pub tlscacert: Option<String>,
    /// certificate of the daemon
    #[argh(option, arg_name = "string")]
    pub tlscert: Option<String>,
    /// private key of the daemon
    #[argh(option, arg_name = "string")]
    pub tlskey: Option<String>,
    /// use TLS and demand a certificate of clients
    #[argh(switch)]
    pub tlsverify: bool,
    /// forward published ports by a process (no effect here)
    #[argh(option, arg_name = "bool")]
    pub userland_proxy: Option<String>,
    /// program that forwards published ports (no effect here)
    #[argh(option, arg_name = "string")]
    pub userland_proxy_path: Option<String>,
    /// user of the user namespace of containers (refused here)
    #[argh(option, arg_name = "string")]
    pub userns_remap: Option<String>,
    /// check the configuration and exit
    #[argh(switch)]
    pub validate: bool,
    /// print the version and exit
    #[argh(switch, short = 'v')]
    pub version: bool,
}
