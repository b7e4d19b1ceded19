//! A netlink socket of one network namespace: the one its thread was in when
//! it was opened. It may be used from any thread afterwards.

use super::message::{Messages, NLMSG_DONE, Request};
use crate::error::{Context, Error, Result};
use crate::sys::inet;
use std::io;
use std::os::fd::OwnedFd;

#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub fn open() -> Result<Self> {
        Self::of(libc::NETLINK_ROUTE)
    }

    pub fn netfilter() -> Result<Self> {
        Self::of(libc::NETLINK_NETFILTER)
    }

    fn of(protocol: i32) -> Result<Self> {
        let fd = inet::socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol).context("open a netlink socket")?;
        inet::bind_netlink(&fd).context("bind a netlink socket")?;
        // Without NETLINK_CAP_ACK every error quotes the whole request.
        let _ = inet::set_int(&fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        Ok(Self { fd, sequence: 0 })
    }

    /// Sends one request and waits for its acknowledgement.
    pub fn send(&mut self, request: Request) -> io::Result<()> {
        self.send_all(vec![request])
    }

    /// Sends requests in one system call; the kernel carries them out in order,
    /// also past one that fails. The first error is returned.
    pub fn send_all(&mut self, requests: Vec<Request>) -> io::Result<()> {
        let count = requests.len();
        self.exchange(requests, count)
    }

    /// All of them or none: the first and the last are brackets that are not
    /// acknowledged.
    pub fn send_batch(&mut self, requests: Vec<Request>) -> io::Result<()> {
        let count = requests.len().saturating_sub(2);
        self.exchange(requests, count)
    }

    /// Sends in one go and reads answers until `count` of them are there, or one
    /// that says that nothing was done at all.
    fn exchange(&mut self, requests: Vec<Request>, count: usize) -> io::Result<()> {
        let first = self.sequence.wrapping_add(1);
        let sent = requests.len();
        let mut bytes = Vec::new();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend_from_slice(&request.finish(self.sequence));
        }
        inet::send(&self.fd, &bytes)?;
        let mut result = Ok(());
        let mut seen = 0;
        let mut buffer = vec![0; 16384];
        while seen < count {
            let n = inet::receive(&self.fd, &mut buffer)?;
            for message in Messages(&buffer[..n]) {
                // Answers of an earlier, abandoned request are skipped.
                let place = message.sequence.wrapping_sub(first) as usize;
                if place >= sent {
                    continue;
                }
                let Some(errno) = message.error() else { continue };
                seen += 1;
                if errno != 0 && result.is_ok() {
                    result = Err(io::Error::from_raw_os_error(errno));
                }
                // An error of the opening bracket is the only answer.
                if errno != 0 && count < sent && place == 0 {
                    return result;
                }
            }
        }
        result
    }

    /// Sends a request that is answered with messages (a dump or a single GET)
    /// and hands each payload to `each`.
    pub fn query(&mut self, request: Request, mut each: impl FnMut(u16, &[u8])) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        inet::send(&self.fd, &request.finish(self.sequence)).context("send a netlink request")?;
        let mut buffer = vec![0; 65536];
        loop {
            let n = inet::receive(&self.fd, &mut buffer).context("receive a netlink answer")?;
            for message in Messages(&buffer[..n]).filter(|m| m.sequence == self.sequence) {
                match message.error() {
                    Some(0) => return Ok(()),
                    Some(errno) => return Err(Error::from(io::Error::from_raw_os_error(errno))),
                    None if message.kind == NLMSG_DONE => return Ok(()),
                    None => each(message.kind, message.payload),
                }
            }
        }
    }
}
