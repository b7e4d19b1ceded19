//! An upgraded connection: raw bytes both ways, stdin ended by half-close, output
//! framed unless there is a terminal.

use crate::error::{Error, Result};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

pub struct Hijacked {
    pub socket: UnixStream,
    /// Bytes of output that came with the head.
    pub leftover: Vec<u8>,
    /// What the content type said of the framing, if it said anything.
    pub framed: Option<bool>,
}

impl Hijacked {
    /// The half that reads output.
    pub fn reader(&self) -> Result<impl Read + Send + use<>> {
        Ok(io::Cursor::new(self.leftover.clone()).chain(self.socket.try_clone()?))
    }
    /// Says that stdin has ended; output goes on.
    pub fn close_write(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

/// Takes the frames of a stream without a terminal apart, until it ends. Stream 3
/// is the daemon's own trouble.
pub fn demultiplex(from: &mut dyn Read, out: &mut dyn Write, err: &mut dyn Write) -> Result<()> {
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        let mut head = [0u8; 8];
        match read_full(from, &mut head)? {
            0 => return Ok(()),
            8 => {}
            _ => return Err(Error::system("unexpected EOF")),
        }
        let mut left = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let mut trouble = Vec::new();
        while left > 0 {
            let want = left.min(buffer.len());
            let n = read_some(from, &mut buffer[..want])?;
            if n == 0 {
                return Err(Error::system("unexpected EOF"));
            }
            left -= n;
            match head[0] {
                0 | 1 => {
                    out.write_all(&buffer[..n])?;
                    out.flush()?;
                }
                2 => {
                    err.write_all(&buffer[..n])?;
                    err.flush()?;
                }
                3 => trouble.extend_from_slice(&buffer[..n]),
                other => return Err(Error::system(format!("unrecognized input header: {other}"))),
            }
        }
        if head[0] == 3 {
            let text = String::from_utf8_lossy(&trouble).into_owned();
            return Err(Error::system(format!("error from daemon in stream: {text}")));
        }
    }
}

fn read_some(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // A daemon that is killed resets; what came until then is all there is.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(0),
            other => return other,
        }
    }
}

fn read_full(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut at = 0;
    while at < buffer.len() {
        match read_some(from, &mut buffer[at..])? {
            0 => break,
            n => at += n,
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        let mut input: &[u8] = b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03err\x01\0\0\0\0\0\0\x01!";
        let (mut out, mut err) = (Vec::new(), Vec::new());
        demultiplex(&mut input, &mut out, &mut err).unwrap();
        assert_eq!((out.as_slice(), err.as_slice()), (&b"out!"[..], &b"err"[..]));
        let mut input: &[u8] = b"\x03\0\0\0\0\0\0\x02no";
        assert!(demultiplex(&mut input, &mut out, &mut err).unwrap_err().message().ends_with("no"));
    }
}
