//! Which daemon a command talks to: `-H`, `--context`, `DOCKER_HOST`,
//! `DOCKER_CONTEXT`, the current context, the usual sockets.

use crate::cli::context::Context;
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

/// The address of the daemon.
pub fn endpoint(cx: &Context) -> Result<Endpoint> {
    let name = context_name(cx)?;
    if name != "default" {
        return stored(cx, &name);
    }
    let host = match cx.globals.host.as_slice() {
        [] => std::env::var("DOCKER_HOST").ok().filter(|h| !h.is_empty()),
        [one] => Some(one.clone()),
        _ => return Err(Error::invalid("specify only one -H")),
    };
    let host = match host {
        Some(host) => normal(host.trim()),
        None => default_socket(),
    };
    Endpoint::parse(&host)
}

/// What may be left out of an address.
fn normal(host: &str) -> String {
    match host {
        "unix://" => default_socket(),
        "tcp://" => "tcp://localhost:2375".into(),
        h if h.starts_with(':') => format!("tcp://localhost{h}"),
        h => h.to_owned(),
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

/// The endpoint of a context on disk.
fn stored(cx: &Context, name: &str) -> Result<Endpoint> {
    let id = crate::util::id::hex(ring::digest::digest(&ring::digest::SHA256, name.as_bytes()).as_ref());
    let path = cx.config_dir().join("contexts/meta").join(id).join("meta.json");
    let failed = |why: String| Error::invalid(format!("unable to resolve docker endpoint: {why}"));
    let bytes = std::fs::read(&path).map_err(|e| {
        failed(format!(
            "context \"{name}\": context not found: open {}: {}",
            path.display(),
            crate::error::errno_text(&e)
        ))
    })?;
    let meta: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))?;
    let host = meta["Endpoints"]["docker"]["Host"].as_str().unwrap_or_default();
    Endpoint::parse(host)
}
