//! One repository at one endpoint: authenticated requests, redirects, patience
//! with rate limits, manifests and tags. Shared by the threads of one pull or
//! push.
//!
//! Invariant: the Authorization header goes to the endpoint's own origin only;
//! a redirect elsewhere is followed without it.

use super::auth::{Authenticator, Credentials};
use super::challenge;
use super::endpoint::{Endpoint, Settings};
use super::fault::{Class, Fault, Result, from_status};
use super::transport::{Cancel, Exchange, Payload, Response, Wire, io_fault};
use super::url::Url;
use crate::image::digest::Digest;
use crate::util::json;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

/// The media types we can pull, and the old one that is refused with words.
const ACCEPT: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
];
/// The specification lets registries refuse manifests beyond this.
const MAX_MANIFEST: u64 = 4 << 20;
const MAX_ERROR: u64 = 64 << 10;
const MAX_REDIRECTS: usize = 10;
/// A limit that lifts within this is waited for; Docker Hub's six hours are not.
const MAX_PATIENCE: Duration = Duration::from_secs(60);
const MAX_WAITS: usize = 4;

/// A manifest as it came, its digest known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub media_type: String,
    pub digest: Digest,
    pub bytes: Vec<u8>,
}

/// What HEAD tells of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
}

pub struct Call<'a> {
    pub method: &'static str,
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
    pub payload: Payload<'a>,
    /// Scopes beyond the repository's own (a mount's source).
    pub also: &'a [String],
    pub stall: Option<Duration>,
}

impl Call<'_> {
    pub fn new(method: &'static str, url: Url) -> Self {
        Self { method, url, headers: vec![], payload: Payload::None, also: &[], stall: None }
    }
}

pub struct Client {
    wire: Wire,
    auth: Arc<Authenticator>,
    pub endpoint: Endpoint,
    /// Path of the repository: `library/busybox`.
    pub repository: String,
    scopes: Vec<String>,
    pub settings: Arc<Settings>,
}

impl Client {
    /// Reaches the registry and learns what it wants to see. `actions` is
    /// "pull" or "push,pull"; an empty repository asks for no scope (login).
    pub fn open(
        settings: &Arc<Settings>,
        endpoint: &Endpoint,
        repository: &str,
        actions: &str,
        credentials: Credentials,
        cancel: &Arc<Cancel>,
    ) -> Result<Self> {
        let wire = Wire::new(settings.clone(), &endpoint.base.authority, endpoint.verify, cancel.clone())?;
        // A mirror of Docker Hub is someone else: Hub's credentials stay here.
        let credentials = if endpoint.mirror { Credentials::default() } else { credentials };
        let scopes = if repository.is_empty() { vec![] } else { vec![format!("repository:{repository}:{actions}")] };
        let client = Self {
            wire,
            auth: Arc::new(Authenticator::new(credentials)),
            endpoint: endpoint.clone(),
            repository: repository.to_owned(),
            scopes,
            settings: settings.clone(),
        };
        client.ping()?;
        Ok(client)
    }

    pub fn cancel(&self) -> &Arc<Cancel> {
        self.wire.cancel()
    }

    /// The same repository with the same tokens, but ended by another token.
    pub fn fork(&self, cancel: &Arc<Cancel>) -> Self {
        Self {
            wire: self.wire.fork(cancel),
            auth: self.auth.clone(),
            endpoint: self.endpoint.clone(),
            repository: self.repository.clone(),
            scopes: self.scopes.clone(),
            settings: self.settings.clone(),
        }
    }

    /// Leaves the connections to the forks: see [`Wire::rest`].
    pub fn rest(&self) {
        self.wire.rest();
    }

    /// Who is asked, and on whose word: transfers of different sources have
    /// nothing to do with one another.
    pub fn source(&self) -> Digest {
        Digest::of(format!("{} {} {}", self.endpoint.base, self.endpoint.verify, self.auth.source()).as_bytes())
    }

    /// `/v2/` plus `rest`.
    pub fn url(&self, rest: &str) -> Url {
        let mut url = self.endpoint.base.clone();
        url.target.push_str("v2/");
        url.target.push_str(rest);
        url
    }

    pub fn repository_url(&self, rest: &str) -> Url {
        self.url(&format!("{}/{rest}", self.repository))
    }

    fn ping(&self) -> Result<()> {
        let url = self.url("");
        let exchange = Exchange { method: "GET", url: &url, headers: &[], stall: Some(self.settings.connect) };
        let mut answer = self.wire.exchange(&exchange, Payload::None)?;
        self.auth.learn(challenges(&answer));
        // Read to the end, so that the connection can be used again.
        let _ = read_limited(&mut answer, MAX_ERROR);
        Ok(())
    }

    /// Proves the credentials at `/v2/`; gives the identity token, if any.
    pub fn login(&self) -> Result<String> {
        let url = self.url("");
        let (header, identity) =
            self.auth.login(&self.wire, &self.endpoint.base).map_err(|f| f.of_request("GET", &url))?;
        let headers: Vec<_> = header.map(|h| ("Authorization", h)).into_iter().collect();
        let exchange = Exchange { method: "GET", url: &url, headers: &headers, stall: None };
        let answer = self.wire.exchange(&exchange, Payload::None)?;
        match answer.status().as_u16() {
            200 => Ok(identity),
            status => Err(Fault::new(
                Class::Refused,
                format!("login attempt to {url} failed with status: {status} {}", super::fault::reason(status)),
            )),
        }
    }

    /// Sends and follows through; an answer below 400 comes back.
    pub fn call(&self, mut call: Call<'_>) -> Result<Response> {
        let mut url = call.url.clone();
        let (mut redirects, mut waits, mut broken) = (0, 0, 0);
        let mut renewed = false;
        let mut payload = std::mem::replace(&mut call.payload, Payload::None);
        loop {
            let replayable = !matches!(payload, Payload::Stream(..));
            let idempotent = matches!(call.method, "GET" | "HEAD");
            let ours = url.same_origin(&self.endpoint.base);
            let answer = self.once(&call, &url, ours, take(&mut payload));
            let mut answer = match answer {
                // A kept-alive connection that the server has meanwhile closed.
                Err(f) if f.class == Class::Link && idempotent && broken == 0 => {
                    broken += 1;
                    continue;
                }
                other => other?,
            };
            let status = answer.status().as_u16();
            match status {
                300.. if (301..=308).contains(&status) && replayable && redirects < MAX_REDIRECTS => {
                    if !idempotent && !matches!(status, 307 | 308) {
                        return Ok(answer);
                    }
                    let Some(next) = header(&answer, "Location").and_then(|l| url.join(l)) else {
                        return Ok(answer);
                    };
                    redirects += 1;
                    url = next;
                }
                401 if ours && replayable && !renewed => {
                    renewed = true;
                    let asked = challenges(&answer);
                    if insufficient(&asked) || (self.auth.is_basic() && asked.is_empty()) {
                        return Err(self.refusal(&call, &url, answer));
                    }
                    let _ = read_limited(&mut answer, MAX_ERROR);
                    self.auth.learn(asked);
                    self.auth.forget();
                }
                401 if ours => {
                    // A stream cannot be sent again from here: its owner does,
                    // and then finds a fresh token.
                    self.auth.learn(challenges(&answer));
                    self.auth.forget();
                    return Err(self.refusal(&call, &url, answer));
                }
                429 | 503 if replayable && waits < MAX_WAITS => match retry_after(&answer) {
                    Some(pause) if pause <= MAX_PATIENCE => {
                        waits += 1;
                        self.cancel().sleep(pause)?;
                    }
                    _ => return Err(self.refusal(&call, &url, answer)),
                },
                300..400 if idempotent && redirects == MAX_REDIRECTS => {
                    return Err(Fault::new(Class::Refused, format!("stopped after {MAX_REDIRECTS} redirects"))
                        .of_request(call.method, &call.url));
                }
                ..400 => return Ok(answer),
                _ => return Err(self.refusal(&call, &url, answer)),
            }
        }
    }

    fn once(&self, call: &Call<'_>, url: &Url, ours: bool, payload: Payload<'_>) -> Result<Response> {
        let mut headers = call.headers.clone();
        if ours {
            let scopes: Vec<String> = self.scopes.iter().chain(call.also).cloned().collect();
            let header = self
                .auth
                .header(&self.wire, &self.endpoint.base, &scopes)
                .map_err(|f| f.of_request(call.method, &call.url))?;
            headers.extend(header.map(|h| ("Authorization", h)));
        }
        let exchange = Exchange { method: call.method, url, headers: &headers, stall: call.stall };
        self.wire.exchange(&exchange, payload)
    }

    fn refusal(&self, call: &Call<'_>, url: &Url, mut answer: Response) -> Fault {
        let status = answer.status().as_u16();
        let asked = challenges(&answer);
        let pause = retry_after(&answer);
        let body =
            if call.method == "HEAD" { vec![] } else { read_limited(&mut answer, MAX_ERROR).unwrap_or_default() };
        let fault = from_status(status, pause, &body);
        if insufficient(&asked) {
            return Fault::new(Class::Denied, "denied: requested access to the resource is denied");
        }
        // A foreign host's answer names itself: the registry is not to blame.
        if url.same_origin(&self.endpoint.base) { fault } else { fault.of_request(call.method, url) }
    }

    /// What a tag stands for, without fetching it. None if the registry does
    /// not say (no digest header), so that GET must tell.
    pub fn head_manifest(&self, reference: &str) -> Result<Option<Headline>> {
        let answer = self.call(self.manifest_call("HEAD", reference))?;
        let media_type = media_type(&answer);
        let size = header(&answer, "Content-Length").and_then(|v| v.parse().ok()).unwrap_or(0);
        let digest = header(&answer, "Docker-Content-Digest").and_then(|d| d.parse().ok());
        Ok(digest.map(|digest| Headline { media_type, digest, size }))
    }

    /// Fetches a manifest by tag or digest; one that was asked for by digest has it.
    pub fn manifest(&self, reference: &str) -> Result<Fetched> {
        let mut answer = self.call(self.manifest_call("GET", reference))?;
        let media_type = media_type(&answer);
        let bytes = read_limited(&mut answer, MAX_MANIFEST + 1)?;
        if bytes.len() as u64 > MAX_MANIFEST {
            let message = format!("manifest {reference} is larger than {MAX_MANIFEST} bytes");
            return Err(Fault::new(Class::Corrupt, message));
        }
        let digest = Digest::of(&bytes);
        if let Ok(wanted) = reference.parse::<Digest>()
            && wanted != digest
        {
            let message = format!("manifest verification failed for digest {wanted}");
            return Err(Fault::new(Class::Corrupt, message).hint(format!("what came has the digest {digest}")));
        }
        Ok(Fetched { media_type, digest, bytes })
    }

    fn manifest_call(&self, method: &'static str, reference: &str) -> Call<'static> {
        let mut call = Call::new(method, self.repository_url(&format!("manifests/{reference}")));
        call.headers.push(("Accept", ACCEPT.join(", ")));
        call
    }

    pub fn put_manifest(&self, reference: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        let mut call = Call::new("PUT", self.repository_url(&format!("manifests/{reference}")));
        call.headers.push(("Content-Type", media_type.to_owned()));
        call.payload = Payload::Bytes(bytes);
        let mut answer = self.call(call)?;
        let _ = read_limited(&mut answer, MAX_ERROR);
        Ok(())
    }

    /// All tags, page by page (RFC 5988 `Link: <…>; rel="next"`).
    pub fn tags(&self) -> Result<Vec<String>> {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut url = self.repository_url("tags/list");
        let mut all = Vec::new();
        // A registry that links to itself for ever is cut off.
        for _ in 0..1000 {
            let mut answer = self.call(Call::new("GET", url.clone()))?;
            let next = header(&answer, "Link").and_then(next_link).and_then(|l| url.join(&l));
            let body = read_limited(&mut answer, MAX_MANIFEST)?;
            let page: Page =
                json::from_slice(&body).map_err(|e| Fault::new(Class::Refused, format!("unreadable tag list: {e}")))?;
            all.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) if next.same_origin(&self.endpoint.base) => url = next,
                _ => break,
            }
        }
        Ok(all)
    }
}

/// A stream goes once; everything else any number of times.
fn take<'a>(payload: &mut Payload<'a>) -> Payload<'a> {
    match payload {
        Payload::Bytes(bytes) => Payload::Bytes(bytes),
        _ => std::mem::replace(payload, Payload::None),
    }
}

pub fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name).and_then(|v| v.to_str().ok())
}

/// Without parameters, in lower case.
fn media_type(answer: &Response) -> String {
    let value = header(answer, "Content-Type").unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

fn challenges(answer: &Response) -> Vec<challenge::Challenge> {
    let values = answer.headers().get_all("WWW-Authenticate").iter();
    values.filter_map(|v| v.to_str().ok()).flat_map(challenge::parse).collect()
}

fn insufficient(challenges: &[challenge::Challenge]) -> bool {
    challenges.iter().any(|c| c.scheme == "bearer" && c.param("error") == "insufficient_scope")
}

/// Seconds only: the date form needs a clock that agrees with the server's.
fn retry_after(answer: &Response) -> Option<Duration> {
    header(answer, "Retry-After").and_then(|v| v.trim().parse().ok()).map(Duration::from_secs)
}

fn next_link(value: &str) -> Option<String> {
    let (url, params) = value.trim().strip_prefix('<')?.split_once('>')?;
    params.contains("next").then(|| url.to_owned())
}

pub fn read_limited(answer: &mut Response, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // ureq's own limit of 10 MB does not apply to a plain reader.
    answer.body_mut().as_reader().take(limit).read_to_end(&mut bytes).map_err(|e| io_fault(&e))?;
    Ok(bytes)
}
