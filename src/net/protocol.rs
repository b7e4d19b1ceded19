//! What dockerd says to netd and what it hears: JSON over a seqpacket socket,
//! one question at a time, namespaces as passed fds.
//!
//! Invariant: every call can be repeated. A dockerd that died in the middle of
//! one is followed by one that asks [`Call::List`] and goes on from there.

use crate::error::{Context, Error, Kind, Result};
use crate::net::subnet::Subnet;
use crate::sys::socket;
use crate::util::json;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

/// Raised when a change makes an old netd and a new dockerd misunderstand each
/// other.
pub const VERSION: u32 = 2;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Call {
    Hello {
        version: u32,
    },
    /// Makes the network's bridge, or finds it.
    SetNetwork(NetworkSpec),
    RemoveNetwork {
        id: String,
    },
    /// Makes a container's namespace with its endpoints and published ports.
    /// Answered with [`Answer::Sandbox`] and the namespace's fd.
    Create(Box<SandboxSpec>),
    /// The same for the namespace of a running container, passed as fd, whose
    /// networks died with an earlier netd.
    Adopt(Box<SandboxSpec>),
    /// A bound socket, passed as fd, for whoever publishes a port of its address.
    Keep,
    /// Adds an endpoint to a live sandbox.
    Connect {
        container: String,
        endpoint: EndpointSpec,
    },
    Disconnect {
        container: String,
        network: String,
    },
    /// Another name of a live container (rename).
    Names {
        container: String,
        name: String,
        network: String,
        names: Vec<String>,
    },
    Release {
        container: String,
    },
    List,
    Status,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Done,
    Sandbox(Box<SandboxState>),
    Endpoint(EndpointState),
    Sandboxes(Vec<SandboxState>),
    Status(Status),
    Failed { kind: Failure, message: String, hint: Option<String> },
}

/// The kinds of [`Error`] that cross the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    NotFound,
    Invalid,
    Conflict,
    Forbidden,
    NotImplemented,
    System,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    pub id: String,
    pub name: String,
    /// Interface name, at most 15 bytes.
    pub bridge: String,
    pub mtu: u32,
    /// At most one of each family.
    pub pools: Vec<PoolSpec>,
    /// Nothing leaves the network; its containers have no default route.
    pub internal: bool,
    /// Off: what leaves keeps its address, so nobody outside can answer it.
    pub masquerade: bool,
    /// Containers reach each other.
    pub icc: bool,
    /// Names of containers are resolved on it.
    pub dns: bool,
    /// Keep prepared namespaces for it.
    pub warm: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSpec {
    pub subnet: Subnet,
    pub range: Option<Subnet>,
    /// The bridge's address; none on networks without one.
    pub gateway: Option<IpAddr>,
    /// Never given to containers.
    pub reserved: Vec<IpAddr>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    pub container: String,
    /// Kept for dockerd, which asks for it after its restart.
    pub name: String,
    /// In order: eth0, eth1, …
    pub endpoints: Vec<EndpointSpec>,
    pub ports: Vec<PortSpec>,
    pub dns: DnsSpec,
    /// May reach the host's loopback through [`HOST_GATEWAY`].
    pub host_gateway: bool,
}

impl SandboxSpec {
    /// Asks for what it has got: the same addresses, ports, names and interfaces.
    #[must_use]
    pub fn as_made(mut self, state: &SandboxState) -> Self {
        for (wanted, made) in self.endpoints.iter_mut().zip(&state.endpoints) {
            wanted.id.clone_from(&made.id);
            (wanted.ipv4, wanted.ipv6) = (made.ipv4, made.ipv6);
            wanted.mac = Some(made.mac.clone());
            wanted.names.clone_from(&made.names);
            wanted.interface = Some(made.interface.clone());
        }
        let port = |p: &PortState| PortSpec {
            container_port: p.container_port,
            protocol: p.protocol,
            host_ip: p.host_ip,
            host_ports: (p.host_port, p.host_port),
            with_previous: false,
        };
        self.ports = state.ports.iter().map(port).collect();
        self
    }
}

/// The address that stands for the host's loopback, for those who asked.
pub const HOST_GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 1, 2));

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    pub network: String,
    /// Docker's endpoint id; kept, not looked at.
    pub id: String,
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
    /// "02:42:…"; none = random.
    pub mac: Option<String>,
    /// What other containers of the network call it; the first is its PTR name.
    pub names: Vec<String>,
    /// Private aliases of this container for others of the network (`--link`): the
    /// alias, and a name or the id of the other, which need not be there yet.
    #[serde(default)]
    pub links: Vec<(String, String)>,
    /// Higher wins the default route.
    pub priority: i64,
    /// Its name inside; none = ethN.
    #[serde(default)]
    pub interface: Option<String>,
    /// Its settings: name (IFNAME stands for the interface) and value.
    #[serde(default)]
    pub sysctls: Vec<(String, String)>,
}

/// One published port, or a range of host ports to choose one from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    pub container_port: u16,
    pub protocol: Protocol,
    pub host_ip: IpAddr,
    /// 0 to 0 = any free one.
    pub host_ports: (u16, u16),
    /// Take the same host port as the entry before it (the IPv6 twin).
    pub with_previous: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// How names are resolved inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsSpec {
    /// Answer on 127.0.0.11.
    pub embedded: bool,
    /// Where other names are asked; empty = what the host's resolv.conf says now.
    pub servers: Vec<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxState {
    pub container: String,
    pub name: String,
    pub endpoints: Vec<EndpointState>,
    pub ports: Vec<PortState>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointState {
    pub network: String,
    pub id: String,
    pub interface: String,
    pub mac: String,
    pub ipv4: Option<IpAddr>,
    pub prefix4: u8,
    pub gateway4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
    pub prefix6: u8,
    pub gateway6: Option<IpAddr>,
    pub names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortState {
    pub container_port: u16,
    pub protocol: Protocol,
    pub host_ip: IpAddr,
    pub host_port: u16,
}

/// Counters, for `docker info` and tests that look for leaks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// How outbound connections are opened: "repair", "listen", or "none: " and why.
    pub outbound: String,
    pub tcp_flows: usize,
    pub udp_flows: usize,
    pub sandboxes: usize,
    pub open_files: usize,
    /// Whether ping can leave.
    pub ping: bool,
}

/// Every message is sent in packets of at most this, each led by a byte that
/// says whether more follow.
const PACKET: usize = 60_000;

pub fn send_message(socket: impl AsFd, value: &impl Serialize, fd: Option<&OwnedFd>) -> Result<()> {
    let bytes = json::to_vec(value)?;
    let pieces = bytes.chunks(PACKET).count();
    for (n, piece) in bytes.chunks(PACKET).enumerate() {
        let last = n + 1 == pieces;
        let mut packet = Vec::with_capacity(piece.len() + 1);
        packet.push(u8::from(!last));
        packet.extend_from_slice(piece);
        let fds = match fd {
            Some(fd) if last => vec![fd.as_fd()],
            _ => Vec::new(),
        };
        socket::send(socket.as_fd(), &packet, &fds)?;
    }
    Ok(())
}

/// None at the end of the connection.
pub fn receive_message<T: serde::de::DeserializeOwned>(socket: impl AsFd) -> Result<Option<(T, Option<OwnedFd>)>> {
    let mut bytes = Vec::new();
    let mut packet = vec![0; PACKET + 1];
    loop {
        let (n, fds) = socket::receive(socket.as_fd(), &mut packet, true)?;
        if n == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&packet[1..n]);
        if packet[0] == 0 {
            let value = json::from_slice(&bytes).context("read a message")?;
            return Ok(Some((value, fds.into_iter().next())));
        }
    }
}

impl From<Error> for Answer {
    fn from(e: Error) -> Self {
        let kind = match e.kind() {
            Kind::NotFound => Failure::NotFound,
            Kind::Invalid => Failure::Invalid,
            Kind::Conflict => Failure::Conflict,
            Kind::Forbidden => Failure::Forbidden,
            Kind::NotImplemented => Failure::NotImplemented,
            _ => Failure::System,
        };
        Answer::Failed { kind, message: e.message().to_owned(), hint: e.hint().map(str::to_owned) }
    }
}

impl Answer {
    /// Turns a failure back into the error that it was.
    pub fn into_result(self) -> Result<Self> {
        let Answer::Failed { kind, message, hint } = self else { return Ok(self) };
        let kind = match kind {
            Failure::NotFound => Kind::NotFound,
            Failure::Invalid => Kind::Invalid,
            Failure::Conflict => Kind::Conflict,
            Failure::Forbidden => Kind::Forbidden,
            Failure::NotImplemented => Kind::NotImplemented,
            Failure::System => Kind::System,
        };
        let error = Error::new(kind, message);
        Err(match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_travel_in_pieces() {
        let (a, b) = socket::pair().unwrap();
        let call = Call::Names {
            container: "c".into(),
            name: "b".into(),
            network: "n".into(),
            names: vec!["x".repeat(100); 1500],
        };
        let sent = call.clone();
        let thread = std::thread::spawn(move || send_message(&a, &sent, None).unwrap());
        let (got, fd) = receive_message::<Call>(&b).unwrap().unwrap();
        thread.join().unwrap();
        assert!(got == call && fd.is_none());
        assert!(receive_message::<Call>(&b).unwrap().is_none());
    }

    #[test]
    fn errors_keep_their_kind() {
        let answer = Answer::from(Error::conflict("x").with_hint("y"));
        let back = answer.into_result().unwrap_err();
        assert_eq!((back.kind(), back.message(), back.hint()), (Kind::Conflict, "x", Some("y")));
    }
}
