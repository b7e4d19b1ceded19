//! `docker network connect`.

use crate::api::network::{EndpointIpamConfig, EndpointSettings, NetworkConnectRequest};
use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::client::segment;
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
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let mut options = std::collections::BTreeMap::new();
        for option in &self.driver_opt {
            match option.split_once('=') {
                Some((key, value)) if !key.is_empty() => options.insert(key.to_owned(), value.to_owned()),
                _ => return Err(Error::invalid("invalid key/value pair format in driver options")),
            };
        }
        let endpoint = EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: self.ip.unwrap_or_default(),
                ipv6_address: self.ip6.unwrap_or_default(),
                link_local_ips: self.link_local_ip,
            }),
            links: Some(self.link),
            aliases: Some(self.alias),
            driver_opts: Some(options),
            gw_priority: self.gw_priority.unwrap_or(0),
            ..EndpointSettings::default()
        };
        let body = NetworkConnectRequest { container: self.container, endpoint_config: Some(endpoint) };
        cx.client()?.post(format!("/networks/{}/connect", segment(&self.network))).json_body(&body)?.done()?;
        Ok(ExitCode::SUCCESS)
    }
}
