//! Frames to containers, complete with checksums. Pure.

use super::{ACK, ETHERNET, ICMP, ICMPV6, Mac, TCP, UDP, VNET, checksum};
use std::net::{IpAddr, SocketAddr};

/// The two ends of the wire: the bridge and one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub ours: Mac,
    pub theirs: Mac,
    pub mtu: usize,
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// An empty virtio header and Ethernet.
fn frame(peer: &Peer, v4: bool, capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(VNET + ETHERNET + 40 + capacity);
    bytes.resize(VNET, 0);
    bytes.extend_from_slice(&peer.theirs);
    bytes.extend_from_slice(&peer.ours);
    bytes.extend_from_slice(&if v4 { 0x0800u16 } else { 0x86dd }.to_be_bytes());
    bytes
}

/// An IP header. `fragment` is (identification, offset in bytes, more follow);
/// for IPv6 a fragment header is added.
fn ip(
    frame: &mut Vec<u8>,
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    length: usize,
    fragment: Option<(u32, usize, bool)>,
) {
    let (source, destination) = (octets(from), octets(to));
    if from.is_ipv4() {
        let (id, flags) = match fragment {
            None => (0, 0x4000),
            Some((id, offset, more)) => (id as u16, (offset / 8) as u16 | if more { 0x2000 } else { 0 }),
        };
        let start = frame.len();
        frame.extend_from_slice(&[0x45, 0]);
        frame.extend_from_slice(&((20 + length) as u16).to_be_bytes());
        frame.extend_from_slice(&id.to_be_bytes());
        frame.extend_from_slice(&flags.to_be_bytes());
        frame.extend_from_slice(&[64, protocol, 0, 0]);
        frame.extend_from_slice(&source);
        frame.extend_from_slice(&destination);
        let sum = checksum(&[&frame[start..]]);
        frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
        return;
    }
    let extra = if fragment.is_some() { 8 } else { 0 };
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&((length + extra) as u16).to_be_bytes());
    frame.extend_from_slice(&[if fragment.is_some() { 44 } else { protocol }, 64]);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&destination);
    if let Some((id, offset, more)) = fragment {
        frame.extend_from_slice(&[protocol, 0]);
        frame.extend_from_slice(&((offset as u16 & !7) | u16::from(more)).to_be_bytes());
        frame.extend_from_slice(&id.to_be_bytes());
    }
}

/// The checksum of a transport segment, with its pseudo header.
fn transport_sum(from: IpAddr, to: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let length = (segment.len() as u32).to_be_bytes();
    checksum(&[&octets(from), &octets(to), &length, &[0, 0, 0, protocol], segment])
}

/// A TCP segment with no data.
#[derive(Debug, Clone, Copy, Default)]
pub struct Segment<'a> {
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
    /// A multiple of four bytes.
    pub options: &'a [u8],
}

pub fn tcp(peer: &Peer, from: SocketAddr, to: SocketAddr, segment: &Segment<'_>) -> Vec<u8> {
    let length = 20 + segment.options.len();
    let mut bytes = frame(peer, from.is_ipv4(), length);
    ip(&mut bytes, from.ip(), to.ip(), TCP, length, None);
    let start = bytes.len();
    bytes.extend_from_slice(&from.port().to_be_bytes());
    bytes.extend_from_slice(&to.port().to_be_bytes());
    bytes.extend_from_slice(&segment.sequence.to_be_bytes());
    bytes.extend_from_slice(&segment.acknowledgement.to_be_bytes());
    bytes.extend_from_slice(&[((length / 4) << 4) as u8, segment.flags]);
    bytes.extend_from_slice(&segment.window.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(segment.options);
    let sum = transport_sum(from.ip(), to.ip(), TCP, &bytes[start..]);
    bytes[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// "Connection refused", as an answer to a SYN.
pub fn refuse(peer: &Peer, from: SocketAddr, to: SocketAddr, sequence: u32) -> Vec<u8> {
    let acknowledgement = sequence.wrapping_add(1);
    tcp(peer, from, to, &Segment { acknowledgement, flags: super::RST | ACK, ..Segment::default() })
}

/// A datagram, in as many fragments as the MTU asks for.
pub fn udp(peer: &Peer, from: SocketAddr, to: SocketAddr, data: &[u8], id: u32) -> Vec<Vec<u8>> {
    let mut segment = Vec::with_capacity(8 + data.len());
    segment.extend_from_slice(&from.port().to_be_bytes());
    segment.extend_from_slice(&to.port().to_be_bytes());
    segment.extend_from_slice(&((8 + data.len()) as u16).to_be_bytes());
    segment.extend_from_slice(&[0, 0]);
    segment.extend_from_slice(data);
    let sum = match transport_sum(from.ip(), to.ip(), UDP, &segment) {
        0 => 0xffff,
        sum => sum,
    };
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    packets(peer, from.ip(), to.ip(), UDP, &segment, id)
}

fn packets(peer: &Peer, from: IpAddr, to: IpAddr, protocol: u8, segment: &[u8], id: u32) -> Vec<Vec<u8>> {
    let room = peer.mtu.saturating_sub(if from.is_ipv4() { 20 } else { 40 }).max(16);
    if segment.len() <= room {
        let mut bytes = frame(peer, from.is_ipv4(), segment.len());
        ip(&mut bytes, from, to, protocol, segment.len(), None);
        bytes.extend_from_slice(segment);
        return vec![bytes];
    }
    // Offsets count in units of eight bytes; IPv6 has its fragment header inside.
    let step = (if from.is_ipv4() { room } else { room - 8 }) & !7;
    let mut all = Vec::new();
    for (n, piece) in segment.chunks(step).enumerate() {
        let mut bytes = frame(peer, from.is_ipv4(), piece.len() + 8);
        let offset = n * step;
        let more = offset + piece.len() < segment.len();
        ip(&mut bytes, from, to, protocol, piece.len(), Some((id, offset, more)));
        bytes.extend_from_slice(piece);
        all.push(bytes);
    }
    all
}

/// In as many fragments as the MTU asks for.
fn icmp(peer: &Peer, from: IpAddr, to: IpAddr, mut message: Vec<u8>, id: u32) -> Vec<Vec<u8>> {
    let protocol = if from.is_ipv4() { ICMP } else { ICMPV6 };
    let sum = if from.is_ipv4() { checksum(&[&message]) } else { transport_sum(from, to, ICMPV6, &message) };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    packets(peer, from, to, protocol, &message, id)
}

/// `echo` is the request's identifier and sequence number.
pub fn echo_reply(peer: &Peer, from: IpAddr, to: IpAddr, echo: (u16, u16), data: &[u8], id: u32) -> Vec<Vec<u8>> {
    let (identifier, sequence) = echo;
    let mut message = vec![if from.is_ipv4() { 0 } else { 129 }, 0, 0, 0];
    message.extend_from_slice(&identifier.to_be_bytes());
    message.extend_from_slice(&sequence.to_be_bytes());
    message.extend_from_slice(data);
    icmp(peer, from, to, message, id)
}

/// Why a destination cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    Network,
    Host,
    Port,
    Prohibited,
}

/// "Destination unreachable", said by `gateway`, about the packet `original`.
pub fn unreachable(peer: &Peer, gateway: IpAddr, to: IpAddr, why: Unreachable, original: &[u8]) -> Vec<u8> {
    let (kind, code) = match (gateway.is_ipv4(), why) {
        (true, Unreachable::Network) => (3, 0),
        (true, Unreachable::Host) => (3, 1),
        (true, Unreachable::Port) => (3, 3),
        (true, Unreachable::Prohibited) => (3, 13),
        (false, Unreachable::Network) => (1, 0),
        (false, Unreachable::Host) => (1, 3),
        (false, Unreachable::Port) => (1, 4),
        (false, Unreachable::Prohibited) => (1, 1),
    };
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    // RFC 1812: as much as fits 576 bytes; RFC 4443: 1280.
    let room = if gateway.is_ipv4() { 576 - 28 } else { 1280 - 48 };
    message.extend_from_slice(&original[..original.len().min(room)]);
    // Shorter than any MTU.
    icmp(peer, gateway, to, message, 0).remove(0)
}

#[cfg(test)]
mod tests {
    use super::super::{Packet, Tcp, Udp};
    use super::*;

    const PEER: Peer = Peer { ours: [2; 6], theirs: [4; 6], mtu: 1500 };

    fn valid(frame: &[u8]) -> Packet<'_> {
        let packet = Packet::parse(frame).unwrap();
        if packet.source.is_ipv4() {
            assert_eq!(checksum(&[&packet.ip[..20]]), 0);
        }
        match packet.protocol {
            ICMP => assert_eq!(checksum(&[packet.payload]), 0),
            p => assert_eq!(transport_sum(packet.source, packet.destination, p, packet.payload), 0),
        }
        packet
    }

    #[test]
    fn what_is_built_is_read_back_with_good_checksums() {
        for (from, to) in [("10.0.0.1:80", "10.0.0.2:999"), ("[fd00::1]:80", "[fd00::2]:999")] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let refused = refuse(&PEER, from, to, u32::MAX);
            let tcp = Tcp::parse(valid(&refused).payload).unwrap();
            assert_eq!((tcp.source, tcp.destination, tcp.acknowledgement, tcp.flags), (80, 999, 0, 0x14));
            let datagram = udp(&PEER, from, to, b"odd", 9);
            assert_eq!(Udp::parse(valid(&datagram[0]).payload, false).unwrap().data, b"odd");
            valid(&echo_reply(&PEER, from.ip(), to.ip(), (1, 2), b"12345", 9)[0]);
            assert_eq!(echo_reply(&PEER, from.ip(), to.ip(), (1, 2), &[0; 4000], 9).len(), 3);
            valid(&unreachable(&PEER, from.ip(), to.ip(), Unreachable::Port, &[7; 2000]));
        }
    }

    #[test]
    fn big_datagrams_are_cut_at_multiples_of_eight() {
        let (from, to) = ("10.0.0.1:80".parse().unwrap(), "10.0.0.2:999".parse().unwrap());
        let data: Vec<u8> = (0..4000).map(|n| n as u8).collect();
        let all = udp(&PEER, from, to, &data, 0x1_0007);
        assert_eq!(all.len(), 3);
        let mut joined = Vec::new();
        for (n, frame) in all.iter().enumerate() {
            let ip = &frame[VNET + ETHERNET..];
            assert!(ip.len() <= 1500);
            assert_eq!(Packet::parse(frame), None, "a fragment is no whole packet");
            let flags = u16::from_be_bytes([ip[6], ip[7]]);
            assert_eq!(usize::from(flags & 0x1fff) * 8, joined.len());
            assert_eq!(flags & 0x2000 != 0, n < 2);
            joined.extend_from_slice(&ip[20..]);
        }
        assert_eq!(&joined[8..], &data[..]);
        let (from, to) = ("[fd00::1]:80".parse().unwrap(), "[fd00::2]:999".parse().unwrap());
        let all = udp(&PEER, from, to, &data, 7);
        assert!(all.len() == 3 && all.iter().all(|f| f.len() <= VNET + ETHERNET + 1500));
    }
}
