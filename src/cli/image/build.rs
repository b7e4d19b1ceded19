//! `docker build`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Build an image from a Dockerfile
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Build {
    /// extra line for the hosts file, as host:ip
    #[argh(option, arg_name = "list")]
    pub add_host: Vec<String>,
    /// variables for the build
    #[argh(option, arg_name = "list")]
    pub build_arg: Vec<String>,
    /// images to take cached steps from
    #[argh(option, arg_name = "strings")]
    pub cache_from: Vec<String>,
    /// cgroup under which the container gets its own
    #[argh(option, arg_name = "string")]
    pub cgroup_parent: Option<String>,
    /// compress the context with gzip
    #[argh(switch)]
    pub compress: bool,
    /// length of a CFS period in microseconds
    #[argh(option, arg_name = "int")]
    pub cpu_period: Option<i64>,
    /// CPU time per CFS period in microseconds
    #[argh(option, arg_name = "int")]
    pub cpu_quota: Option<i64>,
    /// CPU shares, relative to other containers
    #[argh(option, short = 'c', arg_name = "int")]
    pub cpu_shares: Option<i64>,
    /// CPUs it may run on (0-3, 0,1)
    #[argh(option, arg_name = "string")]
    pub cpuset_cpus: Option<String>,
    /// memory nodes it may use (0-3, 0,1)
    #[argh(option, arg_name = "string")]
    pub cpuset_mems: Option<String>,
    /// skip signature checks; there are none (default true)
    #[argh(option, arg_name = "bool", default = "true")]
    pub disable_content_trust: bool,
    /// name of the Dockerfile (default "PATH/Dockerfile")
    #[argh(option, short = 'f', arg_name = "string")]
    pub file: Option<String>,
    /// remove intermediate containers also when it fails
    #[argh(switch)]
    pub force_rm: bool,
    /// file to write the image ID to
    #[argh(option, arg_name = "string")]
    pub iidfile: Option<String>,
    /// isolation technology
    #[argh(option, arg_name = "string")]
    pub isolation: Option<String>,
    /// labels for the image
    #[argh(option, arg_name = "list")]
    pub label: Vec<String>,
    /// memory limit
    #[argh(option, short = 'm', arg_name = "bytes")]
    pub memory: Option<i64>,
    /// limit of memory and swap together; -1 for no limit on swap
    #[argh(option, arg_name = "bytes")]
    pub memory_swap: Option<i64>,
    /// network for RUN (default "default")
    #[argh(option, arg_name = "string")]
    pub network: Option<String>,
    /// take no step from the cache
    #[argh(switch)]
    pub no_cache: bool,
    /// platform to build for
    #[argh(option, arg_name = "string")]
    pub platform: Option<String>,
    /// always look for a newer base image
    #[argh(switch)]
    pub pull: bool,
    /// print nothing but the image ID
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// remove intermediate containers after success (default true)
    #[argh(option, arg_name = "bool", default = "true")]
    pub rm: bool,
    /// security options
    #[argh(option, arg_name = "strings")]
    pub security_opt: Vec<String>,
    /// size of /dev/shm
    #[argh(option, arg_name = "bytes")]
    pub shm_size: Option<i64>,
    /// make one layer of the new ones
    #[argh(switch)]
    pub squash: bool,
    /// name and tag as name:tag
    #[argh(option, short = 't', arg_name = "list")]
    pub tag: Vec<String>,
    /// stage to build
    #[argh(option, arg_name = "string")]
    pub target: Option<String>,
    /// resource limits (default [])
    #[argh(option, arg_name = "ulimit")]
    pub ulimit: Vec<String>,
    #[argh(positional)]
    pub context: String,
}

impl Verb for Build {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker build is not part of this build"))
    }
}
