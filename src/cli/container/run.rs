//! `docker run`: its flags, most of which are those of `create`, and the order of a start.

use super::create::{check_pull, new_container, refuse};
use super::join::{Joined, joined};
use crate::cli::attach::{self, Signals};
use crate::cli::context::{self, Context};
use crate::cli::tree::Verb;
use crate::cli::{exit, flags};
use crate::client::container::AttachOptions;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Create a container from an image and run it
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Run {
    /// extra line for the hosts file, as host:ip
    #[argh(option, arg_name = "list")]
    pub add_host: Vec<String>,
    /// annotation handed on to the runtime
    #[argh(option, arg_name = "map")]
    pub annotation: Vec<String>,
    /// connect to STDIN, STDOUT or STDERR
    #[argh(option, short = 'a', arg_name = "list")]
    pub attach: Vec<String>,
    /// relative block I/O weight, 10 to 1000; 0 for none (default 0)
    #[argh(option, arg_name = "uint16")]
    pub blkio_weight: Option<i64>,
    /// relative block I/O weight of one device (default [])
    #[argh(option, arg_name = "list")]
    pub blkio_weight_device: Vec<String>,
    /// capabilities to add
    #[argh(option, arg_name = "list")]
    pub cap_add: Vec<String>,
    /// capabilities to take away
    #[argh(option, arg_name = "list")]
    pub cap_drop: Vec<String>,
    /// cgroup under which the container gets its own
    #[argh(option, arg_name = "string")]
    pub cgroup_parent: Option<String>,
    /// cgroup namespace: "host" or "private" (default as the daemon is configured)
    #[argh(option, arg_name = "string")]
    pub cgroupns: Option<String>,
    /// file to write the container ID to
    #[argh(option, arg_name = "string")]
    pub cidfile: Option<String>,
    /// number of CPUs (Windows only)
    #[argh(option, arg_name = "int", hidden_help)]
    pub cpu_count: Option<i64>,
    /// share of the CPUs in percent (Windows only)
    #[argh(option, arg_name = "int", hidden_help)]
    pub cpu_percent: Option<i64>,
    /// length of a CFS period in microseconds
    #[argh(option, arg_name = "int")]
    pub cpu_period: Option<i64>,
    /// CPU time per CFS period in microseconds
    #[argh(option, arg_name = "int")]
    pub cpu_quota: Option<i64>,
    /// length of a real-time period in microseconds
    #[argh(option, arg_name = "int")]
    pub cpu_rt_period: Option<i64>,
    /// real-time CPU time per period in microseconds
    #[argh(option, arg_name = "int")]
    pub cpu_rt_runtime: Option<i64>,
    /// CPU shares, relative to other containers
    #[argh(option, short = 'c', arg_name = "int")]
    pub cpu_shares: Option<i64>,
    /// number of CPUs it may use
    #[argh(option, arg_name = "decimal")]
    pub cpus: Option<i64>,
    /// CPUs it may run on (0-3, 0,1)
    #[argh(option, arg_name = "string")]
    pub cpuset_cpus: Option<String>,
    /// memory nodes it may use (0-3, 0,1)
    #[argh(option, arg_name = "string")]
    pub cpuset_mems: Option<String>,
    /// leave the container in the background and print its ID
    #[argh(switch, short = 'd')]
    pub detach: bool,
    /// key sequence that detaches from a container
    #[argh(option, arg_name = "string")]
    pub detach_keys: Option<String>,
    /// host device for the container
    #[argh(option, arg_name = "list")]
    pub device: Vec<String>,
    /// rule for the cgroup's list of allowed devices
    #[argh(option, arg_name = "list")]
    pub device_cgroup_rule: Vec<String>,
    /// limit in bytes per second for reads of a device (default [])
    #[argh(option, arg_name = "list")]
    pub device_read_bps: Vec<String>,
    /// limit in operations per second for reads of a device (default [])
    #[argh(option, arg_name = "list")]
    pub device_read_iops: Vec<String>,
    /// limit in bytes per second for writes to a device (default [])
    #[argh(option, arg_name = "list")]
    pub device_write_bps: Vec<String>,
    /// limit in operations per second for writes to a device (default [])
    #[argh(option, arg_name = "list")]
    pub device_write_iops: Vec<String>,
    /// skip signature checks; there are none (default true)
    #[argh(option, arg_name = "bool", default = "true")]
    pub disable_content_trust: bool,
    /// DNS servers of its own
    #[argh(option, arg_name = "list")]
    pub dns: Vec<String>,
    /// options for its resolver (also --dns-opt)
    #[argh(option, arg_name = "list")]
    pub dns_option: Vec<String>,
    /// domains its resolver searches
    #[argh(option, arg_name = "list")]
    pub dns_search: Vec<String>,
    /// NIS domain name
    #[argh(option, arg_name = "string")]
    pub domainname: Option<String>,
    /// command to use in place of the image's ENTRYPOINT
    #[argh(option, arg_name = "string")]
    pub entrypoint: Option<String>,
    /// environment variables
    #[argh(option, short = 'e', arg_name = "list")]
    pub env: Vec<String>,
    /// file with environment variables, one per line
    #[argh(option, arg_name = "list")]
    pub env_file: Vec<String>,
    /// port or range that the container listens on
    #[argh(option, arg_name = "list")]
    pub expose: Vec<String>,
    /// GPUs for the container ("all" for each)
    #[argh(option, arg_name = "gpu-request")]
    pub gpus: Vec<String>,
    /// further groups to be in
    #[argh(option, arg_name = "list")]
    pub group_add: Vec<String>,
    /// command that tells whether it is healthy
    #[argh(option, arg_name = "string")]
    pub health_cmd: Option<String>,
    /// time between two health checks (ms|s|m|h) (default 0s)
    #[argh(option, arg_name = "duration")]
    pub health_interval: Option<i64>,
    /// failures in a row until it counts as unhealthy
    #[argh(option, arg_name = "int")]
    pub health_retries: Option<i64>,
    /// time between checks while it starts (ms|s|m|h) (default 0s)
    #[argh(option, arg_name = "duration")]
    pub health_start_interval: Option<i64>,
    /// time to start in which failures do not count (ms|s|m|h) (default 0s)
    #[argh(option, arg_name = "duration")]
    pub health_start_period: Option<i64>,
    /// longest time that one check may take (ms|s|m|h) (default 0s)
    #[argh(option, arg_name = "duration")]
    pub health_timeout: Option<i64>,
    /// host name
    #[argh(option, short = 'h', arg_name = "string")]
    pub hostname: Option<String>,
    /// run a small init as process 1 that passes signals on and reaps
    #[argh(option, arg_name = "bool")]
    pub init: Option<bool>,
    /// keep STDIN open also when nobody is attached
    #[argh(switch, short = 'i')]
    pub interactive: bool,
    /// largest I/O bandwidth of the system drive (Windows only)
    #[argh(option, arg_name = "bytes", hidden_help)]
    pub io_maxbandwidth: Option<i64>,
    /// most I/O operations of the system drive (Windows only)
    #[argh(option, arg_name = "uint", hidden_help)]
    pub io_maxiops: Option<i64>,
    /// IPv4 address (172.30.100.104)
    #[argh(option, arg_name = "string")]
    pub ip: Option<String>,
    /// IPv6 address (2001:db8::33)
    #[argh(option, arg_name = "string")]
    pub ip6: Option<String>,
    /// IPC namespace
    #[argh(option, arg_name = "string")]
    pub ipc: Option<String>,
    /// isolation technology
    #[argh(option, arg_name = "string")]
    pub isolation: Option<String>,
    /// limit of kernel memory; has no effect any more
    #[argh(option, arg_name = "bytes", hidden_help)]
    pub kernel_memory: Option<i64>,
    /// metadata as key=value
    #[argh(option, short = 'l', arg_name = "list")]
    pub label: Vec<String>,
    /// file with labels, one per line
    #[argh(option, arg_name = "list")]
    pub label_file: Vec<String>,
    /// link to another container
    #[argh(option, arg_name = "list")]
    pub link: Vec<String>,
    /// link-local addresses
    #[argh(option, arg_name = "list")]
    pub link_local_ip: Vec<String>,
    /// log driver
    #[argh(option, arg_name = "string")]
    pub log_driver: Option<String>,
    /// options of the log driver
    #[argh(option, arg_name = "list")]
    pub log_opt: Vec<String>,
    /// MAC address (92:d0:c6:0a:29:33)
    #[argh(option, arg_name = "string")]
    pub mac_address: Option<String>,
    /// memory limit
    #[argh(option, short = 'm', arg_name = "bytes")]
    pub memory: Option<i64>,
    /// memory that it may be pressed back to
    #[argh(option, arg_name = "bytes")]
    pub memory_reservation: Option<i64>,
    /// limit of memory and swap together; -1 for no limit on swap
    #[argh(option, arg_name = "bytes")]
    pub memory_swap: Option<i64>,
    /// how readily its memory is swapped, 0 to 100 (default -1)
    #[argh(option, arg_name = "int")]
    pub memory_swappiness: Option<i64>,
    /// file system to mount
    #[argh(option, arg_name = "mount")]
    pub mount: Vec<String>,
    /// name for the container
    #[argh(option, arg_name = "string")]
    pub name: Option<String>,
    /// network to connect to (also --net)
    #[argh(option, arg_name = "network")]
    pub network: Vec<String>,
    /// name of the container within its network (also --net-alias)
    #[argh(option, arg_name = "list")]
    pub network_alias: Vec<String>,
    /// switch the image's health check off
    #[argh(switch)]
    pub no_healthcheck: bool,
    /// do not kill it when memory runs out
    #[argh(switch)]
    pub oom_kill_disable: bool,
    /// how likely it is killed when the host runs out of memory (-1000 to 1000)
    #[argh(option, arg_name = "int")]
    pub oom_score_adj: Option<i64>,
    /// PID namespace
    #[argh(option, arg_name = "string")]
    pub pid: Option<String>,
    /// most processes it may have; -1 for no limit
    #[argh(option, arg_name = "int")]
    pub pids_limit: Option<i64>,
    /// platform to use where the image has several
    #[argh(option, arg_name = "string")]
    pub platform: Option<String>,
    /// give it all devices and capabilities
    #[argh(switch)]
    pub privileged: bool,
    /// make a port reachable on the host
    #[argh(option, short = 'p', arg_name = "list")]
    pub publish: Vec<String>,
    /// make every exposed port reachable on a free port of the host
    #[argh(switch, short = 'P')]
    pub publish_all: bool,
    /// when to pull the image ("always", "missing", "never") (default "missing")
    #[argh(option, arg_name = "string")]
    pub pull: Option<String>,
    /// do not show pull progress
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// mount its root file system read-only
    #[argh(switch)]
    pub read_only: bool,
    /// what to do when it exits (default "no")
    #[argh(option, arg_name = "string")]
    pub restart: Option<String>,
    /// remove it and its anonymous volumes when it exits
    #[argh(switch)]
    pub rm: bool,
    /// runtime to use
    #[argh(option, arg_name = "string")]
    pub runtime: Option<String>,
    /// security options
    #[argh(option, arg_name = "list")]
    pub security_opt: Vec<String>,
    /// size of /dev/shm
    #[argh(option, arg_name = "bytes")]
    pub shm_size: Option<i64>,
    /// pass signals of this command on to the process (default true)
    #[argh(option, arg_name = "bool", default = "true")]
    pub sig_proxy: bool,
    /// signal that stops it
    #[argh(option, arg_name = "string")]
    pub stop_signal: Option<String>,
    /// seconds to wait for it to stop before it is killed
    #[argh(option, arg_name = "int")]
    pub stop_timeout: Option<i64>,
    /// options of the storage driver
    #[argh(option, arg_name = "list")]
    pub storage_opt: Vec<String>,
    /// kernel parameters of its namespaces (default map[])
    #[argh(option, arg_name = "map")]
    pub sysctl: Vec<String>,
    /// directory to mount a tmpfs on
    #[argh(option, arg_name = "list")]
    pub tmpfs: Vec<String>,
    /// give it a terminal
    #[argh(switch, short = 't')]
    pub tty: bool,
    /// resource limits (default [])
    #[argh(option, arg_name = "ulimit")]
    pub ulimit: Vec<String>,
    /// bind the API socket and the credentials into it
    #[argh(switch)]
    pub use_api_socket: bool,
    /// user name or UID, and group (name|uid[:group|gid])
    #[argh(option, short = 'u', arg_name = "string")]
    pub user: Option<String>,
    /// user namespace ("host" | "keep-id[:uid=N,gid=N]")
    #[argh(option, arg_name = "string")]
    pub userns: Option<String>,
    /// UTS namespace
    #[argh(option, arg_name = "string")]
    pub uts: Option<String>,
    /// volume or host directory to mount
    #[argh(option, short = 'v', arg_name = "list")]
    pub volume: Vec<String>,
    /// volume driver
    #[argh(option, arg_name = "string")]
    pub volume_driver: Option<String>,
    /// mount the volumes of other containers
    #[argh(option, arg_name = "list")]
    pub volumes_from: Vec<String>,
    /// working directory
    #[argh(option, short = 'w', arg_name = "string")]
    pub workdir: Option<String>,
    #[argh(positional)]
    pub image: String,
    #[argh(positional, greedy)]
    pub command: Vec<String>,
}

impl Verb for Run {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        match start(&self, cx) {
            Ok(code) => Ok(code),
            Err(Failed::Plain(e)) => Err(e),
            Err(Failed::Docker(e)) if context::stdout_closed() => Err(e),
            Err(Failed::Docker(e)) => refuse(cx, "run", &e),
            Err(Failed::Usage(e)) => refuse(cx, "run", &e).map(|_| ExitCode::from(exit::USAGE)),
        }
    }
}

/// How a failure is told.
enum Failed {
    /// As any other command does it.
    Plain(Error),
    /// With `docker: ` in front, a way to the help behind and a status of its own.
    Docker(Error),
    /// The same, of our own: its words say nothing of the container's command.
    Usage(Error),
}

impl<E: Into<Error>> From<E> for Failed {
    fn from(e: E) -> Self {
        Failed::Docker(e.into())
    }
}

/// Create, attach, wait, start, in the order that loses nothing.
fn start(run: &Run, cx: &mut Context) -> Result<ExitCode, Failed> {
    check_pull(run)?;
    let mut request = flags::request(run).map_err(Failed::Usage)?;
    let config = &mut request.config;
    if run.detach {
        if !run.attach.is_empty() {
            let text = "conflicting options: cannot specify both --attach and --detach";
            return Err(Failed::Plain(Error::invalid(text)));
        }
        config.attach_stdin = false;
        config.attach_stdout = false;
        config.attach_stderr = false;
        config.stdin_once = false;
    } else {
        attach::check_tty(config.attach_stdin, config.tty).map_err(Failed::Plain)?;
    }
    if let (true, Some((rows, cols)), Some(host)) = (run.tty, attach::window_size(), &mut request.host_config) {
        host.console_size = [rows.into(), cols.into()];
    }
    let (keys, keys_text) = attach::detach_keys(cx, run.detach_keys.as_deref())
        .map_err(|e| e.context(format!("invalid detach keys ({})", run.detach_keys.as_deref().unwrap_or(""))))?;
    let streams = AttachOptions {
        stdin: request.config.attach_stdin,
        stdout: request.config.attach_stdout,
        stderr: request.config.attach_stderr,
        logs: false,
        detach_keys: keys_text,
    };
    let attached = streams.stdin || streams.stdout || streams.stderr;
    let id = new_container(run, request, cx)?;
    let client = cx.client()?;
    if !attached {
        // Of a container that does not start, too.
        writeln!(cx.out, "{id}")?;
        client.container_start(&id, &streams.detach_keys)?;
        return Ok(ExitCode::SUCCESS);
    }
    let signals = Signals::take(run.sig_proxy && !run.tty, run.tty)?;
    let hijacked = client.container_attach(&id, &streams)?;
    let wait = client.container_wait(&id, if run.rm { "removed" } else { "next-exit" })?;
    if let Err(e) = client.container_start(&id, &streams.detach_keys) {
        drop(hijacked);
        if run.rm {
            let mut wait = wait;
            let _ = wait.whole();
        }
        return Err(e.into());
    }
    let j = Joined { hijacked, wait, stdin: streams.stdin, tty: run.tty, keys, signals, detach_is_error: false };
    joined(cx, &client, &id, j).map_err(Failed::from)
}
