//! One container's place in the networks: its namespace, its veths, its
//! addresses. Used by netd's control thread.
//!
//! Invariant: an [`Endpoint`] holds its addresses from the moment it is made
//! until the reaper has deleted its veth: two live links never share one.

use crate::error::{Context, Error, Result};
use crate::net::engine_ns::{self, EngineNs};
use crate::net::ipam::Pool;
use crate::net::netlink::link::{self, Link, Peer};
use crate::net::netlink::{Netlink, route};
use crate::net::ns;
use crate::net::protocol::{EndpointSpec, EndpointState, NetworkSpec};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use crate::net::warm::Bare;

/// A network as netd keeps it.
#[derive(Debug)]
pub struct Network {
    pub spec: NetworkSpec,
    pub bridge: Link,
    pools: Vec<Pool>,
    /// Whole sandboxes with one endpoint here, waiting for a container.
    pub ready: VecDeque<Ready>,
}

/// A prepared namespace that is on its network already.
#[derive(Debug)]
pub struct Ready {
    pub bare: Bare,
    pub endpoint: Endpoint,
}

#[derive(Debug)]
pub struct Endpoint {
    pub state: EndpointState,
    /// Index of our end of the veth in the engine's namespace.
    pub link: u32,
    /// Index of the container's end in its own.
    pub inner: u32,
    pub priority: i64,
    /// [`EndpointSpec::links`].
    pub links: Vec<(String, String)>,
    /// Name of its network, which decides between equals.
    pub network_name: String,
}

impl Endpoint {
    /// Docker's order of ways out, the best first: both families, the higher
    /// priority, the earlier name.
    fn rank(&self) -> (bool, std::cmp::Reverse<i64>, &str) {
        let both = self.state.gateway4.is_some() && self.state.gateway6.is_some();
        (!both, std::cmp::Reverse(self.priority), &self.network_name)
    }

    /// The endpoint that leads out for one family.
    pub fn way_out(endpoints: &[Endpoint], v4: bool) -> Option<&Endpoint> {
        endpoints.iter().filter(|e| e.gateway(v4).is_some()).min_by(|a, b| a.rank().cmp(&b.rank()))
    }

    pub fn gateway(&self, v4: bool) -> Option<IpAddr> {
        if v4 { self.state.gateway4 } else { self.state.gateway6 }
    }

    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [self.state.ipv4, self.state.ipv6].into_iter().flatten()
    }
}

impl Network {
    pub fn new(ns: &mut EngineNs, spec: NetworkSpec) -> Result<Self> {
        let bridge = ns.bridge(&spec)?;
        let mut pools = Vec::new();
        for p in &spec.pools {
            let mut pool = Pool::new(p.subnet, p.range);
            for address in p.gateway.iter().chain(&p.reserved) {
                pool.take(*address);
            }
            pools.push(pool);
        }
        Ok(Self { spec, bridge, pools, ready: VecDeque::new() })
    }

    fn choose(&mut self, v4: bool, wanted: Option<IpAddr>) -> Result<Option<(IpAddr, u8)>> {
        let Some(pool) = self.pools.iter_mut().find(|p| p.subnet().is_ipv4() == v4) else {
            return match wanted {
                None => Ok(None),
                Some(a) => Err(Error::invalid(format!("no configured subnet contains IP address {a}"))),
            };
        };
        let prefix = pool.subnet().prefix;
        match wanted {
            Some(a) if !pool.subnet().contains(a) => {
                Err(Error::invalid(format!("no configured subnet contains IP address {a}")))
            }
            Some(a) if pool.take(a) => Ok(Some((a, prefix))),
            Some(_) => Err(Error::forbidden("Address already in use")),
            None => match pool.next_free() {
                Some(a) => Ok(Some((a, prefix))),
                None => Err(Error::forbidden(format!(
                    "no available IPv{} addresses on this network's address pools: {} ({})",
                    if v4 { 4 } else { 6 },
                    self.spec.bridge,
                    self.spec.id
                ))),
            },
        }
    }

    pub fn free(&mut self, address: IpAddr) {
        for pool in &mut self.pools {
            pool.release(address);
        }
    }

    /// Puts a namespace on the network. On error nothing is left.
    pub fn attach(
        &mut self,
        ns: &mut EngineNs,
        namespace: &OwnedFd,
        inside: &mut Netlink,
        interface: &str,
        wanted: &EndpointSpec,
    ) -> Result<Endpoint> {
        let mac = match &wanted.mac {
            Some(text) => engine_ns::parse_mac(text)
                .ok_or_else(|| Error::invalid(format!("{text} is not a valid mac address")))?,
            None => engine_ns::random_mac(),
        };
        let v4 = self.choose(true, wanted.ipv4)?;
        let v6 = match self.choose(false, wanted.ipv6) {
            Ok(v6) => v6,
            Err(e) => {
                v4.iter().for_each(|(a, _)| self.free(*a));
                return Err(e);
            }
        };
        let state = EndpointState {
            network: self.spec.id.clone(),
            id: wanted.id.clone(),
            interface: interface.into(),
            mac: engine_ns::format_mac(&mac),
            ipv4: v4.map(|a| a.0),
            prefix4: v4.map_or(0, |a| a.1),
            gateway4: v4.and_then(|_| self.gateway(true)),
            ipv6: v6.map(|a| a.0),
            prefix6: v6.map_or(0, |a| a.1),
            gateway6: v6.and_then(|_| self.gateway(false)),
            names: wanted.names.clone(),
        };
        let addresses: Vec<(IpAddr, u8)> = v4.into_iter().chain(v6).collect();
        match self.wire(ns, namespace, inside, interface, mac, &addresses, &wanted.sysctls) {
            Ok((link, inner)) => Ok(Endpoint {
                state,
                link,
                inner,
                priority: wanted.priority,
                links: wanted.links.clone(),
                network_name: self.spec.name.clone(),
            }),
            Err(e) => {
                addresses.iter().for_each(|(a, _)| self.free(*a));
                Err(e)
            }
        }
    }

    fn gateway(&self, v4: bool) -> Option<IpAddr> {
        engine_ns::gateway(&self.spec, v4).map(|g| g.0).filter(|_| !self.spec.internal)
    }

    /// The veth and what is set on its inner end; the two indices.
    #[expect(clippy::too_many_arguments, reason = "one endpoint in its pieces")]
    fn wire(
        &self,
        ns: &mut EngineNs,
        namespace: &OwnedFd,
        inside: &mut Netlink,
        interface: &str,
        mac: link::Mac,
        addresses: &[(IpAddr, u8)],
        sysctls: &[(String, String)],
    ) -> Result<(u32, u32)> {
        let name = format!("veth{}", &crate::util::id::random()[..7]);
        let peer = Peer { name: interface, mac, namespace: namespace.as_fd() };
        ns.netlink
            .send(link::create_veth(&name, self.bridge.index, self.spec.mtu, peer))
            .with_context(|| format!("create a veth pair on {}", self.spec.bridge))?;
        let outer = link::find(&mut ns.netlink, &name)?.index;
        let mut finish = || -> Result<u32> {
            if !self.spec.icc {
                ns.netlink.send(link::isolate(outer)).context("isolate a bridge port")?;
            }
            let inner = link::find(inside, interface)?.index;
            let v6 = addresses.iter().any(|(a, _)| a.is_ipv6());
            let enable = v6.then(|| (format!("net.ipv6.conf.{interface}.disable_ipv6"), "0".to_owned()));
            let asked = sysctls.iter().map(|(name, value)| (name.replace("IFNAME", interface), value.clone()));
            let settings: Vec<_> = enable.into_iter().chain(asked).collect();
            if !settings.is_empty() {
                ns::enter(namespace.try_clone()?, move || set(&settings))?;
            }
            let given = addresses.iter().map(|(a, prefix)| link::add_address(inner, *a, *prefix));
            let requests = std::iter::once(link::set_up(inner)).chain(given).collect();
            inside.send_all(requests).with_context(|| format!("give {interface} its addresses"))?;
            link::await_operational(inside, interface)?;
            link::await_operational(&mut ns.netlink, &name)?;
            // Its first port brings the bridge itself up.
            link::await_operational(&mut ns.netlink, &self.spec.bridge)?;
            for (address, _) in addresses.iter().filter(|(a, _)| a.is_ipv6()) {
                route::await_local(inside, *address);
            }
            Ok(inner)
        };
        match finish() {
            Ok(inner) => Ok((outer, inner)),
            Err(e) => {
                let _ = ns.netlink.send(link::delete(outer));
                Err(e)
            }
        }
    }
}

/// Makes the endpoint of the highest rank the way out, for each family on its own.
pub fn set_default_routes(inside: &mut Netlink, endpoints: &[Endpoint]) -> Result<()> {
    for v4 in [true, false] {
        let family = if v4 { libc::AF_INET } else { libc::AF_INET6 };
        let _ = inside.send(route::delete_default(family));
        if let Some(best) = Endpoint::way_out(endpoints, v4)
            && let Some(gateway) = best.gateway(v4)
        {
            inside.send(route::add_default(gateway, best.inner)).context("set the default route")?;
        }
    }
    Ok(())
}

/// Settings of one interface, from inside its namespace.
fn set(settings: &[(String, String)]) -> Result<()> {
    for (name, value) in settings {
        ns::sysctl(name, value).with_context(|| format!("set {name} to {value}"))?;
    }
    Ok(())
}
