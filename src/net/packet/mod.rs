//! Frames as the bridge sees them: reading the few fields that forwarding
//! needs, and building answers. Pure.
//!
//! Frames come from and go to a packet socket with PACKET_VNET_HDR: a ten-byte
//! virtio header stands before Ethernet. Checksums of what comes in are not
//! looked at: a veth leaves them to be completed by a device that never follows.
//!
//! Invariant: a container may send anything; reading never panics and never
//! trusts a length field beyond the bytes that are there.

pub mod build;
pub mod filter;
pub mod fragments;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const VNET: usize = 10;
pub const ETHERNET: usize = 14;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

const VIRTIO_GSO_UDP_L4: u8 = 5;

pub type Mac = [u8; 6];

/// One IP packet of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    pub source_mac: Mac,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    /// The transport header and what follows, cut to the length IP declares.
    pub payload: &'a [u8],
    /// The whole IP packet, to be quoted in ICMP errors.
    pub ip: &'a [u8],
    /// Datagrams that the sender glued together have this size each.
    pub segment: Option<usize>,
}

/// Source, destination, protocol, the IP packet, its payload.
type Parts<'a> = (IpAddr, IpAddr, u8, &'a [u8], &'a [u8]);

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl<'a> Packet<'a> {
    /// None for a fragment of IPv4 and for rubbish. Fragments of IPv6 have their
    /// own protocol number (see [`fragments`]).
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let vnet = frame.get(..VNET)?;
        let segment = match vnet[1] & 0x7f {
            VIRTIO_GSO_UDP_L4 => Some(usize::from(u16::from_ne_bytes([vnet[4], vnet[5]]))).filter(|n| *n > 0),
            _ => None,
        };
        let ethernet = frame.get(VNET..VNET + ETHERNET)?;
        let source_mac = *ethernet.get(6..)?.first_chunk()?;
        let ip = frame.get(VNET + ETHERNET..)?;
        let (source, destination, protocol, ip, payload) = match be16(ethernet, 12)? {
            0x0800 => Self::v4(ip)?,
            0x86dd => Self::v6(ip)?,
            _ => return None,
        };
        Some(Self { source_mac, source, destination, protocol, payload, ip, segment })
    }

    fn v4(ip: &'a [u8]) -> Option<Parts<'a>> {
        let first = *ip.first()?;
        let header = usize::from(first & 15) * 4;
        let total = usize::from(be16(ip, 2)?);
        // More fragments, or an offset.
        if first >> 4 != 4 || header < 20 || be16(ip, 6)? & 0x3fff != 0 {
            return None;
        }
        // A packet of glued segments may be longer than its 16-bit length says.
        let ip = if total == 0 { ip } else { ip.get(..total)? };
        let source = Ipv4Addr::from(be32(ip, 12)?);
        let destination = Ipv4Addr::from(be32(ip, 16)?);
        Some((source.into(), destination.into(), *ip.get(9)?, ip, ip.get(header..)?))
    }

    fn v6(ip: &'a [u8]) -> Option<Parts<'a>> {
        if ip.first()? >> 4 != 6 {
            return None;
        }
        let length = usize::from(be16(ip, 4)?);
        let ip = if length == 0 { ip } else { ip.get(..40 + length)? };
        let source = Ipv6Addr::from(*ip.get(8..)?.first_chunk::<16>()?);
        let destination = Ipv6Addr::from(*ip.get(24..)?.first_chunk::<16>()?);
        Some((source.into(), destination.into(), *ip.get(6)?, ip, ip.get(40..)?))
    }
}

/// The part of a TCP header that a handshake needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tcp {
    pub source: u16,
    pub destination: u16,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
    pub mss: Option<u16>,
    pub window_scale: Option<u8>,
    pub sack: bool,
}

impl Tcp {
    /// The options of a segment, as they are; none if its header is not whole.
    pub fn options(segment: &[u8]) -> &[u8] {
        let header = segment.get(12).map_or(0, |b| usize::from(*b >> 4) * 4);
        segment.get(20..header).unwrap_or_default()
    }

    pub fn parse(segment: &[u8]) -> Option<Self> {
        let header = usize::from(*segment.get(12)? >> 4) * 4;
        let mut options = segment.get(20..header)?;
        let mut tcp = Self {
            source: be16(segment, 0)?,
            destination: be16(segment, 2)?,
            sequence: be32(segment, 4)?,
            acknowledgement: be32(segment, 8)?,
            flags: *segment.get(13)?,
            window: be16(segment, 14)?,
            mss: None,
            window_scale: None,
            sack: false,
        };
        while let [kind, rest @ ..] = options {
            match kind {
                0 => break,
                1 => options = rest,
                _ => {
                    let length = usize::from(*rest.first()?);
                    let value = options.get(2..length)?;
                    match (kind, value) {
                        (2, [a, b]) => tcp.mss = Some(u16::from_be_bytes([*a, *b])),
                        // RFC 7323: anything above 14 counts as 14.
                        (3, [n]) => tcp.window_scale = Some((*n).min(14)),
                        (4, []) => tcp.sack = true,
                        _ => {}
                    }
                    options = options.get(length..)?;
                }
            }
        }
        Some(tcp)
    }
}

/// Ports and content of a datagram; the content is what UDP says or what is
/// there, whichever is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp<'a> {
    pub source: u16,
    pub destination: u16,
    pub data: &'a [u8],
}

impl<'a> Udp<'a> {
    pub fn parse(segment: &'a [u8], glued: bool) -> Option<Self> {
        let length = usize::from(be16(segment, 4)?);
        let data = if glued { segment.get(8..)? } else { segment.get(8..length)? };
        Some(Self { source: be16(segment, 0)?, destination: be16(segment, 2)?, data })
    }
}

/// An echo request of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo<'a> {
    pub identifier: u16,
    pub sequence: u16,
    pub data: &'a [u8],
}

impl<'a> Echo<'a> {
    pub fn parse(protocol: u8, message: &'a [u8]) -> Option<Self> {
        let request = match protocol {
            ICMP => 8,
            ICMPV6 => 128,
            _ => return None,
        };
        if *message.first()? != request || *message.get(1)? != 0 {
            return None;
        }
        Some(Self { identifier: be16(message, 4)?, sequence: be16(message, 6)?, data: message.get(8..)? })
    }
}

/// The internet checksum over several pieces, each of even length but the last.
pub fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for piece in pieces {
        let (words, rest) = piece.as_chunks::<2>();
        sum += words.iter().map(|w| u64::from(u16::from_be_bytes(*w))).sum::<u64>();
        if let [last] = rest {
            sum += u64::from(*last) << 8;
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_1071_example() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
        assert_eq!(checksum(&[&[0x00, 0x01], &[0xf2]]), !0xf201);
        // What is checksummed with its checksum gives zero.
        let mut bytes = *b"\x45\x00\x00\x3c\x1c\x46\x40\x00\x40\x06\x00\x00\xac\x10\x0a\x63\xac\x10\x0a\x0c";
        let sum = checksum(&[&bytes]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&[&bytes]), 0);
    }

    #[test]
    fn options_of_a_syn() {
        let mut syn = vec![0; 20];
        syn[12] = 10 << 4;
        syn[13] = SYN;
        syn.extend_from_slice(&[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7]);
        let tcp = Tcp::parse(&syn).unwrap();
        assert_eq!((tcp.mss, tcp.window_scale, tcp.sack, tcp.flags), (Some(1460), Some(7), true, SYN));
        for bad in [0, 1, 200] {
            let mut syn = syn.clone();
            syn[21] = bad;
            assert_eq!(Tcp::parse(&syn), None, "option length {bad}");
        }
    }

    /// Every prefix and single-byte change of a good frame, and noise.
    #[test]
    fn hostile_frames_are_refused_in_peace() {
        let peer = build::Peer { ours: [2; 6], theirs: [4; 6], mtu: 1500 };
        let from = "10.0.0.2:5".parse().unwrap();
        let frames = [
            build::udp(&peer, from, "10.0.0.3:53".parse().unwrap(), b"question", 1).remove(0),
            build::tcp(
                &peer,
                from,
                "10.0.0.3:80".parse().unwrap(),
                &build::Segment { flags: SYN, options: &[2, 4, 5, 180, 1, 3, 3, 7], ..Default::default() },
            ),
            build::udp(&peer, "[fd00::1]:7".parse().unwrap(), "[fd00::2]:53".parse().unwrap(), b"question", 1)
                .remove(0),
            build::echo_reply(&peer, "10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap(), (1, 2), b"data", 1)
                .remove(0),
        ];
        let read = |frame: &[u8]| {
            if let Some(p) = Packet::parse(frame) {
                Tcp::parse(p.payload);
                Udp::parse(p.payload, false);
                Udp::parse(p.payload, true);
                Echo::parse(p.protocol, p.payload);
            }
        };
        for frame in &frames {
            assert!(Packet::parse(frame).is_some());
            for end in 0..frame.len() {
                read(&frame[..end]);
            }
            for at in 0..frame.len() {
                for value in [0, 1, 4, 5, 15, 64, 127, 128, 240, 255] {
                    let mut bad = frame.clone();
                    bad[at] = value;
                    read(&bad);
                }
            }
        }
        let mut state = 3u32;
        let noise: Vec<u8> = (0..20000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        for start in 0..1000 {
            let mut frame = noise[start..start + 200].to_vec();
            frame[VNET + 12..VNET + 15].copy_from_slice(&[8, 0, 0x45]);
            read(&frame);
        }
    }
}
