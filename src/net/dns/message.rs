//! DNS messages as a server needs them: one question read, one answer written.
//! What is forwarded stays bytes. Pure.
//!
//! Invariant: any datagram may come; reading never panics, never loops (names in
//! questions may not be compressed) and answers are no longer than asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const A: u16 = 1;
pub const PTR: u16 = 12;
pub const AAAA: u16 = 28;
const OPT: u16 = 41;
const ANY: u16 = 255;
const INTERNET: u16 = 1;
const TTL: u32 = 600;

const NO_ERROR: u8 = 0;
pub const SERVER_FAILURE: u8 = 2;
pub const NO_SUCH_NAME: u8 = 3;
pub const REFUSED: u8 = 5;

/// What somebody wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub id: u16,
    /// Lower case, no final dot, labels joined by dots.
    pub name: String,
    pub kind: u16,
    /// Where the question ends in the message.
    end: usize,
    /// The largest datagram that the asker takes: 512 without EDNS.
    pub room: usize,
    recursion: bool,
    edns: bool,
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

impl Question {
    /// None for what is no plain query of one question.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let (flags, code) = (*message.get(2)?, *message.get(3)?);
        // A response, or another operation than a query; bits that nobody sets.
        if flags & 0xf8 != 0 || code & 0x0f != 0 || u16_at(message, 4)? != 1 {
            return None;
        }
        let mut at = 12;
        let mut name = String::new();
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            match length {
                0 => break,
                1..=63 => {}
                _ => return None,
            }
            if !name.is_empty() {
                name.push('.');
            }
            for byte in message.get(at..at + length)? {
                name.push(char::from(byte.to_ascii_lowercase()));
            }
            at += length;
            if name.len() > 1024 {
                return None;
            }
        }
        let kind = u16_at(message, at)?;
        if u16_at(message, at + 2)? != INTERNET {
            return None;
        }
        let end = at + 4;
        let edns = edns_room(message, end);
        Some(Self {
            id: u16_at(message, 0)?,
            name,
            kind,
            end,
            room: edns.unwrap_or(512).max(512),
            recursion: flags & 1 != 0,
            edns: edns.is_some(),
        })
    }

    /// An answer with these addresses; an empty list says that the name exists
    /// but has none of this kind.
    pub fn addresses(&self, message: &[u8], all: &[IpAddr], room: usize) -> Vec<u8> {
        let records = all.iter().map(|a| match a {
            IpAddr::V4(a) => (A, a.octets().to_vec()),
            IpAddr::V6(a) => (AAAA, a.octets().to_vec()),
        });
        self.answer(message, NO_ERROR, records.collect(), room)
    }

    /// An answer that an address has this name.
    pub fn pointer(&self, message: &[u8], name: &str, room: usize) -> Vec<u8> {
        let mut data = Vec::new();
        for label in name.split('.').filter(|l| !l.is_empty()) {
            let label = &label.as_bytes()[..label.len().min(63)];
            data.push(label.len() as u8);
            data.extend_from_slice(label);
        }
        data.push(0);
        self.answer(message, NO_ERROR, vec![(PTR, data)], room)
    }

    pub fn failure(&self, message: &[u8], code: u8) -> Vec<u8> {
        self.answer(message, code, Vec::new(), 512)
    }

    fn answer(&self, message: &[u8], code: u8, records: Vec<(u16, Vec<u8>)>, room: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.end + 28 * records.len() + 11);
        out.extend_from_slice(&self.id.to_be_bytes());
        // A response, recursion available.
        out.extend_from_slice(&[0x80 | u8::from(self.recursion), 0x80 | code]);
        out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(message.get(12..self.end).unwrap_or_default());
        let tail = if self.edns { 11 } else { 0 };
        let mut count = 0u16;
        for (kind, data) in &records {
            if out.len() + 12 + data.len() + tail > room {
                // Truncated: the asker comes again over TCP.
                out[2] |= 2;
                break;
            }
            // The name is the question's.
            out.extend_from_slice(&[0xc0, 12]);
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&INTERNET.to_be_bytes());
            out.extend_from_slice(&TTL.to_be_bytes());
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
            count += 1;
        }
        out[6..8].copy_from_slice(&count.to_be_bytes());
        if self.edns {
            out.extend_from_slice(&[0, 0, OPT as u8, 16, 0, 0, 0, 0, 0, 0, 0]);
            out[11] = 1;
        }
        out
    }

    pub fn wants(&self, address: &IpAddr) -> bool {
        match self.kind {
            A => address.is_ipv4(),
            AAAA => address.is_ipv6(),
            ANY => true,
            _ => false,
        }
    }

    /// The address that a reverse name stands for.
    pub fn reverse(&self) -> Option<IpAddr> {
        if self.kind != PTR {
            return None;
        }
        if let Some(digits) = self.name.strip_suffix(".in-addr.arpa") {
            let mut bytes = [0; 4];
            let mut parts = digits.split('.');
            for byte in bytes.iter_mut().rev() {
                *byte = parts.next()?.parse().ok()?;
            }
            return parts.next().is_none().then(|| Ipv4Addr::from(bytes).into());
        }
        let digits = self.name.strip_suffix(".ip6.arpa")?;
        let mut number = 0u128;
        let mut count = 0;
        for digit in digits.split('.') {
            let value = u8::from_str_radix(digit, 16).ok().filter(|_| digit.len() == 1)?;
            number |= u128::from(value).checked_shl(4 * count)?;
            count += 1;
        }
        (count == 32).then(|| Ipv6Addr::from(number).into())
    }
}

/// The payload size of an OPT record, where a plain query has it: first behind
/// the question.
fn edns_room(message: &[u8], end: usize) -> Option<usize> {
    // No answers, no authority, at least one additional record.
    if u16_at(message, 6)? != 0 || u16_at(message, 8)? != 0 || u16_at(message, 10)? == 0 {
        return None;
    }
    if *message.get(end)? != 0 || u16_at(message, end + 1)? != OPT {
        return None;
    }
    Some(usize::from(u16_at(message, end + 3)?))
}

/// Whether a server's datagram is a response to the question with this id; the
/// code, and whether it was truncated.
pub fn response(message: &[u8], id: u16) -> Option<(u8, bool)> {
    let flags = *message.get(2)?;
    (message.len() >= 12 && u16_at(message, 0)? == id && flags & 0x80 != 0).then(|| (message[3] & 15, flags & 2 != 0))
}

/// The same message with another id.
pub fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    let mut out = message.to_vec();
    if let Some(start) = out.get_mut(..2) {
        start.copy_from_slice(&id.to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut out = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1]);
        out
    }

    fn with_edns(mut message: Vec<u8>, room: u16) -> Vec<u8> {
        message[11] = 1;
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&room.to_be_bytes());
        message.extend_from_slice(&[0; 6]);
        message
    }

    #[test]
    fn questions_are_read_in_lower_case() {
        let q = Question::parse(&query("DB.Example", A)).unwrap();
        assert_eq!((q.name.as_str(), q.kind, q.id, q.room), ("db.example", A, 0x1234, 512));
        let q = Question::parse(&with_edns(query("db", AAAA), 4096)).unwrap();
        assert_eq!((q.room, q.kind), (4096, AAAA));
    }

    #[test]
    fn answers_fit_the_room_or_say_so() {
        let message = with_edns(query("db", A), 600);
        let q = Question::parse(&message).unwrap();
        let all: Vec<IpAddr> = (0..100).map(|n| Ipv4Addr::new(10, 0, 0, n).into()).collect();
        let answer = q.addresses(&message, &all, q.room);
        assert!(answer.len() <= 600 && answer[2] & 2 != 0);
        assert_eq!(crate::util::dns::decode(&answer, &message[..q.end]).map(|a| a.truncated), Some(true));
        let answer = q.addresses(&message, &all[..3], q.room);
        let decoded = crate::util::dns::decode(&answer, &message[..q.end]).unwrap();
        assert_eq!((decoded.addresses, decoded.code), (all[..3].to_vec(), 0));
        let nothing = q.addresses(&message, &[], q.room);
        assert_eq!(response(&nothing, 0x1234), Some((NO_ERROR, false)));
        assert_eq!(response(&q.failure(&message, NO_SUCH_NAME), 0x1234), Some((NO_SUCH_NAME, false)));
        assert_eq!(response(&nothing, 1), None);
    }

    #[test]
    fn reverse_names() {
        let reverse = |name: &str| Question::parse(&query(name, PTR)).unwrap().reverse();
        assert_eq!(reverse("2.0.17.172.in-addr.arpa"), Some("172.17.0.2".parse().unwrap()));
        let six = format!("1{}.d.f.ip6.arpa", ".0".repeat(29));
        assert_eq!(reverse(&six), Some("fd00::1".parse().unwrap()));
        for bad in
            ["in-addr.arpa", "1.2.3.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "300.0.0.1.in-addr.arpa", "x.ip6.arpa"]
        {
            assert_eq!(reverse(bad), None, "{bad}");
        }
    }

    /// Compression loops, cuts, wild lengths and noise.
    #[test]
    fn hostile_packets_are_refused_in_peace() {
        let good = with_edns(query("some.name.example", A), 1232);
        for end in 0..good.len() {
            Question::parse(&good[..end]);
        }
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bad = good.clone();
                bad[at] = value;
                if let Some(q) = Question::parse(&bad) {
                    assert!(q.addresses(&bad, &["10.0.0.1".parse().unwrap()], q.room).len() <= q.room);
                    q.failure(&bad, SERVER_FAILURE);
                    q.reverse();
                }
            }
        }
        let mut looping = query("x", A);
        looping[12] = 0xc0;
        looping[13] = 12;
        assert_eq!(Question::parse(&looping), None);
        let mut state = 9u32;
        let noise: Vec<u8> = (0..70000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        for start in 0..3000 {
            let mut bytes = noise[start..].to_vec();
            bytes[2..6].copy_from_slice(&[1, 0, 0, 1]);
            Question::parse(&bytes);
        }
    }
}
