//! The name server's sockets inside a container: 127.0.0.11:53 for whoever asks.
//!
//! The port itself is left to the container, which may run a name server of its
//! own on 0.0.0.0:53 or 127.0.0.1:53: ours are on ports of the kernel's choice,
//! and two nftables rules each way move packets between (`netlink::nft`). Where
//! the kernel has no nftables the port is bound after all.

use crate::error::Result;
use crate::net::netlink::{Netlink, nft};
use crate::sys::inet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;

#[derive(Debug)]
pub struct Sockets {
    pub udp: OwnedFd,
    pub tcp: OwnedFd,
}

/// In the network namespace of the calling thread.
pub fn open() -> Result<Sockets> {
    let (sockets, udp, tcp) = bind(0)?;
    match Netlink::netfilter().and_then(|mut n| Ok(n.send_batch(nft::move_port(ADDRESS, PORT, udp, tcp))?)) {
        Ok(()) => Ok(sockets),
        Err(e) => {
            crate::debug!(format!("no nftables for the name server: {e}"));
            Ok(bind(PORT)?.0)
        }
    }
}

/// The sockets and their ports.
fn bind(port: u16) -> io::Result<(Sockets, u16, u16)> {
    let one = |kind| {
        let fd = inet::socket(libc::AF_INET, kind, 0)?;
        inet::set_int(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        inet::bind(&fd, &SocketAddr::from((ADDRESS, port)))?;
        let port = inet::local_address(&fd)?.port();
        io::Result::Ok((fd, port))
    };
    let ((udp, udp_port), (tcp, tcp_port)) = (one(libc::SOCK_DGRAM)?, one(libc::SOCK_STREAM)?);
    inet::listen(&tcp, 16)?;
    Ok((Sockets { udp, tcp }, udp_port, tcp_port))
}
