//! Verbs on contexts, one file each, and what they share: the resolved default
//! context and the options of an endpoint.

pub mod create;
pub mod export;
pub mod import;
pub mod inspect;
pub mod ls;
pub mod rm;
pub mod show;
pub mod update;
pub mod use_;

use crate::cli::context::Context;
use crate::cli::context_store::{DEFAULT, Meta, Store, TlsFiles};
use crate::error::{Context as _, Error, Result, errno_text};

const DEFAULT_DESCRIPTION: &str = "Current DOCKER_HOST based configuration";

pub fn store(cx: &Context) -> Store {
    Store::new(&cx.config_dir())
}

/// A context by name with its TLS files; `default` is made of flags and environment.
pub fn resolve(cx: &Context, name: &str) -> Result<(Meta, TlsFiles)> {
    if name != DEFAULT {
        let store = store(cx);
        let mut meta = store.get(name)?;
        meta.name = name.to_owned();
        return Ok((meta, store.tls(name)?));
    }
    let (host, tls, skip_verify) = crate::cli::host::default_endpoint(cx)?;
    Ok((Meta::new(DEFAULT, DEFAULT_DESCRIPTION, &host, skip_verify), tls))
}

/// `--docker host=…,ca=…`: the endpoint and its TLS files.
pub fn endpoint(cx: &Context, given: &[String]) -> Result<(String, TlsFiles, bool)> {
    let failed = |text: String| Error::invalid(format!("unable to create docker endpoint config: {text}"));
    let (mut host, mut from, mut skip) = ("", None, false);
    let mut files = [("ca.pem", ""), ("cert.pem", ""), ("key.pem", "")];
    for pair in given.iter().flat_map(|g| g.split(',')).filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "host" => host = value,
            "from" => from = Some(value),
            "ca" => files[0].1 = value,
            "cert" => files[1].1 = value,
            "key" => files[2].1 = value,
            "skip-tls-verify" if value.is_empty() => {}
            "skip-tls-verify" => {
                skip = crate::util::units::parse_bool(value)
                    .map_err(|e| failed(format!("{key}: {}", e.trim_start_matches("strconv.ParseBool: "))))?;
            }
            _ => return Err(failed(format!("unrecognized config key: {key}"))),
        }
    }
    if let Some(name) = from {
        let (meta, tls) = resolve(cx, name).map_err(|e| failed(e.message().to_owned()))?;
        return Ok((meta.host().to_owned(), tls, meta.skip_verify()));
    }
    let mut tls = TlsFiles::new();
    for (name, path) in files.iter().filter(|(_, path)| !path.is_empty()) {
        let data = std::fs::read(path).map_err(|e| failed(format!("open {path}: {}", errno_text(&e))))?;
        tls.push(((*name).to_owned(), data));
    }
    if !host.is_empty() && !host.contains("://") {
        return Err(failed(format!("unable to apply docker endpoint options: unable to parse docker host `{host}`")));
    }
    check_tls(&tls).map_err(|e| failed(format!("invalid docker endpoint options: {e}")))?;
    Ok((host.to_owned(), tls, skip))
}

fn check_tls(tls: &TlsFiles) -> std::result::Result<(), String> {
    let pem = |name: &str, kind: &str| match tls.iter().find(|(n, _)| n == name) {
        None => true,
        Some((_, data)) => String::from_utf8_lossy(data).contains(&format!("-----BEGIN {kind}")),
    };
    if !pem("ca.pem", "CERTIFICATE") {
        return Err("failed to retrieve context tls info: ca.pem seems invalid".to_owned());
    }
    let both = tls.iter().any(|(n, _)| n == "cert.pem") && tls.iter().any(|(n, _)| n == "key.pem");
    if both && !pem("key.pem", "") {
        return Err("failed to retrieve context tls info: no valid private key found".to_owned());
    }
    if both && !pem("cert.pem", "CERTIFICATE") {
        let text = "tls: failed to find any PEM data in certificate input";
        return Err(format!("failed to retrieve context tls info: {text}"));
    }
    Ok(())
}

/// Makes `name` the current context in the configuration.
pub fn set_current(cx: &Context, name: &str) -> Result<()> {
    use crate::cli::config::Config;
    let mut config = Config::load(&cx.config_dir()).context("load configuration")?;
    if name == DEFAULT {
        if config.text("currentContext").is_none() {
            return Ok(());
        }
        config.remove("currentContext");
    } else {
        config.set("currentContext", name.into());
    }
    config.save()
}
