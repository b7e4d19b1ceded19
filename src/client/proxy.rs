//! The proxy between a client and a `tcp://` daemon, as Docker's client chooses it:
//! HTTPS_PROXY for TLS, HTTP_PROXY without, NO_PROXY for those that are reached
//! directly. (ALL_PROXY is not read: the original stopped doing so.)
//!
//! With TLS, and for connections that are taken over, an HTTP proxy is asked for a
//! tunnel (CONNECT); other requests are sent to it with the daemon's whole URL. A
//! SOCKS proxy only makes tunnels, and looks names up itself.

use crate::util::proxy::{bypassed, split_host};
use base64::Engine;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// For each step of the way through the proxy.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_HEAD: usize = 16 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    socks: bool,
    /// It is itself reached by TLS.
    pub secure: bool,
    /// Host and port.
    pub authority: String,
    /// User and password, as they were written.
    login: Option<(String, String)>,
}

impl Proxy {
    /// What the environment says for a daemon at `authority`.
    pub fn of_environment(authority: &str, tls: bool) -> io::Result<Option<Self>> {
        let variable = |names: [&str; 2]| {
            names.iter().find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty())).unwrap_or_default()
        };
        let names = if tls { ["HTTPS_PROXY", "https_proxy"] } else { ["HTTP_PROXY", "http_proxy"] };
        let (host, port) = split_host(authority);
        let text = variable(names);
        if text.is_empty() || bypassed(&variable(["NO_PROXY", "no_proxy"]), host, port.unwrap_or(2375)) {
            return Ok(None);
        }
        // There a header `Proxy:` of somebody's request is this variable.
        if !tls && std::env::var_os("REQUEST_METHOD").is_some_and(|v| !v.is_empty()) {
            return Err(io::Error::other(
                "refusing to use HTTP_PROXY value in CGI environment; see golang.org/s/cgihttpproxy",
            ));
        }
        Self::parse(&text).map(Some).map_err(|why| io::Error::other(format!("invalid proxy address {text:?}: {why}")))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (socks, default) = match scheme {
            "http" => (false, 80),
            "https" => (false, 443),
            "socks5" | "socks5h" => (true, 1080),
            other => {
                return Err(format!("a proxy of the kind {other:?} is not known: use http://, https:// or socks5://"));
            }
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or("");
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (Some((unescaped(user)?, unescaped(password)?)), rest)
            }
            None => (None, rest),
        };
        let (host, port) = split_host(rest);
        if host.is_empty() {
            return Err("no host in it".into());
        }
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Ok(Self { socks, secure: scheme == "https", authority: format!("{host}:{}", port.unwrap_or(default)), login })
    }

    /// It takes requests that name the daemon's whole URL.
    pub fn forwards(&self) -> bool {
        !self.socks
    }

    /// The header that lets us in.
    pub fn authorization(&self) -> Option<String> {
        let (user, password) = self.login.as_ref()?;
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        Some(format!("Basic {encoded}"))
    }

    /// From here on `stream`, which leads to the proxy, leads to `authority`.
    pub fn tunnel(&self, stream: &mut UnixStream, authority: &str) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        if self.socks {
            let (from, to) = (&self.authority, authority);
            self.socks(stream, authority)
                .map_err(|e| io::Error::other(format!("socks connect tcp {from}->{to}: {}", ended(&e))))?;
        } else {
            self.connect(stream, authority).map_err(|e| io::Error::other(ended(&e)))?;
        }
        stream.set_read_timeout(None)
    }

    fn connect(&self, stream: &mut UnixStream, authority: &str) -> io::Result<()> {
        let login = self.authorization().map_or(String::new(), |v| format!("Proxy-Authorization: {v}\r\n"));
        write!(stream, "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{login}\r\n")?;
        // Byte by byte: what follows the head is the daemon's.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
            if head.len() > MAX_HEAD {
                return Err(io::Error::other("the proxy's answer has no end"));
            }
        }
        let head = String::from_utf8_lossy(&head);
        let line = head.lines().next().unwrap_or_default();
        match line.split_once(' ') {
            Some((version, status)) if version.starts_with("HTTP/1.") => match status.split_once(' ') {
                Some(("200", _)) => Ok(()),
                _ if status == "200" => Ok(()),
                Some((_, reason)) => Err(io::Error::other(reason.to_owned())),
                None => Err(io::Error::other("unknown status code")),
            },
            _ => Err(io::Error::other(format!("malformed HTTP response {line:?}"))),
        }
    }

    /// RFC 1928, and 1929 for the password.
    fn socks(&self, stream: &mut UnixStream, authority: &str) -> io::Result<()> {
        let other = |text: &str| io::Error::other(text.to_owned());
        let methods: &[u8] = if self.login.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
        stream.write_all(methods)?;
        let mut chosen = [0; 2];
        stream.read_exact(&mut chosen)?;
        match (chosen, &self.login) {
            ([5, 0], _) => {}
            ([5, 2], Some((user, password))) => {
                let mut out = vec![1];
                for text in [user, password] {
                    out.push(u8::try_from(text.len()).map_err(|_| other("invalid username/password"))?);
                    out.extend_from_slice(text.as_bytes());
                }
                stream.write_all(&out)?;
                let mut verdict = [0; 2];
                stream.read_exact(&mut verdict)?;
                if verdict[1] != 0 {
                    return Err(other("username/password authentication failed"));
                }
            }
            ([5, 0xff], _) => return Err(other("no acceptable authentication methods")),
            _ => return Err(other("unexpected protocol version")),
        }
        let (host, port) = split_host(authority);
        let mut out = vec![5, 1, 0];
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => out.extend([&[1][..], &ip.octets()].concat()),
            Ok(IpAddr::V6(ip)) => out.extend([&[4][..], &ip.octets()].concat()),
            Err(_) => {
                out.extend([3, u8::try_from(host.len()).map_err(|_| other("FQDN too long"))?]);
                out.extend_from_slice(host.as_bytes());
            }
        }
        out.extend_from_slice(&port.unwrap_or(2375).to_be_bytes());
        stream.write_all(&out)?;
        let mut reply = [0; 5];
        stream.read_exact(&mut reply)?;
        if reply[1] != 0 {
            return Err(other(match reply[1] {
                1 => "unknown error general SOCKS server failure",
                2 => "unknown error connection not allowed by ruleset",
                3 => "unknown error network unreachable",
                4 => "unknown error host unreachable",
                5 => "unknown error connection refused",
                6 => "unknown error TTL expired",
                7 => "unknown error command not supported",
                8 => "unknown error address type not supported",
                _ => "unknown error",
            }));
        }
        // The address that the proxy used; its first byte may be a length.
        let rest = match reply[3] {
            1 => 4 - 1,
            4 => 16 - 1,
            _ => usize::from(reply[4]),
        };
        stream.read_exact(&mut vec![0; rest + 2])
    }
}

fn ended(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => "unexpected EOF".into(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the proxy does not answer".into(),
        _ => e.to_string(),
    }
}

/// `%40` → `@`.
fn unescaped(text: &str) -> Result<String, String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let pair = [bytes.next().unwrap_or(0), bytes.next().unwrap_or(0)];
        let digits = std::str::from_utf8(&pair).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let value = digits.and_then(|d| u8::from_str_radix(d, 16).ok());
        out.push(value.ok_or_else(|| format!("invalid URL escape in {text:?}"))?);
    }
    String::from_utf8(out).map_err(|_| "its user name is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let at = |text| Proxy::parse(text).unwrap();
        assert_eq!(at("proxy.lan").authority, "proxy.lan:80");
        assert_eq!(at("http://proxy.lan:3128/x").authority, "proxy.lan:3128");
        assert_eq!(at("socks5://[::1]").authority, "[::1]:1080");
        let proxy = at("http://u%40x:p:q@h:1");
        assert_eq!((proxy.login.clone().unwrap().1.as_str(), proxy.authority.as_str()), ("p:q", "h:1"));
        assert_eq!(proxy.authorization().unwrap(), "Basic dUB4OnA6cQ==");
        assert!(at("https://h").secure && at("https://h").authority == "h:443" && !at("http://h").secure);
        for bad in ["ftp://h", "http://", "http://%zz@h"] {
            assert!(Proxy::parse(bad).is_err(), "{bad}");
        }
    }
}
