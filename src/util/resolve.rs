//! Host names to addresses by /etc/hosts and the servers of /etc/resolv.conf.
//! Any thread; blocks for at most the deadline.
//!
//! Why it exists: getaddrinfo of a static glibc loads NSS modules at run time,
//! and crashes where the host has another glibc or none. Files are re-read at
//! every lookup, so a laptop that changes networks needs no restart.
//! Not done on purpose: NSS, mDNS, DNSSEC, a cache.

use super::dns::{self, Type};
use crate::util::order;
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why a name has no address. Displays as Go's resolver words it, which is what
/// people find in search engines: `lookup HOST on SERVER: no such host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupError {
    pub host: String,
    pub server: Option<SocketAddr>,
    pub cause: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    NoSuchHost,
    Timeout,
    ServerMisbehaving,
    /// The kernel's word on the query.
    Io(String),
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lookup {}", self.host)?;
        if let Some(server) = self.server {
            write!(f, " on {server}")?;
        }
        match &self.cause {
            Cause::NoSuchHost => f.write_str(": no such host"),
            Cause::Timeout => f.write_str(": i/o timeout"),
            Cause::ServerMisbehaving => f.write_str(": server misbehaving"),
            Cause::Io(text) => write!(f, ": {text}"),
        }
    }
}

impl std::error::Error for LookupError {}

/// Where to look; the default is the host's own configuration.
#[derive(Debug, Clone)]
pub struct Resolver {
    pub hosts: PathBuf,
    pub conf: PathBuf,
    /// 53 except in tests.
    pub port: u16,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { hosts: "/etc/hosts".into(), conf: "/etc/resolv.conf".into(), port: 53 }
    }
}

/// The part of resolv.conf(5) that decides where a question goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Conf {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
}

impl Resolver {
    /// All addresses of `host`, IPv4 first: without a race of both families a
    /// black-holed IPv6 route would cost a connect timeout each time. An address
    /// literal (with or without brackets) is itself.
    pub fn lookup(&self, host: &str, limit: Duration) -> Result<Vec<IpAddr>, LookupError> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse() {
            return Ok(vec![ip]);
        }
        let known = hosts_addresses(&read_lossy(&self.hosts), bare);
        if !known.is_empty() {
            return Ok(known);
        }
        // RFC 6761 §6.3: never ask a server for it.
        if is_localhost(bare) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let conf = parse_conf(&read_lossy(&self.conf));
        let deadline = Instant::now() + limit;
        let mut first: Option<LookupError> = None;
        for name in candidates(bare, &conf) {
            match self.ask_servers(&name, bare, &conf, deadline) {
                Ok(ips) => return Ok(ips),
                // The outcome for the name as given counts more than that of
                // its search-list variants; without it, the first one.
                Err(e) if first.is_none() || name.trim_end_matches('.') == bare => first = Some(e),
                Err(_) => {}
            }
        }
        Err(first.unwrap_or(LookupError { host: bare.to_owned(), server: None, cause: Cause::NoSuchHost }))
    }

    fn ask_servers(&self, name: &str, host: &str, conf: &Conf, deadline: Instant) -> Result<Vec<IpAddr>, LookupError> {
        let mut last = (None, Cause::NoSuchHost);
        for _ in 0..conf.attempts {
            for server in &conf.servers {
                let server = SocketAddr::new(*server, self.port);
                let left = deadline.saturating_duration_since(Instant::now()).min(conf.timeout);
                if left.is_zero() {
                    return Err(LookupError { host: host.to_owned(), server: Some(server), cause: Cause::Timeout });
                }
                match ask(server, name, left) {
                    Ok(ips) if !ips.is_empty() => return Ok(ips),
                    Ok(_) => {
                        let cause = Cause::NoSuchHost;
                        return Err(LookupError { host: host.to_owned(), server: Some(server), cause });
                    }
                    Err(cause) => last = (Some(server), cause),
                }
            }
        }
        Err(LookupError { host: host.to_owned(), server: last.0, cause: last.1 })
    }
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

fn hosts_addresses(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.trim_end_matches('.');
    let mut found: Vec<IpAddr> = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        let Some(ip) = words.next().and_then(|w| w.parse().ok()) else { continue };
        if words.any(|n| n.trim_end_matches('.').eq_ignore_ascii_case(host)) && !found.contains(&ip) {
            found.push(ip);
        }
    }
    order::sort_by_key(&mut found, IpAddr::is_ipv6);
    found
}

fn parse_conf(text: &str) -> Conf {
    let mut conf = Conf { servers: vec![], search: vec![], ndots: 1, timeout: Duration::from_secs(5), attempts: 2 };
    for line in text.lines() {
        let line = line.trim_start();
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_whitespace();
        match words.next() {
            // glibc's limit of three.
            Some("nameserver") if conf.servers.len() < 3 => {
                // A zone (fe80::1%eth0) needs an interface index: skipped.
                conf.servers.extend(words.next().and_then(|w| w.parse::<IpAddr>().ok()));
            }
            // The last of `domain` and `search` counts.
            Some("domain" | "search") => {
                conf.search = words.map(|w| w.trim_end_matches('.').to_owned()).filter(|w| !w.is_empty()).collect();
            }
            Some("options") => {
                for option in words {
                    let (key, value) = option.split_once(':').unwrap_or((option, ""));
                    match (key, value.parse::<u32>()) {
                        ("ndots", Ok(n)) => conf.ndots = n.min(15) as usize,
                        ("timeout", Ok(n)) => conf.timeout = Duration::from_secs(u64::from(n.clamp(1, 30))),
                        ("attempts", Ok(n)) => conf.attempts = n.clamp(1, 5),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if conf.servers.is_empty() {
        conf.servers = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    conf
}

/// The names to ask for, in order: resolv.conf(5), `ndots` and `search`.
fn candidates(host: &str, conf: &Conf) -> Vec<String> {
    if host.ends_with('.') {
        return vec![host.to_owned()];
    }
    let dots = host.bytes().filter(|b| *b == b'.').count();
    let mut names: Vec<String> = conf.search.iter().map(|s| format!("{host}.{s}")).collect();
    if dots >= conf.ndots {
        names.insert(0, host.to_owned());
    } else {
        names.push(host.to_owned());
    }
    names
}

/// Both families from one server, asked at once.
fn ask(server: SocketAddr, name: &str, limit: Duration) -> Result<Vec<IpAddr>, Cause> {
    let mut ids = [0u8; 4];
    super::id::fill(&mut ids);
    let kinds = [Type::A, Type::Aaaa];
    let mut questions = Vec::with_capacity(2);
    for (kind, id) in kinds.iter().zip(ids.chunks_exact(2)) {
        questions.push(dns::question(u16::from_be_bytes([id[0], id[1]]), name, *kind).ok_or(Cause::NoSuchHost)?);
    }
    let io = |e: io::Error| match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Cause::Timeout,
        _ => Cause::Io(go_io_text(&e)),
    };
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).map_err(io)?;
    // Connected: the kernel drops what comes from elsewhere and reports a
    // refused port.
    socket.connect(server).map_err(io)?;
    for q in &questions {
        socket.send(q).map_err(io)?;
    }
    let deadline = Instant::now() + limit;
    let mut answers: [Option<dns::Answer>; 2] = [None, None];
    let mut buffer = [0u8; 4096];
    while answers.iter().any(Option::is_none) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // A server that drops AAAA questions has still answered.
            break;
        }
        socket.set_read_timeout(Some(left)).map_err(io)?;
        let n = match socket.recv(&mut buffer) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => match io(e) {
                Cause::Timeout => break,
                cause => return Err(cause),
            },
        };
        for (q, slot) in questions.iter().zip(&mut answers) {
            if let Some(answer) = dns::decode(&buffer[..n], q) {
                *slot = Some(if answer.truncated { over_tcp(server, q, left).unwrap_or(answer) } else { answer });
            }
        }
    }
    combine(&answers)
}

fn combine(answers: &[Option<dns::Answer>]) -> Result<Vec<IpAddr>, Cause> {
    let found: Vec<IpAddr> = answers.iter().flatten().flat_map(|a| a.addresses.iter().copied()).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    if answers.iter().all(Option::is_none) {
        return Err(Cause::Timeout);
    }
    if answers.iter().flatten().any(|a| !matches!(a.code, 0 | 3)) {
        return Err(Cause::ServerMisbehaving);
    }
    Ok(vec![])
}

fn over_tcp(server: SocketAddr, question: &[u8], limit: Duration) -> Option<dns::Answer> {
    let mut stream = TcpStream::connect_timeout(&server, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.set_write_timeout(Some(limit)).ok()?;
    let mut framed = (question.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(question);
    stream.write_all(&framed).ok()?;
    let mut length = [0u8; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0u8; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    dns::decode(&message, question)
}

/// The errno as Go prints it: "connection refused", without Rust's "(os error N)".
pub fn go_io_text(e: &io::Error) -> String {
    let text = e.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    match e.raw_os_error() {
        Some(_) => {
            let mut chars = text.chars();
            chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> Conf {
        parse_conf(text)
    }

    #[test]
    fn resolv_conf() {
        let c = conf(
            "# x\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch a.b c.\noptions ndots:2 timeout:1 attempts:9\n",
        );
        assert_eq!(c.servers, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(c.search, ["a.b", "c"]);
        assert_eq!((c.ndots, c.timeout.as_secs(), c.attempts), (2, 1, 5));
        assert_eq!(conf("").servers.len(), 2);
    }

    #[test]
    fn search_order() {
        let c = conf("search x.y\n");
        assert_eq!(candidates("host", &c), ["host.x.y", "host"]);
        assert_eq!(candidates("a.b", &c), ["a.b", "a.b.x.y"]);
        assert_eq!(candidates("a.", &c), ["a."]);
    }

    #[test]
    fn hosts_file() {
        let text = "::1 localhost box\n127.0.0.1 localhost # me\n10.1.2.3 reg.Example.com reg\n";
        assert_eq!(hosts_addresses(text, "REG.example.com"), ["10.1.2.3".parse::<IpAddr>().unwrap()]);
        assert!(hosts_addresses(text, "localhost")[0].is_ipv4());
        assert!(hosts_addresses(text, "me").is_empty());
    }

    #[test]
    fn literals_ask_nobody() {
        let r = Resolver { hosts: "/nonexistent".into(), conf: "/nonexistent".into(), port: 1 };
        assert_eq!(r.lookup("[::1]", Duration::ZERO).unwrap().len(), 1);
        assert_eq!(r.lookup("x.localhost", Duration::ZERO).unwrap().len(), 2);
    }

    #[test]
    fn a_server_is_asked_over_udp_and_tcp() {
        use std::net::TcpListener;
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let port = udp.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let mut buffer = [0u8; 512];
            // The A question is answered as truncated, AAAA as empty.
            for _ in 0..2 {
                let (n, from) = udp.recv_from(&mut buffer).unwrap();
                buffer[2] |= if buffer[n - 3] == 1 { 0x82 } else { 0x80 };
                udp.send_to(&buffer[..n], from).unwrap();
            }
            let (mut s, _) = tcp.accept().unwrap();
            let mut q = [0u8; 512];
            s.read_exact(&mut q[..2]).unwrap();
            let n = usize::from(q[1]);
            s.read_exact(&mut q[..n]).unwrap();
            let mut m = q[..n].to_vec();
            m[2] |= 0x80;
            m[7] = 1;
            m.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 9]);
            s.write_all(&(m.len() as u16).to_be_bytes()).unwrap();
            s.write_all(&m).unwrap();
        });
        let dir = std::env::temp_dir().join(format!("resolve-{}", super::super::id::random()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        let r = Resolver { hosts: dir.join("hosts"), conf: dir.join("resolv.conf"), port };
        let ips = r.lookup("reg.example.com", Duration::from_secs(5)).unwrap();
        assert_eq!(ips, ["192.0.2.9".parse::<IpAddr>().unwrap()]);
        server.join().unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn words_of_go() {
        let e = LookupError { host: "a.invalid".into(), server: "10.0.2.3:53".parse().ok(), cause: Cause::NoSuchHost };
        assert_eq!(e.to_string(), "lookup a.invalid on 10.0.2.3:53: no such host");
        assert_eq!(go_io_text(&io::Error::from_raw_os_error(111)), "connection refused");
    }
}
