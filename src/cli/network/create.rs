//! `docker network create`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Create a network
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Create {
    /// allow attaching by hand
    #[argh(switch)]
    pub attachable: bool,
    /// addresses in use by others (default map[])
    #[argh(option, arg_name = "map")]
    pub aux_address: Vec<String>,
    /// network to copy the configuration from
    #[argh(option, arg_name = "string")]
    pub config_from: Option<String>,
    /// make a configuration to copy from, no network
    #[argh(switch)]
    pub config_only: bool,
    /// driver to use (default "bridge")
    #[argh(option, short = 'd', arg_name = "string")]
    pub driver: Option<String>,
    /// gateways of the subnets
    #[argh(option, arg_name = "strings")]
    pub gateway: Vec<String>,
    /// no access from and to the outside
    #[argh(switch)]
    pub internal: bool,
    /// part of the subnet to allocate from
    #[argh(option, arg_name = "strings")]
    pub ip_range: Vec<String>,
    /// driver of the address management (default "default")
    #[argh(option, arg_name = "string")]
    pub ipam_driver: Option<String>,
    /// options of the address management (default map[])
    #[argh(option, arg_name = "map")]
    pub ipam_opt: Vec<String>,
    /// give IPv4 addresses (default true)
    #[argh(option, arg_name = "bool", default = "true")]
    pub ipv4: bool,
    /// give IPv6 addresses
    #[argh(switch)]
    pub ipv6: bool,
    /// metadata as key=value
    #[argh(option, arg_name = "list")]
    pub label: Vec<String>,
    /// options of the driver (default map[])
    #[argh(option, short = 'o', arg_name = "map")]
    pub opt: Vec<String>,
    /// subnets in CIDR form
    #[argh(option, arg_name = "strings")]
    pub subnet: Vec<String>,
    #[argh(positional)]
    pub name: String,
}

impl Verb for Create {
    fn run(self, _cx: &mut Context) -> Result<ExitCode> {
        Err(Error::not_implemented("docker network create is not part of this build"))
    }
}
