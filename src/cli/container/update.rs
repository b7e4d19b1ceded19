//! `docker update`.

use crate::api::container::UpdateConfig;
use crate::cli::context::Context;
use crate::cli::flags;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
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
    #[argh(option, arg_name = "bytes")]
    pub kernel_memory: Option<i64>,
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Update {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let numbers = [
            self.blkio_weight, self.cpu_period, self.cpu_quota, self.cpu_rt_period, self.cpu_rt_runtime,
            self.cpu_shares, self.cpus, self.memory, self.memory_reservation, self.memory_swap, self.pids_limit,
            self.kernel_memory,
        ];
        let words = [&self.cpuset_cpus, &self.cpuset_mems, &self.restart];
        if numbers.iter().all(Option::is_none) && words.iter().all(|w| w.is_none()) {
            return Err(Error::invalid("you must provide one or more flags when using this command"));
        }
        let number = |n: Option<i64>| n.unwrap_or(0);
        let config = UpdateConfig {
            blkio_weight: number(self.blkio_weight).try_into().unwrap_or(0),
            cpu_period: number(self.cpu_period),
            cpu_quota: number(self.cpu_quota),
            cpu_realtime_period: number(self.cpu_rt_period),
            cpu_realtime_runtime: number(self.cpu_rt_runtime),
            cpu_shares: number(self.cpu_shares),
            nano_cpus: number(self.cpus),
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            memory: number(self.memory),
            memory_reservation: number(self.memory_reservation),
            memory_swap: number(self.memory_swap),
            pids_limit: self.pids_limit,
            restart_policy: match &self.restart {
                Some(policy) => flags::restart_policy(policy)?,
                None => Default::default(),
            },
            ..UpdateConfig::default()
        };
        let client = cx.client()?;
        let (mut warnings, mut failures) = (Vec::new(), Vec::new());
        for name in &self.containers {
            match client.container_update(name, &config) {
                Ok(answer) => {
                    writeln!(cx.out, "{name}")?;
                    warnings.extend(answer.warnings.unwrap_or_default());
                }
                Err(e) => failures.push(e),
            }
        }
        if !warnings.is_empty() {
            writeln!(cx.out, "{}", warnings.join("\n"))?;
        }
        Error::join(failures).map(|()| ExitCode::SUCCESS)
    }
}
