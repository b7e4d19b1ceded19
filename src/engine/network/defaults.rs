//! What the daemon's configuration says about networks: the default bridge,
//! pools and options of new ones. Plain data and its checks, in dockerd's words.

use super::ipam;
use crate::api::network::{IpamConfig, Map};
use crate::error::{Error, Result};
use crate::net::subnet::Subnet;
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Debug, Clone)]
pub struct Defaults {
    /// `--bip`, `--bip6`: address and prefix of the default bridge.
    pub bip: [Option<Subnet>; 2],
    /// `--fixed-cidr`, `--fixed-cidr-v6`
    pub fixed_cidr: [Option<Subnet>; 2],
    /// `--default-gateway`, `--default-gateway-v6`
    pub gateway: [Option<IpAddr>; 2],
    /// `--ipv6`: the default bridge has it.
    pub ipv6: bool,
    /// `--bridge`; "none" = no default bridge.
    pub bridge: String,
    pub mtu: u32,
    pub icc: bool,
    pub masquerade: bool,
    /// `--ip`: host address of published ports on the default bridge.
    pub binding: Option<IpAddr>,
    /// `--default-address-pool`; empty = the built-in ones.
    pub pools: Vec<(Subnet, u8)>,
    /// `--default-network-opt`: by driver.
    pub options: BTreeMap<String, Map>,
    /// `--host-gateway-ip`
    pub host_gateways: Vec<IpAddr>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            bip: [None; 2],
            fixed_cidr: [None; 2],
            gateway: [None; 2],
            ipv6: false,
            bridge: String::new(),
            mtu: 1500,
            icc: true,
            masquerade: true,
            binding: None,
            pools: Vec::new(),
            options: BTreeMap::new(),
            host_gateways: Vec::new(),
        }
    }
}

/// IPv4 first.
pub const FAMILIES: [bool; 2] = [true, false];

/// Index of a family in the pairs above.
fn index(v4: bool) -> usize {
    usize::from(!v4)
}

impl Defaults {
    pub fn without_bridge(&self) -> bool {
        self.bridge == "none"
    }

    /// What cannot be meant together.
    pub fn check(&self) -> Result<()> {
        if !self.bridge.is_empty() && !self.without_bridge() && self.bip.iter().any(Option::is_some) {
            return Err(Error::invalid(
                "You specified -b & --bip, mutually exclusive options. Please specify only one",
            ));
        }
        for v4 in FAMILIES {
            let (Some(range), Some(subnet)) = (self.fixed_cidr[index(v4)], self.bip[index(v4)]) else { continue };
            if !subnet.masked().covers(&range) {
                let flag = if v4 { "fixed-cidr" } else { "fixed-cidr-v6" };
                return Err(Error::invalid(format!(
                    "{flag} {range} is not within the bridge's subnet {}",
                    subnet.masked()
                )));
            }
        }
        Ok(())
    }

    /// The default bridge's pool of one family, as far as the configuration fixes it.
    pub fn bridge_config(&self, v4: bool) -> Option<IpamConfig> {
        let n = index(v4);
        let (bip, range, gateway) = (self.bip[n], self.fixed_cidr[n], self.gateway[n]);
        let subnet = bip.map(Subnet::masked).or(range)?;
        let mut config = IpamConfig { subnet: subnet.to_string(), ..IpamConfig::default() };
        config.ip_range = range.map(|r| r.to_string()).unwrap_or_default();
        let own = bip.map(|b| b.address.to_string());
        config.gateway = gateway.map(|g| g.to_string()).or(own.clone()).unwrap_or_default();
        if let (Some(own), Some(_)) = (own, gateway) {
            config.auxiliary_addresses =
                Some([("BridgeIP".to_owned(), own)].into()).filter(|_| bip.map(|b| b.address) != gateway);
        }
        Some(config)
    }

    /// Options of the default bridge, as its document shows them.
    pub fn bridge_options(&self) -> Map {
        let name = if self.bridge.is_empty() { "docker0" } else { &self.bridge };
        let binding = self.binding.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
        [
            ("com.docker.network.bridge.default_bridge", "true"),
            ("com.docker.network.bridge.enable_icc", if self.icc { "true" } else { "false" }),
            ("com.docker.network.bridge.enable_ip_masquerade", if self.masquerade { "true" } else { "false" }),
            ("com.docker.network.bridge.host_binding_ipv4", &binding),
            ("com.docker.network.bridge.name", name),
            ("com.docker.network.driver.mtu", &self.mtu.to_string()),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
    }

    /// Whether what an unconfigured bridge has may stay.
    pub fn fits(&self, config: &IpamConfig) -> bool {
        let Ok(subnet) = config.subnet.parse::<Subnet>() else { return false };
        let own = self.pools.iter().filter(|(base, _)| base.is_ipv4() == subnet.is_ipv4());
        let mut own = own.peekable();
        own.peek().is_none() || own.any(|(base, _)| base.covers(&subnet))
    }

    /// Where new subnets of a family come from.
    pub fn pools(&self, v4: bool) -> Vec<(Subnet, u8)> {
        let own: Vec<_> = self.pools.iter().filter(|(base, _)| base.is_ipv4() == v4).copied().collect();
        if own.is_empty() && v4 { ipam::default_pools() } else { own }
    }

    pub fn choose(&self, v4: bool, used: &[Subnet]) -> Result<Subnet> {
        let pools = self.pools(v4);
        if pools.is_empty() { ipam::choose_v6(used) } else { ipam::choose(&pools, used) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_bridge_follows_the_configuration() {
        let mut d = Defaults { bip: [Subnet::parse_host("10.9.8.1/24"), None], ..Defaults::default() };
        d.fixed_cidr[0] = "10.9.8.128/25".parse().ok();
        let config = d.bridge_config(true).unwrap();
        assert_eq!((config.subnet.as_str(), config.gateway.as_str()), ("10.9.8.0/24", "10.9.8.1"));
        assert_eq!((config.ip_range.as_str(), config.auxiliary_addresses), ("10.9.8.128/25", None));
        assert!(d.bridge_config(false).is_none() && d.check().is_ok());
        d.gateway[0] = "10.9.8.200".parse().ok();
        let config = d.bridge_config(true).unwrap();
        assert_eq!(config.gateway, "10.9.8.200");
        assert_eq!(config.auxiliary_addresses.unwrap()["BridgeIP"], "10.9.8.1");
        d.fixed_cidr[0] = "10.9.9.0/25".parse().ok();
        assert!(d.check().is_err());
        d.fixed_cidr[0] = None;
        d.bridge = "br0".into();
        assert!(d.check().unwrap_err().to_string().contains("mutually exclusive"));
    }

    #[test]
    fn pools_of_both_families() {
        let pools = vec![("10.50.0.0/16".parse().unwrap(), 24), ("fd00:50::/56".parse().unwrap(), 64)];
        let d = Defaults { pools, ..Defaults::default() };
        let first = d.choose(true, &[]).unwrap();
        assert_eq!(first.to_string(), "10.50.0.0/24");
        assert_eq!(d.choose(true, &[first]).unwrap().to_string(), "10.50.1.0/24");
        assert_eq!(d.choose(false, &[]).unwrap().to_string(), "fd00:50::/64");
        assert_eq!(Defaults::default().choose(true, &[]).unwrap().to_string(), "172.17.0.0/16");
    }
}
