//! The few URL operations the protocol needs: origin, joining a `Location`,
//! adding a query. Pure.
//!
//! Invariant: a [`Url`] always has a scheme of http or https and a host, so
//! that "same origin" is a comparison of two strings.

use crate::util::proxy::split_host;
use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub scheme: Scheme,
    /// `host` or `host:port`, without user information.
    pub authority: String,
    /// Path and query, beginning with `/`.
    pub target: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
    fn port(self) -> &'static str {
        match self {
            Scheme::Http => ":80",
            Scheme::Https => ":443",
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.authority, self.target)
    }
}

impl Url {
    /// An absolute http or https URL. User information is dropped: credentials
    /// come from the configuration, never from a server's redirect.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let rest = rest.split('#').next().unwrap_or("");
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let authority = authority.rsplit('@').next().unwrap_or("");
        if authority.is_empty() || authority.bytes().any(|b| b <= b' ' || b >= 0x7f) {
            return None;
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        if target.bytes().any(|b| b <= b' ' || b >= 0x7f) {
            return None;
        }
        Some(Self { scheme, authority: authority.to_owned(), target })
    }

    /// What a `Location` header means, seen from this URL (RFC 3986 §5.2).
    pub fn join(&self, location: &str) -> Option<Self> {
        let location = location.trim();
        if location.contains("://") && location.find("://") < location.find(['/', '?']) {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme.name()));
        }
        let path = self.target.split('?').next().unwrap_or("/");
        let target = if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') || location.is_empty() {
            format!("{path}{location}")
        } else {
            let (reference, query) = location.find('?').map_or((location, ""), |at| (&location[..at], &location[at..]));
            let base = &path[..path.rfind('/').map_or(0, |at| at + 1)];
            format!("{}{query}", remove_dots(&format!("{base}{reference}")))
        };
        Self::parse(&format!("{}://{}{target}", self.scheme.name(), self.authority))
    }

    /// Same scheme, host and port: the only place credentials may go to.
    pub fn same_origin(&self, other: &Self) -> bool {
        let full = |u: &Self| u.authority.strip_suffix(u.scheme.port()).unwrap_or(&u.authority).to_ascii_lowercase();
        self.scheme == other.scheme && full(self) == full(other)
    }

    /// Adds `key=value`, escaped, to the query.
    pub fn push_query(&mut self, key: &str, value: &str) {
        self.target.push(if self.target.contains('?') { '&' } else { '?' });
        self.target.push_str(key);
        self.target.push('=');
        self.target.push_str(&crate::util::query::escape(value));
    }

    /// Host without port and brackets.
    pub fn host(&self) -> &str {
        split_host(&self.authority).0
    }

    pub fn port(&self) -> u16 {
        split_host(&self.authority).1.unwrap_or(match self.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        })
    }
}

fn remove_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => out.push(""),
            "." => {}
            ".." => {
                if out.len() > 1 {
                    out.pop();
                }
                if last {
                    out.push("");
                }
            }
            s => out.push(s),
        }
    }
    out.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(s: &str) -> Url {
        Url::parse(s).unwrap()
    }

    #[test]
    fn parts() {
        let u = url("HTTPS://user:pw@Reg.example.com:5000/v2/?a=b#frag");
        assert_eq!(u.to_string(), "https://Reg.example.com:5000/v2/?a=b");
        assert_eq!((u.host(), u.port()), ("Reg.example.com", 5000));
        assert_eq!(url("http://[::1]").port(), 80);
        assert_eq!(url("http://[::1]:5000/x").host(), "::1");
        for bad in ["ftp://x/", "https://", "x", "http://a b/", "http://a/b c", "http://a/\r\nX: y"] {
            assert!(Url::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn locations() {
        let base = url("https://r.io:5000/v2/a/blobs/uploads/?mount=x");
        let join = |l: &str| base.join(l).unwrap().to_string();
        assert_eq!(join("/v2/a/blobs/uploads/7?_state=q"), "https://r.io:5000/v2/a/blobs/uploads/7?_state=q");
        assert_eq!(join("7?_state=q"), "https://r.io:5000/v2/a/blobs/uploads/7?_state=q");
        assert_eq!(join("../b"), "https://r.io:5000/v2/a/blobs/b");
        assert_eq!(join("//cdn.io/x"), "https://cdn.io/x");
        assert_eq!(join("http://cdn.io/x?u=http://y/"), "http://cdn.io/x?u=http://y/");
        assert_eq!(join("?x=1"), "https://r.io:5000/v2/a/blobs/uploads/?x=1");
        assert_eq!(join("z?to=http://y/"), "https://r.io:5000/v2/a/blobs/uploads/z?to=http://y/");
        assert!(base.join("gopher://x/").is_none());
    }

    #[test]
    fn origins() {
        assert!(url("https://r.io/a").same_origin(&url("https://R.IO:443/b")));
        assert!(!url("https://r.io/a").same_origin(&url("http://r.io/a")));
        assert!(!url("https://r.io/a").same_origin(&url("https://r.io:5000/a")));
        assert!(!url("https://r.io/a").same_origin(&url("https://r.io.evil/a")));
    }

    #[test]
    fn queries() {
        let mut u = url("https://a/token");
        u.push_query("scope", "repository:a/b:push,pull");
        u.push_query("service", "x y");
        assert_eq!(u.target, "/token?scope=repository%3Aa%2Fb%3Apush%2Cpull&service=x+y");
    }
}
