//! `docker import URL`: the daemon fetches the archive itself, through its own
//! proxies, as a stream.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::registry::client::{header, read_limited};
use crate::image::registry::fault::reason;
use crate::image::registry::transport::{Cancel, Exchange, Payload, Wire};
use crate::image::registry::url::Url;
use std::io::Read;
use std::sync::Arc;

const REDIRECTS: usize = 10;
/// Of a refusal's body so much is shown.
const MAX_REFUSAL: u64 = 4096;

/// The URL that `fromSrc` means: without a scheme it is http.
pub fn address(source: &str) -> String {
    if source.contains("://") { source.to_owned() } else { format!("http://{source}") }
}

/// Asks for `text` and gives the body as it comes.
pub fn open(engine: &Engine, text: &str, cancel: &Arc<Cancel>) -> Result<Box<dyn Read + Send>> {
    let mut url = Url::parse(text).ok_or_else(|| Error::invalid(format!("invalid URL {text}")))?;
    let settings = engine.registries.settings();
    for _ in 0..=REDIRECTS {
        let wire = Wire::new(settings.clone(), &url.authority, true, cancel.clone())?;
        let exchange = Exchange { method: "GET", url: &url, headers: &[], stall: None };
        let mut answer = wire.exchange(&exchange, Payload::None)?;
        let status = answer.status().as_u16();
        match status {
            301..=308 => match header(&answer, "Location").and_then(|l| url.join(l)) {
                Some(next) => url = next,
                None => return Err(Error::system(format!("GET {url}: a redirect to nowhere"))),
            },
            ..400 => return Ok(Box::new(answer.into_body().into_reader())),
            _ => {
                let body = read_limited(&mut answer, MAX_REFUSAL).unwrap_or_default();
                let body = String::from_utf8_lossy(&body);
                let (body, reason) = (body.trim_end(), reason(status));
                return Err(Error::system(format!("failed to GET {url} with status {status} {reason}: {body}")));
            }
        }
    }
    Err(Error::system(format!("Get \"{text}\": stopped after {REDIRECTS} redirects")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(address("example.com/x.tar"), "http://example.com/x.tar");
        assert_eq!(address("https://example.com/x.tar"), "https://example.com/x.tar");
    }
}
