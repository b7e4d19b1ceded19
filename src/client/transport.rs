//! Ways to the daemon: unix sockets, TCP, TLS, a program at the other end of ssh.
//! Whatever it is, the rest of the client sees a stream socket that can be closed
//! on one side.

use crate::client::proxy::Proxy;
use crate::client::{ssh, tls};
use crate::error::{Error, Kind, Result};
use crate::util::resolve::{Resolver, go_io_text};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest time to wait for an address to answer.
const CONNECT: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Endpoint {
    /// As the user wrote it.
    pub host: String,
    pub address: Address,
    tls: Option<Arc<tls::Config>>,
    /// What a helper of a connection (TLS, ssh) had to say of its end.
    trouble: Trouble,
}

pub type Trouble = Arc<Mutex<Option<String>>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    Tcp(String),
    Ssh(ssh::Target),
}

impl Endpoint {
    /// Reads `unix:///path`, `tcp://host[:port]`, `ssh://[user@]host[:port]`.
    pub fn parse(host: &str) -> Result<Self> {
        let (scheme, rest) =
            host.split_once("://").ok_or_else(|| Error::invalid(format!("unable to parse docker host `{host}`")))?;
        let address = match scheme {
            "unix" => Address::Unix(PathBuf::from(rest)),
            "tcp" | "http" | "https" => Address::Tcp(rest.trim_end_matches('/').to_owned()),
            "ssh" => Address::Ssh(ssh::Target::parse(rest)?),
            _ => return Err(Error::invalid(format!("protocol not available: {scheme}"))),
        };
        Ok(Self { host: host.to_owned(), address, tls: None, trouble: Trouble::default() })
    }

    /// Speaks TLS, over TCP. `files` are named `ca.pem`, `cert.pem`, `key.pem`.
    pub fn with_tls(mut self, files: &[(String, Vec<u8>)], skip_verify: bool) -> Result<Self> {
        if matches!(self.address, Address::Tcp(_)) {
            self.tls = Some(Arc::new(tls::Config::new(files, skip_verify)?));
        }
        Ok(self)
    }

    /// What stands in the Host header.
    pub fn host_header(&self) -> &str {
        match &self.address {
            Address::Unix(_) => "api.moby.localhost",
            Address::Tcp(authority) => authority,
            Address::Ssh(_) => "docker.example.com",
        }
    }

    /// The proxy that takes plain requests for this daemon, if there is one.
    pub fn forwarder(&self) -> io::Result<Option<Proxy>> {
        match &self.address {
            Address::Tcp(authority) if self.tls.is_none() => {
                Ok(Proxy::of_environment(authority, false)?.filter(Proxy::forwards))
            }
            _ => Ok(None),
        }
    }

    /// A connection to the daemon, or to its [`Endpoint::forwarder`].
    pub fn dial(&self, forwarder: Option<&Proxy>) -> io::Result<UnixStream> {
        let authority = match &self.address {
            Address::Unix(path) => return UnixStream::connect(path),
            Address::Ssh(target) => return target.dial(&self.trouble),
            Address::Tcp(authority) => authority,
        };
        let stream = match forwarder {
            Some(proxy) => return self.reach(proxy),
            None => match Proxy::of_environment(authority, self.tls.is_some())? {
                None => connect(authority)?,
                Some(proxy) => {
                    let mut stream = self.reach(&proxy)?;
                    proxy.tunnel(&mut stream, authority)?;
                    stream
                }
            },
        };
        match &self.tls {
            Some(tls) => tls.dial(stream, authority, &self.trouble),
            None => Ok(stream),
        }
    }

    /// A connection to the proxy itself. As with Go's client, one that is reached by TLS is
    /// judged like the daemon behind it; without TLS there, by what this machine believes.
    fn reach(&self, proxy: &Proxy) -> io::Result<UnixStream> {
        let secured = |stream| {
            let own = match &self.tls {
                Some(tls) => tls.clone(),
                None => Arc::new(tls::Config::of_machine().map_err(|e| io::Error::other(e.message().to_owned()))?),
            };
            own.dial(stream, &proxy.authority, &self.trouble)
        };
        let stream = connect(&proxy.authority).and_then(|s| if proxy.secure { secured(s) } else { Ok(s) });
        stream.map_err(|e| io::Error::other(format!("proxyconnect tcp: {}", go_io_text(&e))))
    }

    /// What the helper of this transport says. It may see its end a moment later than
    /// we see ours.
    fn trouble(&self) -> Option<String> {
        let moments = match &self.address {
            Address::Ssh(_) => 100,
            Address::Tcp(_) if self.tls.is_some() => 10,
            _ => 0,
        };
        let take = || self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        for _ in 0..moments {
            if let Some(text) = take() {
                return Some(text);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        take()
    }

    /// The client's words for a connection that failed over `method` on `target`.
    pub fn explain(&self, e: io::Error, method: &str, target: &str) -> Error {
        let host = &self.host;
        let trouble = self.trouble();
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let during = |why: String| {
            let authority = match &self.address {
                Address::Unix(path) => path.to_string_lossy().replace('/', "%2F"),
                _ => self.host_header().to_owned(),
            };
            let mut letters = method.chars();
            let method: String = letters.next().into_iter().chain(letters.flat_map(char::to_lowercase)).collect();
            format!("error during connect: {method} \"{scheme}://{authority}{target}\": {why}")
        };
        let text = match (trouble, e.kind()) {
            (Some(why), _) => during(why),
            (None, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut) => {
                format!("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")
            }
            (None, io::ErrorKind::PermissionDenied) => {
                let text = "permission denied while trying to connect to the Docker daemon socket at";
                let (letter, path) = (method.get(..1).unwrap_or("G"), host.trim_start_matches("unix://"));
                let method = format!("{letter}{}", method.get(1..).unwrap_or("et").to_lowercase());
                let url = format!("http://{}{target}", path.replace('/', "%2F"));
                format!("{text} {host}: {method} \"{url}\": dial unix {path}: connect: permission denied")
            }
            (None, _) => during(go_io_text(&e)),
        };
        Error::new(Kind::Unavailable, text)
    }
}

/// What is done with the socket does not depend on its family.
fn connect(authority: &str) -> io::Result<UnixStream> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse::<u16>().map_err(io::Error::other)?),
        _ => (authority, 2375),
    };
    let addresses =
        Resolver::default().lookup(host, CONNECT).map_err(|e| io::Error::other(format!("dial tcp: {e}")))?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect_timeout(&SocketAddr::new(address, port), CONNECT) {
            Ok(stream) => {
                // Requests are small and wait for answers.
                stream.set_nodelay(true)?;
                return Ok(UnixStream::from(OwnedFd::from(stream)));
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        assert_eq!(Endpoint::parse("unix:///a/b").unwrap().address, Address::Unix("/a/b".into()));
        assert_eq!(Endpoint::parse("tcp://h:1/").unwrap().address, Address::Tcp("h:1".into()));
        let error = |host| Endpoint::parse(host).err().unwrap();
        assert_eq!(error("bogus").message(), "unable to parse docker host `bogus`");
        let unix = Endpoint::parse("unix:///x").unwrap();
        let refused = unix.explain(io::Error::from(io::ErrorKind::NotFound), "GET", "/v1.51/info");
        assert_eq!(
            refused.message(),
            "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"
        );
    }
}
