//! A browser on somebody's desk must not drive an API that listens on TCP: no
//! cross-site requests (Origin, Sec-Fetch-Site), no DNS rebinding (Host). Pure.
//!
//! Clients of Docker send neither Origin nor Sec-Fetch-*. A page that rebinds its
//! own name to our address sends that name as Host: an address, `localhost`, a
//! name without dots and the names this daemon was told to listen on cannot be
//! such a name. Who showed a trusted certificate may use any Host.

use std::net::IpAddr;

/// Further names: `CORACLE_ALLOWED_HOSTS=a.example,b.example`, origins likewise
/// in `CORACLE_ALLOWED_ORIGINS`.
#[derive(Debug, Default, Clone)]
pub struct Rules {
    pub hosts: Vec<String>,
    pub origins: Vec<String>,
}

impl Rules {
    pub fn from_environment(mut hosts: Vec<String>) -> Self {
        let list = |name: &str| -> Vec<String> {
            let text = std::env::var(name).unwrap_or_default();
            text.split(',').map(|s| s.trim().to_ascii_lowercase()).filter(|s| !s.is_empty()).collect()
        };
        hosts.extend(list("CORACLE_ALLOWED_HOSTS"));
        Self { hosts, origins: list("CORACLE_ALLOWED_ORIGINS") }
    }

    /// Why a request over the network is refused, if it is.
    pub fn judge(&self, header: impl Fn(&str) -> Option<String>, verified: bool) -> Option<String> {
        if let Some(origin) = header("origin")
            && !self.origins.contains(&origin.to_ascii_lowercase())
        {
            return Some(format!("requests from web pages are refused (Origin {origin})"));
        }
        if let Some(site) = header("sec-fetch-site")
            && !matches!(site.as_str(), "none" | "same-origin")
            && self.origins.is_empty()
        {
            return Some(format!("requests from web pages are refused (Sec-Fetch-Site {site})"));
        }
        let host = header("host").unwrap_or_default();
        if verified || self.knows(&host) {
            return None;
        }
        Some(format!(
            "the host name {host} is not one of this daemon's: use its address, or name it with -H or in CORACLE_ALLOWED_HOSTS"
        ))
    }

    fn knows(&self, host: &str) -> bool {
        let host = host.trim().to_ascii_lowercase();
        let name = match host.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or(""),
            None => host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name),
        };
        let name = name.trim_end_matches('.');
        !name.contains('.') && !name.contains(':')
            || name.parse::<IpAddr>().is_ok()
            || name.ends_with(".localhost")
            || self.hosts.iter().any(|h| h.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(headers: &[(&str, &str)], verified: bool) -> bool {
        let rules = Rules { hosts: vec!["build.example.org".into()], origins: vec![] };
        let get = |name: &str| headers.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned());
        rules.judge(get, verified).is_none()
    }

    #[test]
    fn clients_pass_and_browsers_do_not() {
        for host in [
            "docker", "localhost:2375", "10.0.0.1:2375", "[::1]:2375", "Build.Example.org:2376", "api.moby.localhost",
            "",
        ] {
            assert!(judge(&[("host", host)], false), "{host}");
        }
        for host in ["evil.example", "evil.example:2375", "10.0.0.1.evil.example", "localhost.evil.example."] {
            assert!(!judge(&[("host", host)], false), "{host}");
        }
        assert!(judge(&[("host", "x.example")], true));
        assert!(!judge(&[("host", "localhost"), ("origin", "http://evil.example")], true));
        assert!(!judge(&[("host", "localhost"), ("origin", "null")], false));
        assert!(!judge(&[("host", "localhost"), ("sec-fetch-site", "cross-site")], false));
        assert!(judge(&[("host", "localhost"), ("sec-fetch-site", "none")], false));
    }
}
