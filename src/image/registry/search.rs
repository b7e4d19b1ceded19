//! The index of version 1, of which `docker search` is what remains. Runs in
//! dockerd on the request's thread.

use super::auth::Credentials;
use super::endpoint::{Settings, is_hub, is_insecure};
use super::fault::{Class, Fault, Result};
use super::transport::{Cancel, Exchange, Payload, Wire};
use super::url::{Scheme, Url};
use crate::util::json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::sync::Arc;

const HUB_INDEX: &str = "index.docker.io";
const MAX_ANSWER: u64 = 8 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Hit {
    pub star_count: i64,
    pub is_official: bool,
    pub name: String,
    pub is_automated: bool,
    pub description: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    results: Option<Vec<Hit>>,
}

/// `host/term` asks that host, anything else Docker Hub.
fn split_term(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => (HUB_INDEX, term),
    }
}

pub fn search(
    settings: &Arc<Settings>,
    term: &str,
    limit: usize,
    credentials: &Credentials,
    cancel: &Arc<Cancel>,
) -> Result<Vec<Hit>> {
    let (host, term) = split_term(term);
    let host = if is_hub(host) { HUB_INDEX } else { host };
    // Official images are stored under a name that people do not type.
    let term = if host == HUB_INDEX { term.strip_prefix("library/").unwrap_or(term) } else { term };
    let insecure = is_insecure(settings, host);
    let mut last = None;
    for scheme in [Scheme::Https, Scheme::Http].into_iter().take(if insecure { 2 } else { 1 }) {
        let mut url = Url { scheme, authority: host.to_owned(), target: "/v1/search".to_owned() };
        url.push_query("q", term);
        url.push_query("n", &limit.to_string());
        match ask(settings, &url, !insecure, credentials, cancel) {
            Err(fault) if matches!(fault.class, Class::Dial | Class::Tls | Class::Link) => last = Some(fault),
            other => return other,
        }
    }
    Err(last.unwrap_or_else(|| Fault::new(Class::Dial, format!("no endpoint for {host}"))))
}

fn ask(
    settings: &Arc<Settings>,
    url: &Url,
    verify: bool,
    credentials: &Credentials,
    cancel: &Arc<Cancel>,
) -> Result<Vec<Hit>> {
    let wire = Wire::new(settings.clone(), &url.authority, verify, cancel.clone())?;
    let mut headers = vec![("X-Docker-Token", "true".to_owned())];
    if !credentials.username.is_empty() && credentials.identity_token.is_empty() {
        let pair = format!("{}:{}", credentials.username, credentials.password);
        headers.push(("Authorization", format!("Basic {}", STANDARD.encode(pair))));
    }
    let exchange = Exchange { method: "GET", url, headers: &headers, stall: None };
    let mut answer = wire.exchange(&exchange, Payload::None)?;
    let body = super::client::read_limited(&mut answer, MAX_ANSWER)?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(Fault::new(Class::Refused, format!("Unexpected status code {status}")));
    }
    let answer: Answer = json::from_slice(&body)
        .map_err(|e| Fault::new(Class::Refused, format!("error decoding registry search results: {e}")))?;
    Ok(answer.results.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms() {
        assert_eq!(split_term("busybox"), (HUB_INDEX, "busybox"));
        assert_eq!(split_term("someone/thing"), (HUB_INDEX, "someone/thing"));
        assert_eq!(split_term("reg.io/a/b"), ("reg.io", "a/b"));
        assert_eq!(split_term("localhost:5000/x"), ("localhost:5000", "x"));
    }
}
