//! The frames in which output without a terminal travels: eight bytes that say
//! which stream and how much, then that much. Pure; the client's threads and the
//! daemon's builder read with it.
//!
//! Invariant: pieces come out in the order in which they went in.

use crate::error::{Error, Result};
use std::io::{self, Read};

/// Takes the frames of a stream without a terminal apart, in whatever pieces they
/// arrive. Stream 3 is the daemon's own trouble.
#[derive(Default)]
pub struct Demux {
    head: [u8; 8],
    have: usize,
    left: usize,
    trouble: Vec<u8>,
}

impl Demux {
    /// Gives each piece of output with the number of its stream.
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut dyn FnMut(u8, &[u8]) -> Result<()>) -> Result<()> {
        while !bytes.is_empty() {
            if self.have < 8 {
                let n = bytes.len().min(8 - self.have);
                self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
                self.have += n;
                bytes = &bytes[n..];
                let [stream, _, _, _, a, b, c, d] = self.head;
                if stream > 3 {
                    return Err(Error::system(format!("Unrecognized input header: {stream}")));
                }
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                if self.have == 8 && self.left == 0 {
                    self.have = 0;
                }
                continue;
            }
            let n = bytes.len().min(self.left);
            if self.head[0] == 3 {
                self.trouble.extend_from_slice(&bytes[..n]);
            } else {
                out(self.head[0], &bytes[..n])?;
            }
            bytes = &bytes[n..];
            self.left -= n;
            if self.left == 0 {
                self.have = 0;
                if !self.trouble.is_empty() {
                    let text = String::from_utf8_lossy(&self.trouble);
                    return Err(Error::system(format!("error from daemon in stream: {text}")));
                }
            }
        }
        Ok(())
    }
}

/// Reads a framed stream to its end.
pub fn demultiplex(from: &mut dyn Read, out: &mut dyn FnMut(u8, &[u8]) -> Result<()>) -> Result<()> {
    let mut demux = Demux::default();
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => demux.feed(&buffer[..n], out)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // A daemon that is killed resets; what came until then is all there is.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        let input = b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03err\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x01!";
        for step in [1, 3, 64] {
            let mut got = Vec::new();
            let mut demux = Demux::default();
            for piece in input.chunks(step) {
                let mut take = |stream: u8, data: &[u8]| {
                    got.extend(data.iter().map(|b| (stream, *b)));
                    Ok(())
                };
                demux.feed(piece, &mut take).unwrap();
            }
            let text = |s: u8| got.iter().filter(|(n, _)| *n == s).map(|(_, b)| *b as char).collect::<String>();
            assert_eq!((text(1), text(2)), ("out!".into(), "err".into()));
        }
        let e = Demux::default().feed(b"\x03\0\0\0\0\0\0\x02no", &mut |_, _| Ok(())).unwrap_err();
        assert!(e.message().ends_with("no"));
    }
}
