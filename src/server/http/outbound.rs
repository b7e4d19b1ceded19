//! The writing half: heads, whole answers in one write, chunked streams whose
//! every flush reaches the client. Connection's thread.

use super::socket::Socket;
use crate::server::status;
use crate::util::time;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;

/// A head being written. Header order is the original's, since people diff it.
pub struct Head(Vec<u8>);

impl Head {
    pub fn new(status: u16, http10: bool) -> Self {
        let version = if http10 { "1.0" } else { "1.1" };
        Self(format!("HTTP/{version} {status} {}\r\n", status::reason(status)).into_bytes())
    }
    /// Values come from us or were checked: a line end in one would start a header
    /// of the attacker's, so such bytes become spaces.
    pub fn header(&mut self, name: &str, value: &str) -> &mut Self {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend(value.bytes().map(|b| if b < b' ' || b == 0x7f { b' ' } else { b }));
        self.0.extend_from_slice(b"\r\n");
        self
    }
    pub fn date(&mut self) -> &mut Self {
        let date = http_date(time::now());
        self.header("Date", &date)
    }
    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"\r\n");
        self.0
    }
}

/// `Mon, 23 Nov 2026 21:06:32 GMT`.
pub fn http_date(t: time::Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let secs = t.secs();
    let days = secs.div_euclid(86_400);
    let (year, month, day) = time::civil_from_days(days);
    let s = secs.rem_euclid(86_400);
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[days.rem_euclid(7) as usize],
        MONTHS[(month as usize).saturating_sub(1) % 12],
        s / 3600,
        s / 60 % 60,
        s % 60
    )
}

/// Head and body with as few writes as the kernel allows.
pub fn write_both(mut socket: &Socket, head: &[u8], body: &[u8]) -> io::Result<()> {
    let total = head.len() + body.len();
    let mut done = 0;
    while done < total {
        let n = if done < head.len() {
            socket.send(&[IoSlice::new(&head[done..]), IoSlice::new(body)])?
        } else {
            socket.write(&body[done - head.len()..])?
        };
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        done += n;
    }
    Ok(())
}

/// A body without a length. Small writes gather until the flush; the head goes
/// out with the first of them, or before on `begin`.
pub struct Chunked {
    socket: Arc<Socket>,
    head: Option<Vec<u8>>,
    buffer: Vec<u8>,
    /// HTTP/1.0: no framing, the end of the connection is the end of the body.
    raw: bool,
}

const GATHER: usize = 16 * 1024;

impl Chunked {
    pub fn new(socket: Arc<Socket>, head: Vec<u8>, raw: bool) -> Self {
        Self { socket, head: Some(head), buffer: Vec::new(), raw }
    }
    pub fn begun(&self) -> bool {
        self.head.is_none()
    }
    pub fn has_gathered(&self) -> bool {
        !self.buffer.is_empty()
    }
    pub fn begin(&mut self) -> io::Result<()> {
        match self.head.take() {
            None => Ok(()),
            Some(head) => {
                self.socket.set_answered(true);
                (&*self.socket).write_all(&head)
            }
        }
    }
    pub fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        self.begin()?;
        if self.raw { Ok(()) } else { (&*self.socket).write_all(b"0\r\n\r\n") }
    }
    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut front = self.head.take().unwrap_or_default();
        self.socket.set_answered(true);
        if self.raw {
            return write_both(&self.socket, &front, bytes);
        }
        let _ = write!(front, "{:x}\r\n", bytes.len());
        if bytes.len() <= GATHER {
            front.extend_from_slice(bytes);
            front.extend_from_slice(b"\r\n");
            (&*self.socket).write_all(&front)
        } else {
            write_both(&self.socket, &front, bytes)?;
            (&*self.socket).write_all(b"\r\n")
        }
    }
}

impl Write for Chunked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() >= GATHER {
            self.flush()?;
        }
        if bytes.len() >= GATHER {
            self.chunk(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        let mut gathered = std::mem::take(&mut self.buffer);
        let result = self.chunk(&gathered);
        gathered.clear();
        self.buffer = gathered;
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn every_flush_is_a_chunk_and_large_writes_go_straight() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut chunked = Chunked::new(Socket::new(server.into()), b"H\r\n\r\n".to_vec(), false);
        chunked.write_all(b"ab").unwrap();
        chunked.write_all(b"c").unwrap();
        assert!(!chunked.begun());
        chunked.flush().unwrap();
        chunked.flush().unwrap();
        chunked.write_all(&[b'x'; GATHER]).unwrap();
        chunked.finish().unwrap();
        drop(chunked);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("H\r\n\r\n3\r\nabc\r\n4000\r\n{}\r\n0\r\n\r\n", "x".repeat(GATHER)));
    }

    #[test]
    fn dates_and_headers() {
        assert_eq!(http_date(time::Timestamp::from_parts(1_795_467_992, 0)), "Mon, 23 Nov 2026 21:06:32 GMT");
        let mut head = Head::new(200, false);
        head.header("X", "a\r\nEvil: 1");
        assert_eq!(head.finish(), b"HTTP/1.1 200 OK\r\nX: a  Evil: 1\r\n\r\n");
    }
}
