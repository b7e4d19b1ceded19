//! An upgraded connection: raw bytes both ways, stdin ended by half-close, output
//! framed unless there is a terminal.

use crate::error::Result;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

pub struct Hijacked {
    pub socket: UnixStream,
    /// Bytes of output that came with the head.
    pub leftover: Vec<u8>,
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
