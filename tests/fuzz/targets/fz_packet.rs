//! Frames of a container, and the answers that are built from them.

#![no_main]

use coracle::net::packet::build::{self, Peer, Segment, Unreachable};
use coracle::net::packet::{Echo, Packet, TCP, Tcp, UDP, Udp};
use libfuzzer_sys::fuzz_target;
use std::net::SocketAddr;

fuzz_target!(|data: &[u8]| {
    let Some(packet) = Packet::parse(data) else { return };
    let peer = Peer { ours: [2; 6], theirs: packet.source_mac, mtu: 1500 };
    assert!(packet.payload.len() <= data.len());
    match packet.protocol {
        TCP => {
            if let Some(tcp) = Tcp::parse(packet.payload) {
                let (from, to) =
                    (SocketAddr::new(packet.destination, tcp.destination), SocketAddr::new(packet.source, tcp.source));
                let _ = build::refuse(&peer, from, to, tcp.sequence);
                let _ = build::tcp(
                    &peer,
                    from,
                    to,
                    &Segment {
                        sequence: 1,
                        acknowledgement: tcp.sequence,
                        flags: 18,
                        window: 5,
                        options: &[2, 4, 1, 1],
                    },
                );
            }
        }
        UDP => {
            if let Some(udp) = Udp::parse(packet.payload, packet.segment.is_some()) {
                let (from, to) =
                    (SocketAddr::new(packet.destination, udp.destination), SocketAddr::new(packet.source, udp.source));
                let _ = build::udp(&peer, from, to, udp.data, 7);
            }
        }
        protocol => {
            if let Some(echo) = Echo::parse(protocol, packet.payload) {
                let (from, to) = (packet.destination, packet.source);
                let _ = build::echo_reply(&peer, from, to, (echo.identifier, echo.sequence), echo.data, 7);
            }
        }
    }
    let _ = build::unreachable(&peer, packet.destination, packet.source, Unreachable::Port, packet.ip);
});
