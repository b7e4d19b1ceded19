//! Published ports. The listeners are sockets of the host; a thread that lives
//! in the engine's namespace accepts from them and connects to the container
//! from the client's own address (IP_TRANSPARENT), so that the container sees
//! who is there. Segments of the answer come back by the rule that makes every
//! address local (`engine_ns`). Datagrams are `outbound::udp`'s.
//!
//! Control thread: [`Publisher`]. Own thread: [`Loop`].

use crate::error::{Context, Error, Result};
use crate::net::control::endpoint_for;
use crate::net::engine_ns::CONGESTION;
use crate::net::ns::Agent;
use crate::net::outbound::udp::Port;
use crate::net::outbound::{KIND, Outbound, PENDING, RELAY};
use crate::net::protocol::{PortSpec, PortState, Protocol, SandboxSpec};
use crate::net::reactor::{Handler, Key, Reactor, Ready, Registry, Remote, Slab, Ticker, Token};
use crate::net::relay::{Relays, abort_on_close};
use crate::net::sandbox::{Endpoint, Network};
use crate::net::share::{Owner, Place, Table};
use crate::net::stock::transparent;
use crate::net::subnet::Subnet;
use crate::sys::inet;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

const LISTENER: Token = 7 << KIND;
const BACKLOG: i32 = 1024;
/// Accepted in one go before others get their turn.
const BURST: usize = 64;
/// A container that does not answer its SYN.
const PATIENCE: Duration = Duration::from_secs(60);
/// For so long after its port was published a container may be about to listen: who
/// connects meanwhile is kept, not reset. A start is over when the program has begun,
/// and clients that connect at once and never look back (testcontainers' to its
/// reaper) would be lost.
const EARLY: Duration = Duration::from_secs(1);
/// Between two tries to reach such a container.
const PAUSE: Duration = Duration::from_millis(10);
/// Tries for an ephemeral port that is free on both families.
const TRIES: usize = 32;

/// The control thread's side.
pub struct Publisher {
    remote: Remote<Loop>,
    outbound: Remote<Outbound>,
    /// What we have given out: (protocol, address, port), by container.
    taken: HashMap<String, Vec<(Protocol, IpAddr, u16)>>,
    /// Sockets that somebody else has bound for us.
    kept: Vec<Kept>,
}

/// A socket that is bound, and where. None: the one before it takes this family too.
struct Bound {
    fd: Option<OwnedFd>,
    state: PortState,
}

impl Publisher {
    pub fn start(agent: &Agent, outbound: Remote<Outbound>, streams: Table) -> Result<Self> {
        let (reactor, remote) = Reactor::new()?;
        let state = Loop::new(reactor.registry(), streams);
        agent.spawn("publish", move || reactor.run(state))?;
        Ok(Self { remote, outbound, taken: HashMap::new(), kept: Vec::new() })
    }

    pub fn set_subnets(&self, subnets: Vec<Subnet>) {
        self.remote.post(move |l| l.subnets = subnets);
    }

    /// Binds all ports of a container or none.
    pub fn publish(
        &mut self,
        spec: &SandboxSpec,
        endpoints: &[Endpoint],
        networks: &HashMap<String, Network>,
        owner: &Owner,
    ) -> Result<Vec<PortState>> {
        if spec.ports.is_empty() {
            return Ok(Vec::new());
        }
        let bound = self.bind_all(&spec.ports).map_err(|e| {
            let id = endpoints.first().map(|e| e.state.id.clone()).unwrap_or_default();
            let name = &spec.name;
            e.context(format!("driver failed programming external connectivity on endpoint {name} ({id})"))
        })?;
        let mut states = Vec::new();
        for Bound { fd, state } in bound {
            states.push(state.clone());
            self.taken
                .entry(spec.container.clone())
                .or_default()
                .push((state.protocol, state.host_ip, state.host_port));
            let Some(fd) = fd else { continue };
            let Some((endpoint, gateways)) = endpoint_for(endpoints, networks, state.host_ip) else { continue };
            let container = |ip| SocketAddr::new(ip, state.container_port);
            let (v4, v6) = (endpoint.state.ipv4.map(container), endpoint.state.ipv6.map(container));
            let (owner, name) = (owner.clone(), spec.container.clone());
            match state.protocol {
                Protocol::Tcp => {
                    let since = Instant::now();
                    let listener = Listener { fd, v4, v6, gateways, container: name, owner, since };
                    self.remote.post(move |l| l.listen(listener));
                }
                Protocol::Udp => {
                    let prefer_v6 = state.host_ip.is_ipv6();
                    let Some(inside) = (if prefer_v6 { v6.or(v4) } else { v4.or(v6) }) else { continue };
                    let mac = crate::net::engine_ns::parse_mac(&endpoint.state.mac).unwrap_or_default();
                    let network = endpoint.state.network.clone();
                    let gateway = gateways.iter().find(|g| g.is_ipv4() == inside.is_ipv4()).copied();
                    let port = Port { fd, network, inside, mac, gateway, container: name, owner };
                    self.outbound.post(move |o| {
                        if let Err(e) = o.udp.publish(port) {
                            crate::error!(format!("publish a port: {e}"));
                        }
                    });
                }
            }
        }
        Ok(states)
    }

    fn bind_all(&self, specs: &[PortSpec]) -> Result<Vec<Bound>> {
        let mut bound: Vec<Bound> = Vec::new();
        let mut n = 0;
        while n < specs.len() {
            // An entry and its twins share their host port.
            let twins = specs[n + 1..].iter().take_while(|s| s.with_previous).count();
            let group = &specs[n..=n + twins];
            let more = self.bind_group(group, &bound)?;
            bound.extend(more);
            n += 1 + twins;
        }
        Ok(bound)
    }

    /// `before`: what the same container has so far.
    fn bind_group(&self, group: &[PortSpec], before: &[Bound]) -> Result<Vec<Bound>> {
        let (low, high) = group[0].host_ports;
        if low == 0 {
            let mut last = None;
            for _ in 0..TRIES {
                match self.bind_at(group, 0, before) {
                    Err(e) => last = Some(e),
                    bound => return bound,
                }
            }
            return Err(last.unwrap_or_else(|| Error::system("no free port was found")));
        }
        let mut error = None;
        let mut busy = false;
        for port in low..=high {
            match self.bind_at(group, port, before) {
                Err(e) => {
                    busy |= e.hint().is_none();
                    error = Some(e);
                }
                bound => return bound,
            }
        }
        match error {
            // Not busy: privileged, all of them, and the error has the remedy.
            Some(_) if high > low && busy => Err(Error::system(format!(
                "Bind for {}:{low}-{high} failed: all ports are allocated",
                display(group[0].host_ip)
            ))),
            Some(e) => Err(e),
            None => Err(Error::system("an empty range of ports")),
        }
    }

    fn bind_at(&self, group: &[PortSpec], mut port: u16, before: &[Bound]) -> Result<Vec<Bound>> {
        let mut bound = Vec::new();
        for spec in group {
            match self.bind_one(spec, port, before) {
                Ok(one) => {
                    port = one.state.host_port;
                    bound.push(one);
                }
                // A host without IPv6 has no twin to offer.
                Err((_, e)) if spec.with_previous && no_family(&e) => {}
                Err((text, _)) => return Err(text),
            }
        }
        Ok(bound)
    }

    fn bind_one(&self, spec: &PortSpec, port: u16, before: &[Bound]) -> Result<Bound, (Error, io::Error)> {
        let at = SocketAddr::new(spec.host_ip, port);
        let busy = || io::Error::from_raw_os_error(libc::EADDRINUSE);
        if port != 0 && self.is_taken(spec.protocol, spec.host_ip, port, before) {
            return Err((
                Error::system(format!("Bind for {}:{port} failed: port is already allocated", display(spec.host_ip))),
                busy(),
            ));
        }
        let PortSpec { container_port, protocol, host_ip, .. } = *spec;
        let bound = |fd, host_port| Bound { fd, state: PortState { container_port, protocol, host_ip, host_port } };
        if let Some(kept) = self.kept.iter().find(|k| k.serves(protocol, &at)) {
            let twin = kept.both && spec.with_previous;
            let fd = if twin { Ok(None) } else { kept.fd.try_clone().map(Some) };
            return fd.map(|fd| bound(fd, port)).map_err(|e| (refusal(spec, &at, &e), e));
        }
        match open(spec.protocol, &at) {
            Ok((fd, host_port)) => Ok(bound(Some(fd), host_port)),
            Err(e) => Err((refusal(spec, &at, &e), e)),
        }
    }

    fn is_taken(&self, protocol: Protocol, ip: IpAddr, port: u16, before: &[Bound]) -> bool {
        let clash = |other: &IpAddr| {
            *other == ip || (other.is_ipv4() == ip.is_ipv4() && (other.is_unspecified() || ip.is_unspecified()))
        };
        let before = before.iter().map(|b| (b.state.protocol, b.state.host_ip, b.state.host_port));
        let mut taken = self.taken.values().flatten().copied().chain(before);
        taken.any(|(p, i, n)| p == protocol && n == port && clash(&i))
    }

    /// Takes a bound socket for whoever publishes its port. Twice is as once.
    pub fn keep(&mut self, fd: OwnedFd) -> Result<()> {
        let kept = Kept::new(fd)?;
        self.kept.retain(|k| (k.protocol, k.at) != (kept.protocol, kept.at));
        self.kept.push(kept);
        Ok(())
    }

    pub fn withdraw(&mut self, container: &str) {
        if self.taken.remove(container).is_none() {
            return;
        }
        let owner = container.to_owned();
        // Waits: whoever asks for the port next must find it free.
        self.remote.ask(move |l| l.withdraw(&owner));
        let owner = container.to_owned();
        self.outbound.ask(move |o| o.udp.withdraw(&owner));
    }

    pub fn forget(&self, addresses: &[IpAddr]) {
        let addresses = addresses.to_vec();
        self.remote.post(move |l| addresses.into_iter().for_each(|a| l.forget(a)));
    }
}

/// Held open while no container publishes the port: clients wait in its queue.
struct Kept {
    fd: OwnedFd,
    protocol: Protocol,
    at: SocketAddr,
    /// Takes IPv4 on an IPv6 socket.
    both: bool,
}

impl Kept {
    fn new(fd: OwnedFd) -> Result<Self> {
        let at = inet::local_address(&fd).context("a socket for published ports must be one of IPv4 or IPv6")?;
        let stream = inet::get_int(&fd, libc::SOL_SOCKET, libc::SO_TYPE)? == libc::SOCK_STREAM;
        let both = at.is_ipv6() && inet::get_int(&fd, libc::SOL_IPV6, libc::IPV6_V6ONLY)? == 0;
        if !stream && both {
            return Err(Error::invalid(format!("the UDP socket {at} takes IPv4 as well"))
                .with_hint("pass one socket for each family (BindIPv6Only=ipv6-only)"));
        }
        if stream && inet::get_int(&fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? == 0 {
            inet::listen(&fd, BACKLOG).with_context(|| format!("listen on the passed socket {at}"))?;
        }
        if !stream {
            inet::want_local(&fd, at.is_ipv4())?;
        }
        crate::sys::fd::set_nonblocking(fd.as_fd(), true).context("set up a passed socket")?;
        Ok(Self { fd, protocol: if stream { Protocol::Tcp } else { Protocol::Udp }, at, both })
    }

    fn serves(&self, protocol: Protocol, at: &SocketAddr) -> bool {
        let anywhere = self.both && self.at.ip().is_unspecified() && at.ip().is_unspecified();
        self.protocol == protocol && (self.at == *at || (anywhere && self.at.port() == at.port()))
    }
}

fn display(ip: IpAddr) -> String {
    if ip.is_ipv4() { ip.to_string() } else { format!("[{ip}]") }
}

fn no_family(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT))
}

fn open(protocol: Protocol, at: &SocketAddr) -> io::Result<(OwnedFd, u16)> {
    let kind = if protocol == Protocol::Tcp { libc::SOCK_STREAM } else { libc::SOCK_DGRAM };
    let fd = inet::socket(inet::domain_of(at), kind, 0)?;
    if at.is_ipv6() {
        inet::set_int(&fd, libc::SOL_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    if protocol == Protocol::Udp {
        inet::want_local(&fd, at.is_ipv4())?;
    }
    if protocol == Protocol::Tcp {
        // Connections of the last listener may still wait for their end.
        inet::set_int(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    }
    inet::bind(&fd, at)?;
    if protocol == Protocol::Tcp {
        inet::listen(&fd, BACKLOG)?;
    }
    let port = inet::local_address(&fd)?.port();
    Ok((fd, port))
}

/// Why a port cannot be had, with the way out where there is one.
fn refusal(spec: &PortSpec, at: &SocketAddr, e: &io::Error) -> Error {
    let (ip, port) = (display(at.ip()), at.port());
    let listen = format!("{}{} {ip}:{port}", spec.protocol.as_str(), if at.is_ipv4() { 4 } else { 6 });
    match e.raw_os_error() {
        Some(libc::EACCES) => Error::system(format!(
            "cannot expose privileged port {port}: ports below {} are root's: listen {listen}: bind: permission denied",
            std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default().trim(),
        ))
        .with_hint(format!(
            "choose a port of 1024 or above, or let every user have it: sudo sysctl net.ipv4.ip_unprivileged_port_start={port} \
             (in /etc/sysctl.conf to keep it), or give the engine's binary the capability: sudo setcap cap_net_bind_service=ep, \
             or have systemd bind the port (see LISTEN_FDNAMES in dockerd(8))"
        )),
        _ => {
            let why = crate::error::errno_text(e);
            Error::system(format!("failed to bind host port for {ip}:{port}: listen {listen}: bind: {why}"))
        }
    }
}

struct Listener {
    fd: OwnedFd,
    v4: Option<SocketAddr>,
    v6: Option<SocketAddr>,
    gateways: Vec<IpAddr>,
    container: String,
    owner: Owner,
    since: Instant,
}

/// A client, and the listener that it came by.
struct Client {
    fd: OwnedFd,
    from: SocketAddr,
    listener: Key,
    place: Place,
}

/// A client that waits for the container to answer.
struct Waiting {
    client: Client,
    inner: OwnedFd,
    container: SocketAddr,
    since: Instant,
}

/// The loop's state. Lives in the engine's namespace.
pub struct Loop {
    registry: Registry,
    listeners: Slab<Listener>,
    waiting: Slab<Waiting>,
    /// Clients that came before their container listened.
    early: Vec<Client>,
    again: Ticker,
    relays: Relays,
    subnets: Vec<Subnet>,
    /// Listeners that could not accept for want of descriptors, or beyond their
    /// container's share: clients wait in the kernel's queue.
    starved: HashSet<Key>,
    /// Listeners that had their turn and may have more.
    more: Vec<Key>,
    places: Table,
    sweep: Ticker,
}

impl Loop {
    fn new(registry: Registry, places: Table) -> Self {
        Self {
            relays: Relays::new(registry.clone(), RELAY),
            registry,
            listeners: Slab::default(),
            waiting: Slab::default(),
            early: Vec::new(),
            again: Ticker::new(PAUSE),
            subnets: Vec::new(),
            starved: HashSet::new(),
            more: Vec::new(),
            places,
            sweep: Ticker::new(Duration::from_secs(1)),
        }
    }

    fn listen(&mut self, listener: Listener) {
        let key = self.listeners.next_key();
        match self.registry.add(&listener.fd, LISTENER | key) {
            Ok(()) => {
                self.listeners.insert(listener);
                // Edge-triggered: who came before is not announced.
                self.accept(key);
            }
            Err(e) => crate::error!(format!("watch a published port: {e}")),
        }
    }

    fn withdraw(&mut self, container: &str) {
        for key in self.listeners.keys() {
            if self.listeners.get_mut(key).is_some_and(|l| l.container == container) {
                if let Some(listener) = self.listeners.remove(key) {
                    // Closing is not enough where the socket is kept open for the next container.
                    self.registry.remove(&listener.fd);
                }
                self.starved.remove(&key);
            }
        }
    }

    fn accept(&mut self, key: Key) {
        self.starved.remove(&key);
        for _ in 0..BURST {
            let Some(listener) = self.listeners.get_mut(key) else { return };
            let place = self.places.take(&listener.owner);
            let Some(place) = place else { return self.starve(key) };
            match inet::accept(&listener.fd) {
                Ok((fd, from)) => self.begin(Client { fd, from, listener: key, place }),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if matches!(e.raw_os_error(), Some(libc::ECONNABORTED | libc::EINTR)) => {}
                Err(_) => return self.starve(key),
            }
        }
        self.more.push(key);
    }

    fn starve(&mut self, key: Key) {
        self.starved.insert(key);
    }

    /// Connects to the container in the client's name.
    fn begin(&mut self, client: Client) {
        let Some(listener) = self.listeners.get_mut(client.listener) else { return reset(&client) };
        let from = SocketAddr::new(client.from.ip().to_canonical(), client.from.port());
        if from.ip().is_loopback() {
            let _ = inet::set_option(&client.fd, libc::SOL_TCP, libc::TCP_CONGESTION, CONGESTION.as_bytes());
        }
        let container = if from.is_ipv6() { listener.v6.or(listener.v4) } else { listener.v4.or(listener.v6) };
        let Some(container) = container else { return };
        let inner = match dial(from, container, &listener.gateways, &self.subnets) {
            Ok(inner) => inner,
            Err(e) => return self.unreachable(client, container, &e),
        };
        let key = self.waiting.next_key();
        if self.registry.add(&inner, PENDING | key).is_ok() {
            self.waiting.insert(Waiting { client, inner, container, since: Instant::now() });
        }
    }

    /// Of connections, too, that nobody has looked at since they came about.
    fn forget(&mut self, address: IpAddr) {
        for key in self.waiting.keys() {
            if self.waiting.get_mut(key).is_some_and(|w| w.container.ip() == address) {
                self.connected(key);
            }
        }
        self.relays.forget(address);
    }

    fn connected(&mut self, key: Key) {
        let Some(Waiting { client, inner, container, .. }) = self.waiting.remove(key) else { return };
        if let Err(e) = inet::take_error(&inner) {
            return self.unreachable(client, container, &e);
        }
        self.registry.remove(&inner);
        if let Err(e) = self.relays.add([client.fd, inner], (container.ip(), 1), 0, client.place) {
            crate::warn!(format!("relay a published port: {e}"));
        }
    }

    fn unreachable(&mut self, client: Client, container: SocketAddr, e: &io::Error) {
        let early = self.listeners.get_mut(client.listener).is_some_and(|l| l.since.elapsed() < EARLY);
        if early && e.raw_os_error() == Some(libc::ECONNREFUSED) {
            self.early.push(client);
        } else {
            crate::debug!(format!("reach {container} for a published port: {e}"));
            reset(&client);
        }
    }
}

/// Nobody serves this client.
fn reset(client: &Client) {
    let _ = abort_on_close(&client.fd);
}

/// A connection to a container whose source is the client's address, or the
/// gateway's where that would mean something else inside.
fn dial(from: SocketAddr, container: SocketAddr, gateways: &[IpAddr], ours: &[Subnet]) -> io::Result<OwnedFd> {
    let ip = from.ip();
    let shown = from.is_ipv4() == container.is_ipv4() && !ip.is_loopback() && !ours.iter().any(|s| s.contains(ip));
    let gateway = gateways.iter().find(|g| g.is_ipv4() == container.is_ipv4());
    let sources =
        [shown.then_some(from), shown.then_some(SocketAddr::new(ip, 0)), gateway.map(|g| SocketAddr::new(*g, 0))];
    let mut result = Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
    for source in sources.into_iter().flatten() {
        let fd = transparent(container.is_ipv4())?;
        if let Err(e) = inet::bind(&fd, &source) {
            result = Err(e);
            continue;
        }
        result = match inet::connect(&fd, &container) {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
            _ => return Ok(fd),
        };
    }
    result
}

impl Handler for Loop {
    fn ready(&mut self, event: Ready) {
        let key = event.token & 0x00ff_ffff_ffff_ffff;
        match event.token >> KIND << KIND {
            LISTENER => self.accept(key),
            PENDING => self.connected(key),
            RELAY => self.relays.event(event),
            _ => {}
        }
    }

    fn settle(&mut self) -> Option<Duration> {
        let more = std::mem::take(&mut self.more);
        more.into_iter().for_each(|key| self.accept(key));
        if !self.early.is_empty() && self.again.due() {
            std::mem::take(&mut self.early).into_iter().for_each(|client| self.begin(client));
        }
        let busy = self.relays.pump();
        let ended = !self.relays.take_ended().is_empty();
        let sweep = self.sweep.due();
        if (ended || sweep) && !self.starved.is_empty() {
            self.starved.clone().into_iter().for_each(|key| self.accept(key));
        }
        if sweep {
            for key in self.waiting.keys() {
                if self.waiting.get_mut(key).is_some_and(|w| w.since.elapsed() > PATIENCE) {
                    self.waiting.remove(key);
                }
            }
        }
        match (busy || !self.more.is_empty(), self.waiting.is_empty() && self.starved.is_empty()) {
            (true, _) => Some(Duration::ZERO),
            _ if !self.early.is_empty() => Some(self.again.left()),
            (false, false) => Some(self.sweep.left()),
            (false, true) => None,
        }
    }
}
