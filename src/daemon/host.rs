//! `-H`: the addresses a daemon listens on, by dockerd's grammar. Pure.

/// One listening address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// `fd://`, `fd://*` all, `fd://3` or a name: sockets that systemd made.
    Activated(String),
    Tcp {
        host: String,
        port: u16,
    },
    Unix(String),
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Host::Activated(which) => write!(f, "fd://{which}"),
            Host::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Host::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Host::Unix(path) => write!(f, "unix://{path}"),
        }
    }
}

/// `default_socket` stands for a unix address without a path.
pub fn parse(text: &str, default_socket: &str) -> Result<Host, String> {
    let text = text.trim();
    let invalid = |why: String| format!("invalid bind address ({text}): {why}");
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
    match scheme {
        "unix" => {
            if rest.contains("://") {
                return Err(invalid(format!("invalid unix address: {rest}")));
            }
            Ok(Host::Unix(if rest.is_empty() { default_socket.to_owned() } else { rest.to_owned() }))
        }
        "fd" => Ok(Host::Activated(rest.to_owned())),
        "tcp" => tcp(text, rest).map_err(invalid),
        other => Err(invalid(format!("unsupported proto '{other}'"))),
    }
}

fn tcp(text: &str, rest: &str) -> Result<Host, String> {
    if rest.contains('/') && !rest.ends_with("/") || rest.matches('/').count() > 1 {
        return Err("should not contain a path element".into());
    }
    let rest = rest.trim_end_matches('/');
    if rest.contains('?') {
        return Err("should not contain a query".into());
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']').ok_or_else(|| format!("parse {text:?}: missing ']' in host"))?;
            (host, after.strip_prefix(':').unwrap_or(""))
        }
        None => match rest.rsplit_once(':') {
            Some((host, port)) => (host, port),
            None => (rest, ""),
        },
    };
    let number = match port {
        "" => 2375,
        p if p.bytes().all(|b| b.is_ascii_digit()) => match p.parse::<u16>() {
            Ok(0) | Err(_) => return Err(format!("invalid port: {p}")),
            Ok(n) => n,
        },
        p => return Err(format!("parse {:?}: invalid port \":{p}\" after host", format!("tcp://{rest}"))),
    };
    let host = if host.is_empty() { "localhost" } else { host };
    if host.bytes().any(|b| b <= b' ' || b == b'@') {
        return Err(format!("parse {text:?}: invalid character in host name"));
    }
    Ok(Host::Tcp { host: host.to_owned(), port: number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let show = |text| parse(text, "/run/d.sock").map(|h| h.to_string());
        for (text, want) in [
            ("unix://", "unix:///run/d.sock"),
            ("unix:///x", "unix:///x"),
            ("tcp://", "tcp://localhost:2375"),
            ("tcp://:1", "tcp://localhost:1"),
            ("1.2.3.4:5", "tcp://1.2.3.4:5"),
            ("tcp://[::1]:7", "tcp://[::1]:7"),
            ("tcp://[::]", "tcp://[::]:2375"),
            ("tcp://h:1/", "tcp://h:1"),
            ("fd://", "fd://"),
            ("fd://3", "fd://3"),
        ] {
            assert_eq!(show(text).unwrap(), want, "{text}");
        }
        for (text, want) in [
            ("ftp://x", "invalid bind address (ftp://x): unsupported proto 'ftp'"),
            ("tcp://a:b", "invalid bind address (tcp://a:b): parse \"tcp://a:b\": invalid port \":b\" after host"),
            ("tcp://h:0", "invalid bind address (tcp://h:0): invalid port: 0"),
            ("tcp://h/p", "invalid bind address (tcp://h/p): should not contain a path element"),
        ] {
            assert_eq!(show(text).unwrap_err(), want);
        }
    }
}
