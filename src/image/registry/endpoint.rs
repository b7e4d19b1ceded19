//! Which base URLs stand for a registry name, in the order to try them, and
//! which proxy leads to a URL. Pure.

use super::url::{Scheme, Url};
use crate::util::proxy::{bypassed, in_range, split_host};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The domain that names Docker Hub in a reference, and where it really lives.
pub const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";

/// How this daemon (or client) reaches registries. Replaced as a whole when the
/// configuration is re-read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Base URLs asked before Docker Hub, for pulls only.
    pub mirrors: Vec<String>,
    /// `host[:port]` or CIDR. The loopback range counts without being named.
    pub insecure: Vec<String>,
    /// Directories with `HOST[:PORT]/{*.crt,*.cert,*.key}`; the first that has
    /// the host counts.
    pub certs_dirs: Vec<PathBuf>,
    pub http_proxy: String,
    pub https_proxy: String,
    pub no_proxy: String,
    pub user_agent: String,
    pub max_downloads: usize,
    pub max_uploads: usize,
    /// How often one blob is tried without a byte of progress between.
    pub attempts: u32,
    /// A connection on which nothing moves for so long is given up.
    pub stall: Duration,
    pub connect: Duration,
}

impl Default for Settings {
    /// Docker's defaults and the proxies of the environment.
    fn default() -> Self {
        let env = |names: &[&str]| names.iter().find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()));
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or(home.map(|h| h.join(".config")));
        let mut certs_dirs: Vec<PathBuf> = config.map(|c| c.join("docker/certs.d")).into_iter().collect();
        certs_dirs.push("/etc/docker/certs.d".into());
        Self {
            mirrors: vec![],
            insecure: vec![],
            certs_dirs,
            http_proxy: env(&["HTTP_PROXY", "http_proxy"]).unwrap_or_default(),
            https_proxy: env(&["HTTPS_PROXY", "https_proxy"]).unwrap_or_default(),
            no_proxy: env(&["NO_PROXY", "no_proxy"]).unwrap_or_default(),
            user_agent: concat!("coracle/", env!("CARGO_PKG_VERSION"), " docker/28.5.2 (linux)").to_owned(),
            max_downloads: 3,
            max_uploads: 5,
            attempts: 5,
            stall: Duration::from_secs(60),
            connect: Duration::from_secs(15),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Without `/v2/`; the target is `/` or a mirror's path ending in `/`.
    pub base: Url,
    pub mirror: bool,
    /// False: any certificate will do.
    pub verify: bool,
}

/// Where the API of the registry `domain` may be found, best first.
pub fn endpoints(settings: &Settings, domain: &str, pull: bool) -> Vec<Endpoint> {
    let at = |scheme, authority: &str, verify| Endpoint {
        base: Url { scheme, authority: authority.to_owned(), target: "/".to_owned() },
        mirror: false,
        verify,
    };
    if is_hub(domain) {
        let mut all = Vec::new();
        for mirror in settings.mirrors.iter().filter(|_| pull) {
            let Some(mut base) = Url::parse(mirror) else { continue };
            if !base.target.ends_with('/') {
                base.target.push('/');
            }
            let verify = !is_insecure(settings, &base.authority);
            all.push(Endpoint { base, mirror: true, verify });
        }
        all.push(at(Scheme::Https, HUB_HOST, true));
        return all;
    }
    if is_insecure(settings, domain) {
        return vec![at(Scheme::Https, domain, false), at(Scheme::Http, domain, false)];
    }
    vec![at(Scheme::Https, domain, true)]
}

pub fn is_hub(domain: &str) -> bool {
    matches!(domain, HUB | "index.docker.io" | HUB_HOST | "")
}

/// Named in `--insecure-registry`, or an address within a range of it.
pub fn is_insecure(settings: &Settings, authority: &str) -> bool {
    if settings.insecure.iter().any(|i| i.eq_ignore_ascii_case(authority)) {
        return true;
    }
    let host = split_host(authority).0;
    // Names are resolved by /etc/hosts alone here: whether TLS is required
    // must not depend on what an unauthenticated DNS answer says.
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) if host.eq_ignore_ascii_case("localhost") => IpAddr::from([127, 0, 0, 1]),
        Err(_) => return false,
    };
    ip.is_loopback() || settings.insecure.iter().any(|range| in_range(range, ip))
}

/// The proxy for `url`, if any.
pub fn proxy_for<'a>(settings: &'a Settings, url: &Url) -> Option<&'a str> {
    let proxy = match url.scheme {
        Scheme::Http => &settings.http_proxy,
        Scheme::Https => &settings.https_proxy,
    };
    (!proxy.is_empty() && !bypassed(&settings.no_proxy, url.host(), url.port())).then_some(proxy.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            mirrors: vec!["https://m.example/hub".into()],
            insecure: vec!["reg.lan:5000".into(), "10.1.0.0/16".into()],
            http_proxy: String::new(),
            https_proxy: String::new(),
            no_proxy: String::new(),
            ..Settings::default()
        }
    }

    fn urls(domain: &str, pull: bool) -> Vec<String> {
        endpoints(&settings(), domain, pull).iter().map(|e| e.base.to_string()).collect()
    }

    #[test]
    fn order() {
        assert_eq!(urls("docker.io", true), ["https://m.example/hub/", "https://registry-1.docker.io/"]);
        assert_eq!(urls("docker.io", false), ["https://registry-1.docker.io/"]);
        assert_eq!(urls("ghcr.io", true), ["https://ghcr.io/"]);
        assert_eq!(urls("reg.lan:5000", true), ["https://reg.lan:5000/", "http://reg.lan:5000/"]);
    }

    #[test]
    fn insecure() {
        let s = settings();
        for yes in ["127.0.0.1:5000", "localhost:5000", "[::1]:5000", "10.1.2.3", "REG.lan:5000"] {
            assert!(is_insecure(&s, yes), "{yes}");
        }
        for no in ["reg.lan", "10.2.0.1:5000", "localhost.evil.com", "127.0.0.1.evil.com"] {
            assert!(!is_insecure(&s, no), "{no}");
        }
    }

    #[test]
    fn proxies() {
        let s = Settings {
            https_proxy: "http://p:3128".into(),
            no_proxy: "example.com, .corp, 10.0.0.0/8,reg.io:5000".into(),
            ..settings()
        };
        let used = |u: &str| proxy_for(&s, &Url::parse(u).unwrap()).is_some();
        assert!(used("https://ghcr.io/v2/"));
        assert!(used("https://notexample.com/"));
        assert!(used("https://corp/"));
        assert!(used("https://reg.io/"));
        for direct in [
            "https://example.com/", "https://a.example.com/", "https://x.corp/", "https://10.9.9.9/",
            "https://reg.io:5000/", "https://127.0.0.1/", "https://localhost/", "http://ghcr.io/",
        ] {
            assert!(!used(direct), "{direct}");
        }
    }
}
