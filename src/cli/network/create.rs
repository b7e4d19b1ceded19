//! `docker network create`.

use crate::api::network::{ConfigReference, Ipam, IpamConfig, NetworkCreateRequest, NetworkCreateResponse};
use crate::cli::context::Context;
use crate::cli::lists::pairs;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
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
    /// make the network that carries published ports of a swarm
    #[argh(switch)]
    pub ingress: bool,
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
    /// how far the network reaches
    #[argh(option, arg_name = "string")]
    pub scope: Option<String>,
    /// subnets in CIDR form
    #[argh(option, arg_name = "strings")]
    pub subnet: Vec<String>,
    #[argh(positional)]
    pub name: String,
}

/// An address with its prefix length, host bits cleared on comparison.
#[derive(Clone, Copy)]
struct Net(IpAddr, u8);

impl Net {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let length: u8 = length.parse().ok()?;
        (length <= if address.is_ipv4() { 32 } else { 128 }).then_some(Self(address, length))
    }
    fn contains(self, address: IpAddr) -> bool {
        match (self.0, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let shift = 32 - u32::from(self.1);
                a.to_bits().checked_shr(shift) == b.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let shift = 128 - u32::from(self.1);
                a.to_bits().checked_shr(shift) == b.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

fn cidr(what: &str, text: &str) -> Result<Net> {
    Net::parse(text).ok_or_else(|| Error::invalid(format!("{what}invalid CIDR address: {text}")))
}

/// The pools of a network: every range, gateway and auxiliary address goes to the
/// one subnet that holds it.
fn pools(
    subnets: &[String],
    ranges: &[String],
    gateways: &[String],
    auxiliary: &BTreeMap<String, String>,
) -> Result<Vec<IpamConfig>> {
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err(Error::invalid("every ip-range or gateway must have a corresponding subnet"));
    }
    let mut pools = disjoint(subnets)?;
    for range in ranges {
        let pool = holding(&mut pools, Some(cidr("", range)?.0), "range", range)?;
        if !pool.ip_range.is_empty() {
            let (other, subnet) = (&pool.ip_range, &pool.subnet);
            let text = format!("cannot configure multiple ranges ({range}, {other}) on the same subnet ({subnet})");
            return Err(Error::invalid(text));
        }
        pool.ip_range.clone_from(range);
    }
    for gateway in gateways {
        let pool = holding(&mut pools, gateway.parse().ok(), "gateway", gateway)?;
        if !pool.gateway.is_empty() {
            let (other, subnet) = (&pool.gateway, &pool.subnet);
            let text =
                format!("cannot configure multiple gateways ({gateway}, {other}) for the same subnet ({subnet})");
            return Err(Error::invalid(text));
        }
        pool.gateway.clone_from(gateway);
    }
    for (name, address) in auxiliary {
        let pool = holding(&mut pools, address.parse().ok(), "aux-address", address)?;
        pool.auxiliary_addresses.get_or_insert_default().insert(name.clone(), address.clone());
    }
    Ok(pools.into_iter().map(|(_, pool)| pool).collect())
}

/// A pool for each subnet. The daemon judges a subnet that nothing here needs to
/// understand.
fn disjoint(subnets: &[String]) -> Result<Vec<(Option<Net>, IpamConfig)>> {
    let mut pools: Vec<(Option<Net>, IpamConfig)> = Vec::new();
    for subnet in subnets {
        let net = Net::parse(subnet);
        let overlaps = |other: Option<Net>| match (net, other) {
            (Some(a), Some(b)) => a.contains(b.0) || b.contains(a.0),
            _ => false,
        };
        if pools.iter().any(|(other, _)| overlaps(*other)) {
            return Err(Error::invalid("multiple overlapping subnet configuration is not supported"));
        }
        pools.push((net, IpamConfig { subnet: subnet.clone(), ..IpamConfig::default() }));
    }
    Ok(pools)
}

/// The pool whose subnet holds `address`; `text` is how the user wrote it, if it is one.
fn holding<'a>(
    pools: &'a mut [(Option<Net>, IpamConfig)],
    address: Option<IpAddr>,
    what: &str,
    text: &str,
) -> Result<&'a mut IpamConfig> {
    for (net, pool) in pools {
        let net = net.map_or_else(|| cidr("invalid subnet: ", &pool.subnet), Ok)?;
        if address.is_some_and(|a| net.contains(a)) {
            return Ok(pool);
        }
    }
    Err(Error::invalid(format!("no matching subnet for {what} {text}")))
}

impl Verb for Create {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let pools = pools(&self.subnet, &self.ip_range, &self.gateway, &pairs(&self.aux_address))?;
        let ipam = Ipam {
            driver: self.ipam_driver.unwrap_or_else(|| "default".into()),
            options: Some(pairs(&self.ipam_opt)),
            config: Some(pools),
        };
        let body = NetworkCreateRequest {
            name: self.name,
            driver: self.driver.unwrap_or_else(|| "bridge".into()),
            scope: self.scope.unwrap_or_default(),
            // The daemon's own default holds unless the line says otherwise.
            enable_ipv4: (!self.ipv4).then_some(false),
            enable_ipv6: self.ipv6.then_some(true),
            ipam: Some(ipam),
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            config_only: self.config_only,
            config_from: self.config_from.map(|network| ConfigReference { network }),
            options: Some(pairs(&self.opt)),
            labels: Some(pairs(&self.label)),
        };
        let made: NetworkCreateResponse = cx.client()?.post("/networks/create").json_body(&body)?.json()?;
        if !made.warning.is_empty() {
            writeln!(cx.err, "WARNING: {}", made.warning)?;
        }
        writeln!(cx.out, "{}", made.id)?;
        Ok(ExitCode::SUCCESS)
    }
}
