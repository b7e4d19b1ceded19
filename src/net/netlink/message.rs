//! Netlink messages: building requests, walking answers. Pure.

/// An answer that a request failed or succeeded.
const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;

const HEADER: usize = 16;
const NESTED: u16 = 1 << 15;

/// A request under construction. The length fields are filled in as it grows.
#[derive(Debug, Clone)]
pub struct Request {
    bytes: Vec<u8>,
}

fn align(n: usize) -> usize {
    (n + 3) & !3
}

impl Request {
    /// NLM_F_REQUEST and NLM_F_ACK are always set.
    pub fn new(kind: u16, flags: i32) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Self { bytes }
    }

    /// One that is not answered when it succeeds: the brackets of a batch.
    pub fn unacknowledged(kind: u16) -> Self {
        let mut request = Self::new(kind, 0);
        request.bytes[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
        request
    }

    /// The fixed part that follows the header.
    pub fn body(mut self, fixed: &[u8]) -> Self {
        self.raw(fixed);
        self
    }

    fn raw(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    pub fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        let len = (4 + value.len()) as u16;
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value);
        self
    }

    pub fn attr_u8(self, kind: u16, value: u8) -> Self {
        self.attr(kind, &[value])
    }

    pub fn attr_u32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// In network byte order, as netfilter has its numbers.
    pub fn attr_be32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Zero-terminated, as interface names are.
    pub fn attr_str(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    pub fn attr_address(self, kind: u16, address: std::net::IpAddr) -> Self {
        match address {
            std::net::IpAddr::V4(a) => self.attr(kind, &a.octets()),
            std::net::IpAddr::V6(a) => self.attr(kind, &a.octets()),
        }
    }

    /// An attribute made of attributes (and, for veth peers, a fixed part).
    pub fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        let mut filled = fill(self);
        let len = (filled.bytes.len() - start) as u16;
        filled.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        filled
    }

    /// The finished bytes with their sequence number.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// One received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// The errno of an NLMSG_ERROR, 0 for an acknowledgement.
    pub fn error(&self) -> Option<i32> {
        if self.kind != NLMSG_ERROR {
            return None;
        }
        let bytes = self.payload.first_chunk::<4>()?;
        Some(i32::from_ne_bytes(*bytes).checked_neg().unwrap_or(libc::EIO))
    }
}

/// Walks a buffer of messages; stops at the first one that does not fit.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.get(..HEADER)?;
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let payload = self.0.get(HEADER..len)?;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some(Message { kind, sequence, payload })
    }
}

/// Walks attributes as (kind without flags, value).
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    pub fn find(mut self, wanted: u16) -> Option<&'a [u8]> {
        Iterator::find(&mut self, |(kind, _)| *kind == wanted).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let header = self.0.first_chunk::<4>()?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = self.0.get(4..len)?;
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_can_be_walked() {
        let bytes = Request::new(16, libc::NLM_F_CREATE)
            .body(&[1, 2, 3, 4, 5, 6])
            .attr_str(3, "eth0")
            .nest(18, |r| r.attr_str(1, "veth").nest(2, |r| r.attr_u32(7, 0x0102_0304)))
            .attr_u8(9, 5)
            .finish(77);
        let all: Vec<_> = Messages(&bytes).collect();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].kind, all[0].sequence, all[0].payload.len() + 16), (16, 77, bytes.len()));
        let attributes = Attributes(&all[0].payload[8..]);
        assert_eq!(attributes.find(3), Some(&b"eth0\0"[..]));
        assert_eq!(attributes.find(9), Some(&[5][..]));
        let info = Attributes(attributes.find(18).unwrap());
        assert_eq!(info.find(1), Some(&b"veth\0"[..]));
        assert_eq!(Attributes(info.find(2).unwrap()).find(7), Some(&0x0102_0304u32.to_ne_bytes()[..]));
    }

    #[test]
    fn errors_are_told_from_acknowledgements() {
        let answer = |code: i32| {
            let mut bytes = Request::new(NLMSG_ERROR, 0).body(&code.to_ne_bytes()).finish(1);
            bytes.extend_from_slice(&[0; 3]);
            Messages(&bytes).next().and_then(|m| m.error())
        };
        assert_eq!(answer(0), Some(0));
        assert_eq!(answer(-libc::EEXIST), Some(libc::EEXIST));
        assert_eq!(answer(i32::MIN), Some(libc::EIO));
    }

    /// Every prefix and every one-byte change of a real message, and noise: no
    /// panic, no endless loop.
    #[test]
    fn hostile_bytes_end_the_walk() {
        let good = Request::new(16, 0).body(&[0; 16]).attr_str(3, "eth0").nest(18, |r| r.attr_u32(1, 2)).finish(1);
        let walk = |bytes: &[u8]| {
            let mut n = 0;
            for message in Messages(bytes) {
                n += 1;
                for (_, value) in Attributes(message.payload.get(16..).unwrap_or_default()) {
                    n += Attributes(value).count();
                }
                message.error();
            }
            n
        };
        for end in 0..good.len() {
            walk(&good[..end]);
        }
        for at in 0..good.len() {
            for value in [0, 1, 3, 4, 15, 16, 127, 128, 255] {
                let mut bad = good.clone();
                bad[at] = value;
                assert!(walk(&bad) < 100);
            }
        }
        let mut state = 1u32;
        let noise: Vec<u8> = (0..65536)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        for start in 0..2000 {
            walk(&noise[start..]);
        }
    }
}
