//! Which daemon a command talks to: `-H`, `--context`, `DOCKER_HOST`,
//! `DOCKER_CONTEXT`, the current context, the usual sockets.

use crate::cli::context::Context;
use crate::cli::context_store::TlsFiles;
use crate::cli::contexts;
use crate::client::transport::Endpoint;
use crate::error::{Error, Result};
use std::path::Path;

/// The name of the context in use and, for `default`, what made it so.
pub fn context_name(cx: &Context) -> Result<String> {
    let globals = &cx.globals;
    if let Some(name) = globals.context.as_deref().filter(|n| !n.is_empty()) {
        if !globals.host.is_empty() {
            return Err(Error::invalid("conflicting options: cannot specify both --host and --context"));
        }
        return Ok(name.to_owned());
    }
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    if !globals.host.is_empty() || variable("DOCKER_HOST").is_some() {
        return Ok("default".into());
    }
    Ok(variable("DOCKER_CONTEXT")
        .or_else(|| cx.config().text("currentContext").map(str::to_owned))
        .unwrap_or_else(|| "default".into()))
}

/// The address of the daemon, and how to speak TLS with it.
pub fn endpoint(cx: &Context) -> Result<Endpoint> {
    let name = context_name(cx)?;
    let failed = |e: Error| {
        let text = format!("Failed to initialize: unable to resolve docker endpoint: {}", e.message());
        match e.hint() {
            Some(hint) => Error::invalid(text).with_hint(hint),
            None => Error::invalid(text),
        }
    };
    let (meta, files) = contexts::resolve(cx, &name).map_err(failed)?;
    let host = if meta.host().is_empty() { default_socket() } else { meta.host().to_owned() };
    let endpoint = Endpoint::parse(&host)?;
    match files.is_empty() && !meta.skip_verify() {
        true => Ok(endpoint),
        false => endpoint.with_tls(&files, meta.skip_verify()).map_err(failed),
    }
}

/// The `default` context: its address, its TLS files and whether the daemon's
/// certificate goes unchecked.
pub fn default_endpoint(cx: &Context) -> Result<(String, TlsFiles, bool)> {
    let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let host = match cx.globals.host.as_slice() {
        [] => set("DOCKER_HOST"),
        [one] => Some(one.clone()),
        _ => return Err(Error::invalid("specify only one -H")),
    };
    let globals = &cx.globals;
    // What is said outright stands above its variable; --tlsverify=false asks for TLS as well.
    let verify = globals.tlsverify.unwrap_or_else(|| set("DOCKER_TLS_VERIFY").is_some());
    let asked = globals.tlsverify.is_some() || globals.tls.unwrap_or_else(|| set("DOCKER_TLS").is_some());
    let tls = verify || asked;
    let host = match host {
        Some(host) => normal(host.trim()),
        None if tls => "tcp://localhost:2376".into(),
        None => default_socket(),
    };
    if !tls {
        return Ok((host, TlsFiles::new(), false));
    }
    let dir = set("DOCKER_CERT_PATH").map_or_else(|| cx.config_dir(), std::path::PathBuf::from);
    let mut files = TlsFiles::new();
    let wanted = [("ca.pem", &globals.tlscacert), ("cert.pem", &globals.tlscert), ("key.pem", &globals.tlskey)];
    for (name, given) in wanted {
        let path = given.as_ref().map_or_else(|| dir.join(name), |p| p.trim_matches(['"', '\'']).into());
        match std::fs::read(&path) {
            Ok(data) => files.push((name.to_owned(), data)),
            // Only what was asked for must be there, and the CA.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && given.is_none() && name != "ca.pem" => {}
            Err(e) => {
                return Err(Error::invalid(format!("open {}: {}", path.display(), crate::error::errno_text(&e))));
            }
        }
    }
    Ok((host, files, !verify))
}

/// What may be left out of an address. The port is the same with TLS: 2376 stands only
/// in the address that nobody gave.
fn normal(host: &str) -> String {
    let port = 2375;
    let rest = match host {
        "unix://" | "unix:" => return default_socket(),
        h if h.starts_with("tcp://") => &h[6..],
        h if h.contains("://") => return h.to_owned(),
        h => h,
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let bare = authority.strip_prefix('[').and_then(|a| a.strip_suffix(']')).is_some();
    match authority.rsplit_once(':') {
        Some(("", p)) => format!("tcp://localhost:{p}{path}"),
        Some((h, "")) => format!("tcp://{h}:{port}{path}"),
        Some(_) if !bare => format!("tcp://{authority}{path}"),
        _ if authority.is_empty() => format!("tcp://localhost:{port}{path}"),
        _ => format!("tcp://{authority}:{port}{path}"),
    }
}

/// The user's own daemon, else the machine's.
pub fn default_socket() -> String {
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty()) {
        let own = Path::new(&dir).join("docker.sock");
        if own.exists() {
            return format!("unix://{}", own.display());
        }
    }
    "unix:///var/run/docker.sock".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_addresses() {
        for (given, full) in [
            ("tcp://z", "tcp://z:2375"),
            ("tcp://", "tcp://localhost:2375"),
            (":1", "tcp://localhost:1"),
            ("bogus", "tcp://bogus:2375"),
            ("h:99", "tcp://h:99"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("tcp://[::1]:7/x", "tcp://[::1]:7/x"),
            ("unix:///a", "unix:///a"),
            ("ssh://u@h", "ssh://u@h"),
        ] {
            assert_eq!(normal(given), full);
        }
    }
}
