//! The DNS message codec: questions out, addresses in. Pure; used by the
//! resolver of the registry client, and free for anyone who forwards DNS.
//!
//! Invariant: `decode` never reads outside the message and never loops: a
//! compression pointer must point backwards, and every jump costs one step of
//! a fixed budget.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// RFC 1035: 253 visible characters in the longest legal name.
const MAX_NAME: usize = 253;
/// More jumps than labels fit into a name are an attack.
const MAX_JUMPS: usize = 127;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    A,
    Aaaa,
}

impl Type {
    fn code(self) -> u16 {
        match self {
            Type::A => 1,
            Type::Aaaa => 28,
        }
    }
}

/// What an answer says about its question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub id: u16,
    /// Did not fit into a datagram: ask again over TCP.
    pub truncated: bool,
    /// 0 no error, 2 server failure, 3 no such name.
    pub code: u8,
    pub addresses: Vec<IpAddr>,
}

/// A recursive question for one name. None if `name` cannot be a DNS name.
pub fn question(id: u16, name: &str, kind: Type) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > MAX_NAME {
        return None;
    }
    let mut out = Vec::with_capacity(name.len() + 18);
    out.extend_from_slice(&id.to_be_bytes());
    // Recursion desired; one question.
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return None;
        }
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.code().to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    Some(out)
}

/// Reads an answer to `question`; None if it is malformed or answers something
/// else (a stray or forged datagram).
pub fn decode(message: &[u8], question: &[u8]) -> Option<Answer> {
    let u16_at = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let id = u16_at(0)?;
    if id != u16::from_be_bytes([*question.first()?, *question.get(1)?]) {
        return None;
    }
    let (flags, code) = (*message.get(2)?, *message.get(3)? & 15);
    if flags & 0x80 == 0 {
        return None;
    }
    let (questions, answers) = (u16_at(4)?, u16_at(6)?);
    let mut at = 12;
    // Some servers answer an error without repeating the question.
    match questions {
        0 => {}
        1 => {
            let asked = question.get(12..)?;
            let echoed = message.get(12..12 + asked.len())?;
            if !echoed.eq_ignore_ascii_case(asked) {
                return None;
            }
            at += asked.len();
        }
        _ => return None,
    }
    let mut addresses = Vec::new();
    for _ in 0..answers {
        at = skip_name(message, at)?;
        let (kind, class, length) = (u16_at(at)?, u16_at(at + 2)?, usize::from(u16_at(at + 8)?));
        at += 10;
        let data = message.get(at..at + length)?;
        at += length;
        // CNAME chains come complete from a recursive server: the addresses at
        // their end are all that counts.
        match (class, kind) {
            (1, 1) => addresses.push(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?))),
            (1, 28) => addresses.push(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?))),
            _ => {}
        }
    }
    Some(Answer { id, truncated: flags & 2 != 0, code, addresses })
}

/// The position behind the name at `at`.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..MAX_JUMPS {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + length,
            // A pointer ends the name here, wherever it leads.
            192..=255 => return message.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(q: &[u8], code: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut m = q.to_vec();
        m[2] |= 0x80;
        m[3] = code;
        m[7] = records.len() as u8;
        for (kind, data) in records {
            m.extend_from_slice(&[0xc0, 12]);
            m.extend_from_slice(&kind.to_be_bytes());
            m.extend_from_slice(&[0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
            m.extend_from_slice(data);
        }
        m
    }

    #[test]
    fn round_trip() {
        let q = question(0x1234, "registry-1.docker.io", Type::A).unwrap();
        let m = reply(&q, 0, &[(5, &[1, b'x', 0]), (1, &[192, 0, 2, 7])]);
        let a = decode(&m, &q).unwrap();
        assert_eq!(a.addresses, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert!(!a.truncated);
    }

    #[test]
    fn no_such_name() {
        let q = question(1, "nosuch.invalid", Type::Aaaa).unwrap();
        assert_eq!(decode(&reply(&q, 3, &[]), &q).unwrap().code, 3);
    }

    #[test]
    fn strangers_are_not_listened_to() {
        let q = question(1, "a.b", Type::A).unwrap();
        let other = question(2, "a.b", Type::A).unwrap();
        assert_eq!(decode(&reply(&other, 0, &[]), &q), None);
        let name = question(1, "c.d", Type::A).unwrap();
        assert_eq!(decode(&reply(&name, 0, &[]), &q), None);
        assert_eq!(decode(&q, &q), None);
    }

    #[test]
    fn every_cut_is_survived() {
        let q = question(9, "example.org", Type::A).unwrap();
        let m = reply(&q, 0, &[(1, &[1, 2, 3, 4])]);
        for n in 0..m.len() {
            assert_eq!(decode(&m[..n], &q), None, "{n}");
        }
    }

    #[test]
    fn names_that_are_none() {
        for name in ["", ".", "a..b", &"x".repeat(64), &"ab.".repeat(90)] {
            assert_eq!(question(1, name, Type::A), None, "{name}");
        }
    }
}
