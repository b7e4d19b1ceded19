//! `docker network connect`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Connect a container to a network
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Connect {
    /// name of the container within the network
    #[argh(option, arg_name = "strings")]
    pub alias: Vec<String>,
    /// options of the driver for this endpoint
    #[argh(option, arg_name = "strings")]
    pub driver_opt: Vec<String>,
    /// who gives the default gateway: the highest priority does; may be negative
    #[argh(option, arg_name = "int")]
    pub gw_priority: Option<i64>,
    /// IPv4 address (172.30.100.104)
    #[argh(option, arg_name = "string")]
    pub ip: Option<String>,
    /// IPv6 address (2001:db8::33)
    #[argh(option, arg_name = "string")]
    pub ip6: Option<String>,
    /// link to another container
    #[argh(option, arg_name = "list")]
    pub link: Vec<String>,
    /// link-local addresses
    #[argh(option, arg_name = "strings")]
    pub link_local_ip: Vec<String>,
    #[argh(positional)]
    pub network: String,
    #[argh(positional)]
    pub container: String,
}

impl Verb for Connect {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker network connect is not part of this build"))
    }
}
