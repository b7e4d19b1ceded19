//! `docker update`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Change limits and restart policy of containers
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Update {
    /// relative block I/O weight, 10 to 1000; 0 for none (default 0)
    #[argh(option, arg_name = "uint16")]
    pub blkio_weight: Option<i64>,
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
    /// memory limit
    #[argh(option, short = 'm', arg_name = "bytes")]
    pub memory: Option<i64>,
    /// memory that it may be pressed back to
    #[argh(option, arg_name = "bytes")]
    pub memory_reservation: Option<i64>,
    /// limit of memory and swap together; -1 for no limit on swap
    #[argh(option, arg_name = "bytes")]
    pub memory_swap: Option<i64>,
    /// most processes it may have; -1 for no limit
    #[argh(option, arg_name = "int")]
    pub pids_limit: Option<i64>,
    /// what to do when it exits
    #[argh(option, arg_name = "string")]
    pub restart: Option<String>,
    /// limit of kernel memory; has no effect any more
    #[argh(option, arg_name = "bytes", hidden_help)]
    pub kernel_memory: Option<i64>,
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Update {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker update is not part of this build"))
    }
}
