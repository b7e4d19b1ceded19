//! Datagrams of IPv6 that came in pieces, put together: packet sockets get IPv4
//! whole (PACKET_FANOUT_FLAG_DEFRAG) and IPv6 as it is on the wire. Pure.
//!
//! Invariant: pieces may be anything. Memory is bounded per sender and in all,
//! and pieces that overlap throw their datagram away (RFC 5722).

use super::{ETHERNET, Packet, VNET, be16, be32};
use crate::util::order;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Next header of a fragment.
pub const FRAGMENT: u8 = 44;
/// Unfinished datagrams of one sender, and of all.
const MOST_OF_ONE: usize = 16;
const MOST: usize = 256;
/// Pieces of one datagram: 64 KiB at the smallest MTU of IPv6.
const PIECES: usize = 64;
/// RFC 8200 says 60 s; nobody waits that long for a neighbour.
const PATIENCE: Duration = Duration::from_secs(15);

/// Source, destination, identification, protocol.
type Id = (IpAddr, IpAddr, u32, u8);

struct Partial {
    since: Instant,
    /// Offset and bytes, by offset.
    pieces: Vec<(usize, Vec<u8>)>,
    /// Known from the piece that says it is the last.
    total: Option<usize>,
    /// Pieces overlapped: whatever else comes of it is dropped.
    spoilt: bool,
}

#[derive(Default)]
pub struct Fragments {
    partial: HashMap<Id, Partial>,
}

impl Fragments {
    /// Takes a fragment; the whole frame, with no fragment header, when it was
    /// the last one missing.
    pub fn add(&mut self, frame: &[u8], packet: &Packet<'_>, now: Instant) -> Option<Vec<u8>> {
        let piece = packet.payload;
        let (protocol, place) = (*piece.first()?, be16(piece, 2)?);
        let (offset, more) = (usize::from(place & !7), place & 1 == 1);
        let data = piece.get(8..)?;
        let end = offset + data.len();
        // Only the last may have an odd length, and 64 KiB is all there is.
        if data.is_empty() || end > 65535 || (more && data.len() % 8 != 0) {
            return None;
        }
        let id = (packet.source, packet.destination, be32(piece, 4)?, protocol);
        self.make_room(&id, now);
        let fresh = || Partial { since: now, pieces: Vec::new(), total: None, spoilt: false };
        let partial = self.partial.entry(id).or_insert_with(fresh);
        partial.take(offset, data, more);
        let whole = partial.whole()?;
        self.partial.remove(&id);
        let mut out = frame.get(..VNET + ETHERNET + 40)?.to_vec();
        out[..VNET].fill(0);
        out[VNET + ETHERNET + 4..VNET + ETHERNET + 6].copy_from_slice(&(whole.len() as u16).to_be_bytes());
        out[VNET + ETHERNET + 6] = protocol;
        out.extend_from_slice(&whole);
        Some(out)
    }

    /// Forgets what is too old; then, if there is still too much, the oldest.
    fn make_room(&mut self, id: &Id, now: Instant) {
        if self.partial.contains_key(id) {
            return;
        }
        self.partial.retain(|_, p| now.saturating_duration_since(p.since) < PATIENCE);
        let of_sender = self.partial.keys().filter(|other| other.0 == id.0).count();
        let only_his = of_sender >= MOST_OF_ONE;
        if !only_his && self.partial.len() < MOST {
            return;
        }
        let mut ages: Vec<(Instant, Id)> =
            self.partial.iter().filter(|(other, _)| !only_his || other.0 == id.0).map(|(i, p)| (p.since, *i)).collect();
        order::sort(&mut ages);
        if let Some((_, oldest)) = ages.first() {
            self.partial.remove(oldest);
        }
    }
}

impl Partial {
    fn take(&mut self, offset: usize, data: &[u8], more: bool) {
        let end = offset + data.len();
        if self.pieces.iter().any(|(o, d)| *o == offset && d == data) {
            return;
        }
        self.spoilt |= self.pieces.len() >= PIECES
            || self.pieces.iter().any(|(o, d)| offset < o + d.len() && *o < end)
            || self.total.is_some_and(|total| end > total || !more)
            || (!more && self.pieces.iter().any(|(o, d)| o + d.len() > end));
        if self.spoilt {
            self.pieces = Vec::new();
            return;
        }
        if !more {
            self.total = Some(end);
        }
        let at = self.pieces.iter().position(|(o, _)| *o > offset).unwrap_or(self.pieces.len());
        self.pieces.insert(at, (offset, data.to_vec()));
    }

    fn whole(&self) -> Option<Vec<u8>> {
        let there: usize = self.pieces.iter().map(|(_, d)| d.len()).sum();
        let all = !self.spoilt && self.total == Some(there);
        all.then(|| self.pieces.iter().flat_map(|(_, d)| d.iter().copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Udp, build};
    use super::*;

    const PEER: build::Peer = build::Peer { ours: [2; 6], theirs: [4; 6], mtu: 1500 };

    fn pieces(id: u32) -> (Vec<u8>, Vec<Vec<u8>>) {
        let data: Vec<u8> = (0..6000).map(|n| (n / 7) as u8).collect();
        let (from, to) = ("[fd00::1]:80".parse().unwrap(), "[fd00::2]:999".parse().unwrap());
        let frames = build::udp(&PEER, from, to, &data, id);
        (data, frames)
    }

    fn add(all: &mut Fragments, frame: &[u8], now: Instant) -> Option<Vec<u8>> {
        let packet = Packet::parse(frame).unwrap();
        assert_eq!(packet.protocol, FRAGMENT);
        all.add(frame, &packet, now)
    }

    #[test]
    fn any_order_and_twice() {
        let now = Instant::now();
        let (data, frames) = pieces(7);
        for start in 0..frames.len() {
            let mut all = Fragments::default();
            let mut whole = None;
            for n in 0..frames.len() {
                let frame = &frames[(start + n * 3) % frames.len()];
                assert!(whole.is_none());
                whole = add(&mut all, frame, now);
                if whole.is_none() {
                    assert_eq!(add(&mut all, frame, now), None);
                }
            }
            let whole = whole.unwrap();
            let packet = Packet::parse(&whole).unwrap();
            assert_eq!(Udp::parse(packet.payload, false).unwrap().data, data);
            assert!(all.partial.is_empty());
        }
    }

    #[test]
    fn overlaps_spoil_and_memory_is_bounded() {
        let now = Instant::now();
        let (_, frames) = pieces(7);
        let mut all = Fragments::default();
        add(&mut all, &frames[0], now);
        let mut evil = frames[1].clone();
        // Eight bytes earlier than it belongs.
        evil[VNET + ETHERNET + 43] -= 8;
        add(&mut all, &evil, now);
        for frame in &frames[1..] {
            assert_eq!(add(&mut all, frame, now), None);
        }
        for id in 100..1000 {
            add(&mut all, &pieces(id).1[0], now);
        }
        assert_eq!(all.partial.len(), MOST_OF_ONE);
        let later = now + PATIENCE;
        add(&mut all, &pieces(5000).1[0], later);
        assert_eq!(all.partial.len(), 1);
        // Whatever the bytes say, nothing panics.
        for at in VNET..frames[0].len().min(100) {
            for value in [0, 1, 7, 8, 44, 127, 255] {
                let mut bad = frames[3].clone();
                bad[at] = value;
                if let Some(packet) = Packet::parse(&bad) {
                    all.add(&bad, &packet, now);
                }
            }
        }
    }
}
