//! Ways to the daemon: unix sockets and TCP; whatever it is, the rest of the client
//! sees a stream socket that can be closed on one side.

use crate::error::{Error, Kind, Result, errno_text};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

#[derive(Debug, Clone)]
pub struct Endpoint {
    /// As the user wrote it.
    pub host: String,
    pub address: Address,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    Tcp(String),
}

impl Endpoint {
    /// Reads `unix:///path`, `tcp://host[:port]`. Docker's words for what is none.
    pub fn parse(host: &str) -> Result<Self> {
        let (scheme, rest) =
            host.split_once("://").ok_or_else(|| Error::invalid(format!("unable to parse docker host `{host}`")))?;
        let address = match scheme {
            "unix" => Address::Unix(PathBuf::from(rest)),
            "tcp" | "http" => Address::Tcp(rest.trim_end_matches('/').to_owned()),
            _ => return Err(Error::invalid(format!("protocol {scheme} is not supported by this client"))),
        };
        Ok(Self { host: host.to_owned(), address })
    }

    /// What stands in the Host header.
    pub fn host_header(&self) -> &str {
        match &self.address {
            Address::Unix(_) => "api.moby.localhost",
            Address::Tcp(authority) => authority,
        }
    }

    pub fn dial(&self) -> Result<UnixStream> {
        match &self.address {
            Address::Unix(path) => UnixStream::connect(path),
            Address::Tcp(authority) => {
                address(authority).and_then(TcpStream::connect).map(|s| UnixStream::from(OwnedFd::from(s)))
            }
        }
        .map_err(|e| self.explain(e))
    }

    /// The client's words for a connection that failed.
    pub fn explain(&self, e: io::Error) -> Error {
        let host = &self.host;
        let text = match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut => {
                format!("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")
            }
            io::ErrorKind::PermissionDenied => {
                format!("permission denied while trying to connect to the Docker daemon socket at {host}")
            }
            _ => format!("error during connect: {host}: {}", errno_text(&e)),
        };
        Error::new(Kind::Unavailable, text)
    }
}

fn address(authority: &str) -> io::Result<SocketAddr> {
    let numeric = |t: &str| t.parse::<SocketAddr>().ok();
    let with_port = if authority.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok()) {
        authority.to_owned()
    } else {
        format!("{authority}:2375")
    };
    let local = with_port.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numeric(local.as_deref().unwrap_or(&with_port))
        .ok_or_else(|| io::Error::other(format!("lookup {authority}: no such host")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        assert_eq!(Endpoint::parse("unix:///a/b").unwrap().address, Address::Unix("/a/b".into()));
        assert_eq!(Endpoint::parse("bogus").unwrap_err().message(), "unable to parse docker host `bogus`");
        assert_eq!(address("127.0.0.1:1").unwrap().port(), 1);
        assert_eq!(address("127.0.0.1").unwrap().port(), 2375);
    }
}
