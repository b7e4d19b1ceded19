//! What netd knows and does when dockerd asks: networks, sandboxes, and who has
//! to be told of a change. One thread; no locks.

use crate::error::{Error, Kind, Result};
use crate::net::engine_ns::{self, EngineNs};
use crate::net::netlink::{Netlink, link};
use crate::net::outbound::opening::Way;
use crate::net::outbound::{self, Outbound, Uplink};
use crate::net::protocol::{
    self, Answer, Call, EndpointSpec, NetworkSpec, PortState, SandboxSpec, SandboxState, Status,
};
use crate::net::publish::Publisher;
use crate::net::reactor::Remote;
use crate::net::sandbox::{Endpoint, Network, Ready, set_default_routes};
use crate::net::share::{Kind as Shared, Owner, Table};
use crate::net::stock::Stock;
use crate::net::subnet::Subnet;
use crate::net::warm::{Bare, Warm};
use crate::net::{dns, names, ns};
use crate::util::thread;
use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Sandboxes kept ready on a warm network.
const READY: usize = 3;

pub struct Control {
    ns: EngineNs,
    warm: Warm,
    reaper: Reaper,
    outbound: Remote<Outbound>,
    /// How TCP leaves, as [`Status`] says it.
    way_out: String,
    publisher: Publisher,
    dns: Remote<dns::Server>,
    networks: HashMap<String, Network>,
    sandboxes: HashMap<String, Sandbox>,
    /// After a failure, do not try again before the next call.
    preparing_failed: bool,
    /// All that was live under an earlier netd is known: addresses may be given.
    settled: bool,
}

struct Sandbox {
    namespace: OwnedFd,
    inside: Netlink,
    endpoints: Vec<Endpoint>,
    ports: Vec<PortState>,
    spec: SandboxSpec,
    owner: Owner,
}

impl Sandbox {
    fn state(&self) -> SandboxState {
        SandboxState {
            container: self.spec.container.clone(),
            name: self.spec.name.clone(),
            endpoints: self.endpoints.iter().map(|e| e.state.clone()).collect(),
            ports: self.ports.clone(),
        }
    }

    fn place(&self) -> names::Place<'_> {
        names::Place { container: &self.spec.container, dns: &self.spec.dns, endpoints: &self.endpoints }
    }
}

impl Control {
    pub fn new() -> Result<Self> {
        let mut ns = EngineNs::new()?;
        let reaper = Reaper::start(ns.agent.run(Netlink::open)??)?;
        let stock = Stock::new(ns.agent.clone());
        let way = Way::choose(&stock, &mut ns);
        let way_out = way.name();
        let streams = Table::new(Shared::Streams);
        let outbound = outbound::start(stock, way, streams.clone())?;
        let publisher = Publisher::start(&ns.agent, outbound.clone(), streams)?;
        Ok(Self {
            ns,
            outbound,
            way_out,
            publisher,
            dns: dns::start()?,
            warm: Warm::start()?,
            reaper,
            networks: HashMap::new(),
            sandboxes: HashMap::new(),
            preparing_failed: false,
            settled: false,
        })
    }

    pub fn in_use(&self) -> bool {
        !self.sandboxes.is_empty()
    }

    /// `passed` came with the call.
    pub fn handle(&mut self, call: Call, passed: Option<OwnedFd>) -> Result<(Answer, Option<OwnedFd>)> {
        self.preparing_failed = false;
        // Who asks for these has told all that was live.
        self.settled |= matches!(call, Call::Create(_) | Call::Status);
        self.reap();
        let done = |()| (Answer::Done, None);
        match call {
            Call::Hello { version: protocol::VERSION } => Ok(done(())),
            Call::Hello { version } => Err(Error::system(format!(
                "the running network process speaks version {}, this daemon speaks {version}",
                protocol::VERSION
            ))
            .with_hint("stop all containers once, so that the network process can be replaced")),
            Call::SetNetwork(spec) => self.set_network(spec).map(done),
            Call::RemoveNetwork { id } => self.remove_network(&id).map(done),
            Call::Create(spec) => {
                // A sandbox left over by a dockerd that died before it heard of it.
                self.release(&spec.container.clone());
                let (bare, endpoints) = match self.take_ready(&spec) {
                    Some(ready) => (ready.bare, vec![ready.endpoint]),
                    None => (self.warm.take()?, Vec::new()),
                };
                self.create(*spec, bare, endpoints)
            }
            Call::Adopt(spec) => {
                let namespace = passed.ok_or_else(|| Error::invalid("a namespace must be passed"))?;
                self.release(&spec.container.clone());
                let bare = adopted(namespace, &spec)?;
                self.create(*spec, bare, Vec::new())
            }
            Call::Keep => {
                let socket = passed.ok_or_else(|| Error::invalid("a socket must be passed"))?;
                self.publisher.keep(socket).map(done)
            }
            Call::Connect { container, endpoint } => self.connect(&container, endpoint),
            Call::Disconnect { container, network } => self.disconnect(&container, &network).map(done),
            Call::Names { container, name, network, names } => self.names(&container, name, &network, names).map(done),
            Call::Release { container } => {
                self.release(&container);
                Ok(done(()))
            }
            Call::List => Ok((Answer::Sandboxes(self.sandboxes.values().map(Sandbox::state).collect()), None)),
            Call::Status => Ok((Answer::Status(self.status()), None)),
        }
    }

    fn sandbox(&mut self, container: &str) -> Result<&mut Sandbox> {
        self.sandboxes
            .get_mut(container)
            .ok_or_else(|| Error::not_found(format!("no sandbox of container {container}")))
    }

    /// Gives addresses back whose links are gone by now.
    fn reap(&mut self) {
        while let Ok(held) = self.reaper.freed.try_recv() {
            self.freed(held);
        }
    }

    fn freed(&mut self, (network, address): Held) {
        self.reaper.held.set(self.reaper.held.get().saturating_sub(1));
        if let Some(network) = self.networks.get_mut(&network) {
            network.free(address);
        }
    }

    fn attach(
        &mut self,
        namespace: &OwnedFd,
        inside: &mut Netlink,
        interface: &str,
        wanted: &EndpointSpec,
    ) -> Result<Endpoint> {
        let mut attach = |control: &mut Self| {
            let network = control.networks.get_mut(&wanted.network);
            let network = network.ok_or_else(|| Error::not_found(format!("network {} not found", wanted.network)))?;
            network.attach(&mut control.ns, namespace, inside, interface, wanted)
        };
        match attach(self) {
            // The address may be one whose link is about to go.
            Err(e) if e.kind() == Kind::Forbidden && self.reaper.held.get() > 0 => {}
            done => return done,
        }
        while self.reaper.held.get() > 0
            && let Ok(held) = self.reaper.freed.recv()
        {
            self.freed(held);
        }
        attach(self)
    }

    fn set_network(&mut self, spec: NetworkSpec) -> Result<()> {
        if self.networks.contains_key(&spec.id) {
            return Ok(());
        }
        let network = Network::new(&mut self.ns, spec)?;
        let uplink = Uplink {
            network: network.spec.id.clone(),
            socket: self.ns.packet_socket(network.bridge.index)?,
            mac: network.bridge.mac,
            mtu: network.spec.mtu as usize,
            subnets: network.spec.pools.iter().map(|p| p.subnet).collect(),
            gateways: network.spec.pools.iter().filter_map(|p| p.gateway).collect(),
            internal: network.spec.internal || !network.spec.masquerade,
        };
        self.outbound.post(move |o| o.add_uplink(uplink));
        self.networks.insert(network.spec.id.clone(), network);
        self.subnets_changed();
        Ok(())
    }

    fn subnets_changed(&self) {
        let subnets: Vec<Subnet> = self.networks.values().flat_map(|n| n.spec.pools.iter().map(|p| p.subnet)).collect();
        self.publisher.set_subnets(subnets.clone());
        self.outbound.post(move |o| o.set_subnets(subnets));
    }

    fn remove_network(&mut self, id: &str) -> Result<()> {
        if self.sandboxes.values().any(|s| s.endpoints.iter().any(|e| e.state.network == id)) {
            return Err(Error::forbidden(format!("network {id} has active endpoints")));
        }
        if let Some(network) = self.networks.remove(id) {
            self.reaper.delete(network.ready.iter().map(|r| r.endpoint.link).collect(), Vec::new());
            // At once: a network of the same bridge that comes next would find it, and lose it.
            let _ = self.ns.netlink.send(link::delete(network.bridge.index));
            let id = id.to_owned();
            self.outbound.post(move |o| o.remove_uplink(&id));
            self.subnets_changed();
        }
        Ok(())
    }

    /// Makes what is still missing of a sandbox, in a namespace that has `endpoints`.
    fn create(
        &mut self,
        spec: SandboxSpec,
        mut bare: Bare,
        mut endpoints: Vec<Endpoint>,
    ) -> Result<(Answer, Option<OwnedFd>)> {
        let namespace = bare.namespace.try_clone()?;
        let owner = Owner::default();
        let ports = match self.furnish(&spec, &mut bare, &mut endpoints, &owner) {
            Ok(ports) => ports,
            Err(e) => {
                self.discard(&endpoints);
                return Err(e);
            }
        };
        if spec.host_gateway {
            self.allow_host(&endpoints);
        }
        let Bare { namespace: own, netlink: inside } = bare;
        let sandbox = Sandbox { namespace: own, inside, endpoints, ports, spec, owner };
        let state = sandbox.state();
        let embedded = sandbox.spec.dns.embedded;
        self.sandboxes.insert(state.container.clone(), sandbox);
        if embedded {
            self.serve_names(&state.container);
        }
        self.names_changed();
        Ok((Answer::Sandbox(Box::new(state)), Some(namespace)))
    }

    /// Endpoints, routes, published ports. What was made before a failure is in `endpoints`.
    fn furnish(
        &mut self,
        spec: &SandboxSpec,
        bare: &mut Bare,
        endpoints: &mut Vec<Endpoint>,
        owner: &Owner,
    ) -> Result<Vec<PortState>> {
        for (n, wanted) in spec.endpoints.iter().enumerate().skip(endpoints.len()) {
            let interface = wanted.interface.clone().unwrap_or_else(|| format!("eth{n}"));
            endpoints.push(self.attach(&bare.namespace, &mut bare.netlink, &interface, wanted)?);
        }
        set_default_routes(&mut bare.netlink, endpoints)?;
        self.own(endpoints, owner);
        self.publisher.publish(spec, endpoints, &self.networks, owner)
    }

    /// A container without its name server is still a container.
    fn serve_names(&self, container: &str) {
        let Some(sandbox) = self.sandboxes.get(container) else { return };
        let opened = sandbox.namespace.try_clone().map_err(Error::from);
        match opened.and_then(|namespace| ns::enter(namespace, dns::sockets::open)) {
            Ok(sockets) => {
                let view = names::view(&sandbox.place(), &self.places(), &self.networks);
                let container = container.to_owned();
                self.dns.post(move |d| d.add(container, sockets, view));
            }
            Err(e) => crate::warn!(format!("serve names: {e}"), "container" = container),
        }
    }

    /// A container of the default network has joined one that resolves names.
    fn serve_names_late(&mut self, container: &str) {
        let Some(sandbox) = self.sandboxes.get_mut(container) else { return };
        let resolves = |e: &Endpoint| self.networks.get(&e.state.network).is_some_and(|n| n.spec.dns);
        if !sandbox.spec.dns.embedded && sandbox.endpoints.iter().any(resolves) {
            sandbox.spec.dns.embedded = true;
            self.serve_names(container);
        }
    }

    fn places(&self) -> Vec<names::Place<'_>> {
        self.sandboxes.values().map(Sandbox::place).collect()
    }

    /// Tells the name server who is called what now.
    fn names_changed(&self) {
        let places = self.places();
        let embedded = places.iter().filter(|p| p.dns.embedded);
        let views: HashMap<String, dns::View> =
            embedded.map(|p| (p.container.to_owned(), names::view(p, &places, &self.networks))).collect();
        if !views.is_empty() {
            self.dns.post(move |d| d.update(views));
        }
    }

    /// What these endpoints have open counts for one container.
    fn own(&self, endpoints: &[Endpoint], owner: &Owner) {
        for endpoint in endpoints {
            let addresses: Vec<IpAddr> = endpoint.addresses().collect();
            let mac = engine_ns::parse_mac(&endpoint.state.mac).unwrap_or_default();
            let owner = owner.clone();
            self.outbound.post(move |o| o.own(&addresses, mac, &owner));
        }
    }

    fn allow_host(&self, endpoints: &[Endpoint]) {
        let addresses: Vec<IpAddr> = endpoints.iter().flat_map(Endpoint::addresses).collect();
        self.outbound.post(move |o| addresses.into_iter().for_each(|a| o.allow_host(a)));
    }

    /// A prepared sandbox, if the container asks for nothing special.
    fn take_ready(&mut self, spec: &SandboxSpec) -> Option<Ready> {
        let first = spec.endpoints.first()?;
        let plain = EndpointSpec {
            network: first.network.clone(),
            id: first.id.clone(),
            names: first.names.clone(),
            links: first.links.clone(),
            priority: first.priority,
            ..EndpointSpec::default()
        };
        if *first != plain {
            return None;
        }
        let mut ready = self.networks.get_mut(&first.network)?.ready.pop_front()?;
        ready.endpoint.state.names.clone_from(&first.names);
        ready.endpoint.state.id.clone_from(&first.id);
        ready.endpoint.links.clone_from(&first.links);
        ready.endpoint.priority = first.priority;
        Some(ready)
    }

    fn connect(&mut self, container: &str, wanted: EndpointSpec) -> Result<(Answer, Option<OwnedFd>)> {
        let sandbox = self.sandbox(container)?;
        if let Some(endpoint) = sandbox.endpoints.iter().find(|e| e.state.network == wanted.network) {
            return Ok((Answer::Endpoint(endpoint.state.clone()), None));
        }
        let used = |n: usize| sandbox.endpoints.iter().any(|e| e.state.interface == format!("eth{n}"));
        let number = (0..).find(|n| !used(*n)).unwrap_or(0);
        let interface = wanted.interface.clone().unwrap_or_else(|| format!("eth{number}"));
        let namespace = sandbox.namespace.try_clone()?;
        let mut inside = ns::enter(namespace.try_clone()?, Netlink::open)?;
        let endpoint = self.attach(&namespace, &mut inside, &interface, &wanted)?;
        let state = endpoint.state.clone();
        let sandbox = self.sandbox(container)?;
        let before = ways_out(&sandbox.endpoints);
        sandbox.endpoints.push(endpoint);
        set_default_routes(&mut sandbox.inside, &sandbox.endpoints)?;
        if let Some(sandbox) = self.sandboxes.get(container) {
            self.own(&sandbox.endpoints, &sandbox.owner);
            if sandbox.spec.host_gateway {
                self.allow_host(&sandbox.endpoints);
            }
        }
        self.serve_names_late(container);
        self.names_changed();
        if let Err(e) = self.ports_follow(container, &before) {
            self.disconnect(container, &state.network)?;
            return Err(e);
        }
        Ok((Answer::Endpoint(state), None))
    }

    /// Published ports are those of the endpoint that leads out: they move when
    /// that is another one now, and are given back when there is none.
    fn ports_follow(&mut self, container: &str, before: &[Option<String>; 2]) -> Result<()> {
        let Some(sandbox) = self.sandboxes.get_mut(container) else { return Ok(()) };
        if sandbox.spec.ports.is_empty() || ways_out(&sandbox.endpoints) == *before {
            return Ok(());
        }
        self.publisher.withdraw(container);
        sandbox.ports.clear();
        if !sandbox.endpoints.is_empty() {
            sandbox.ports =
                self.publisher.publish(&sandbox.spec, &sandbox.endpoints, &self.networks, &sandbox.owner)?;
        }
        Ok(())
    }

    fn disconnect(&mut self, container: &str, network: &str) -> Result<()> {
        let Some(sandbox) = self.sandboxes.get_mut(container) else { return Ok(()) };
        let Some(at) = sandbox.endpoints.iter().position(|e| e.state.network == network) else { return Ok(()) };
        let before = ways_out(&sandbox.endpoints);
        let endpoint = sandbox.endpoints.remove(at);
        self.discard(&[endpoint]);
        self.names_changed();
        if let Err(e) = self.ports_follow(container, &before) {
            crate::warn!(format!("published ports are lost: {e}"), "container" = container);
        }
        let sandbox = self.sandbox(container)?;
        set_default_routes(&mut sandbox.inside, &sandbox.endpoints)
    }

    fn names(&mut self, container: &str, name: String, network: &str, names: Vec<String>) -> Result<()> {
        let sandbox = self.sandbox(container)?;
        sandbox.spec.name = name;
        for endpoint in sandbox.endpoints.iter_mut().filter(|e| e.state.network == network) {
            endpoint.state.names.clone_from(&names);
        }
        self.names_changed();
        Ok(())
    }

    fn release(&mut self, container: &str) {
        if let Some(sandbox) = self.sandboxes.remove(container) {
            self.publisher.withdraw(container);
            if sandbox.spec.dns.embedded {
                let container = container.to_owned();
                self.dns.post(move |d| d.remove(&container));
            }
            self.discard(&sandbox.endpoints);
            drop(sandbox);
            self.names_changed();
        }
    }

    /// Has the links of endpoints deleted and their addresses freed after that.
    fn discard(&self, endpoints: &[Endpoint]) {
        let links = endpoints.iter().map(|e| e.link).collect();
        let addresses = endpoints.iter().flat_map(|e| e.addresses().map(|a| (e.state.network.clone(), a))).collect();
        let gone: Vec<IpAddr> = endpoints.iter().flat_map(Endpoint::addresses).collect();
        self.publisher.forget(&gone);
        self.outbound.post(move |o| gone.into_iter().for_each(|a| o.forget(a)));
        self.reaper.delete(links, addresses);
    }

    pub fn wants_to_prepare(&self) -> bool {
        self.settled && !self.preparing_failed && self.networks.values().any(|n| n.spec.warm && n.ready.len() < READY)
    }

    /// Makes one sandbox ready ahead of need.
    pub fn prepare(&mut self) {
        self.reap();
        let Some(network) = self.networks.values_mut().find(|n| n.spec.warm && n.ready.len() < READY) else { return };
        let wanted = EndpointSpec { network: network.spec.id.clone(), ..EndpointSpec::default() };
        let made = self.warm.take().and_then(|mut bare| {
            let endpoint = network.attach(&mut self.ns, &bare.namespace, &mut bare.netlink, "eth0", &wanted)?;
            set_default_routes(&mut bare.netlink, std::slice::from_ref(&endpoint))?;
            Ok(Ready { bare, endpoint })
        });
        match made {
            Ok(ready) => network.ready.push_back(ready),
            Err(e) => {
                crate::warn!(format!("prepare a network namespace: {e}"));
                self.preparing_failed = true;
            }
        }
    }

    fn status(&self) -> Status {
        let (tcp_flows, udp_flows) = self.outbound.ask(|o| (o.tcp.count(), o.udp.len())).unwrap_or_default();
        Status {
            outbound: self.way_out.clone(),
            tcp_flows,
            udp_flows,
            ping: outbound::icmp::allowed(),
            sandboxes: self.sandboxes.len(),
            open_files: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        }
    }
}

/// The namespace of a running container, without the links that lead nowhere: the
/// kernel takes those of a dead netd apart when it comes to it.
fn adopted(namespace: OwnedFd, spec: &SandboxSpec) -> Result<Bare> {
    let mut netlink = ns::enter(namespace.try_clone()?, Netlink::open)?;
    let wanted: Vec<String> = spec
        .endpoints
        .iter()
        .enumerate()
        .map(|(n, e)| e.interface.clone().unwrap_or_else(|| format!("eth{n}")))
        .collect();
    for stale in link::list(&mut netlink)?.into_iter().filter(|l| wanted.contains(&l.name)) {
        let _ = netlink.send(link::delete(stale.index));
    }
    Ok(Bare { namespace, netlink })
}

/// The networks that lead out, for IPv4 and for IPv6.
fn ways_out(endpoints: &[Endpoint]) -> [Option<String>; 2] {
    let network = |v4| Endpoint::way_out(endpoints, v4).or(endpoints.first()).map(|e| e.state.network.clone());
    [network(true), network(false)]
}

/// The endpoint that takes a published port's connections: the one that leads
/// out, else the first; with the addresses of its network's bridge.
pub fn endpoint_for<'a>(
    endpoints: &'a [Endpoint],
    networks: &HashMap<String, Network>,
    host: IpAddr,
) -> Option<(&'a Endpoint, Vec<IpAddr>)> {
    let endpoint = Endpoint::way_out(endpoints, host.is_ipv4()).or(endpoints.first())?;
    let gateways = networks.get(&endpoint.state.network)?.spec.pools.iter().filter_map(|p| p.gateway).collect();
    Some((endpoint, gateways))
}

/// A network and an address of it.
type Held = (String, IpAddr);
/// Links to delete and addresses that are free after that.
type Batch = (Vec<u32>, Vec<Held>);

/// Deletes links on a thread of its own: each deletion waits some 20 ms for the
/// kernel's read-copy-update, which nobody else should wait for.
struct Reaper {
    work: Sender<Batch>,
    freed: Receiver<Held>,
    /// Addresses that have not come back yet.
    held: Cell<usize>,
}

impl Reaper {
    fn start(mut netlink: Netlink) -> Result<Self> {
        let (work, queue) = channel::<Batch>();
        let (free, freed) = channel();
        let body = move || {
            while let Ok((mut links, mut addresses)) = queue.recv() {
                while let Ok((more, also)) = queue.try_recv() {
                    links.extend(more);
                    addresses.extend(also);
                }
                // A link whose namespace has ended is gone already.
                let _ = netlink.send_all(links.into_iter().map(link::delete).collect());
                for address in addresses {
                    let _ = free.send(address);
                }
            }
        };
        thread::start("reaper", 128 * 1024, body)?;
        Ok(Self { work, freed, held: Cell::new(0) })
    }

    fn delete(&self, links: Vec<u32>, addresses: Vec<Held>) {
        self.held.set(self.held.get() + addresses.len());
        let _ = self.work.send((links, addresses));
    }
}
