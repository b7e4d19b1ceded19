//! Credentials and what they are turned into: a Basic header, or bearer tokens
//! from the service that the registry names. One per repository client; its
//! threads share it.
//!
//! Invariants: a token is fetched once however many layers wait for it; no
//! secret appears in a log, a Debug form or an error.

use super::challenge::Challenge;
use super::endpoint::is_insecure;
use super::fault::{Class, Fault, Result, from_status};
use super::transport::{Exchange, Payload, Response, Wire};
use super::url::{Scheme, Url};
use crate::image::digest::Digest;
use crate::util::json;
use crate::util::query;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What registries know Docker's own clients as, in token requests.
const CLIENT_ID: &str = "docker";
/// The specification's default when a token says nothing of its life.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
const MAX_ANSWER: u64 = 1 << 20;

/// As X-Registry-Auth carries them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    /// An OAuth2 refresh token, in place of the password.
    pub identity_token: String,
    /// A bearer token, used as it is.
    pub registry_token: String,
}

impl Credentials {
    fn is_secret(&self) -> bool {
        !self.password.is_empty() || !self.identity_token.is_empty()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.username)
    }
}

struct Token {
    value: String,
    good_until: Instant,
}

/// What a token service may answer (distribution spec, "Token"; OAuth2).
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Grant {
    token: String,
    access_token: String,
    refresh_token: String,
    expires_in: Option<f64>,
}

pub struct Authenticator {
    credentials: Credentials,
    challenges: Mutex<Vec<Challenge>>,
    tokens: Mutex<HashMap<String, Token>>,
}

impl Authenticator {
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials, challenges: Mutex::default(), tokens: Mutex::default() }
    }

    /// Differs between any two sets of credentials, and does not tell them.
    pub fn source(&self) -> Digest {
        let Credentials { username, password, identity_token, registry_token } = &self.credentials;
        let all = [username, password, identity_token, registry_token].map(|part| Digest::of(part.as_bytes()));
        Digest::of(format!("{all:?}").as_bytes())
    }

    /// Takes note of what the registry asks for.
    pub fn learn(&self, challenges: Vec<Challenge>) {
        if !challenges.is_empty() {
            *self.challenges.lock().unwrap_or_else(PoisonError::into_inner) = challenges;
        }
    }

    /// A token that was refused is not used again.
    pub fn forget(&self) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether the registry wants Basic, so that trying again is pointless.
    pub fn is_basic(&self) -> bool {
        self.challenge("bearer").is_none() && self.challenge("basic").is_some()
    }

    fn challenge(&self, scheme: &str) -> Option<Challenge> {
        let all = self.challenges.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|c| c.scheme == scheme).cloned()
    }

    /// The Authorization header for a request that needs `scopes`; None while
    /// the registry has not asked for one.
    pub fn header(&self, wire: &Wire, base: &Url, scopes: &[String]) -> Result<Option<String>> {
        if !self.credentials.registry_token.is_empty() {
            return Ok(Some(format!("Bearer {}", self.credentials.registry_token)));
        }
        if let Some(bearer) = self.challenge("bearer") {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            let key = scopes.join(" ");
            if let Some(token) = tokens.get(&key).filter(|t| Instant::now() < t.good_until) {
                return Ok(Some(format!("Bearer {}", token.value)));
            }
            let grant = self.request(wire, base, &bearer, scopes, false)?;
            let life = life(grant.expires_in);
            let value = pick(&grant);
            let header = format!("Bearer {value}");
            tokens.insert(key, Token { value, good_until: Instant::now() + life });
            return Ok(Some(header));
        }
        if self.challenge("basic").is_some() {
            return match self.basic() {
                Some(header) => Ok(Some(header)),
                None => Err(Fault::new(Class::NoCredentials, "no basic auth credentials")),
            };
        }
        Ok(None)
    }

    /// For `docker login`: a refresh token if the service hands one out, and
    /// the header that proves the credentials.
    pub fn login(&self, wire: &Wire, base: &Url) -> Result<(Option<String>, String)> {
        if let Some(bearer) = self.challenge("bearer") {
            let grant = self.request(wire, base, &bearer, &[], true)?;
            let header = format!("Bearer {}", pick(&grant));
            return Ok((Some(header), grant.refresh_token));
        }
        Ok((self.header(wire, base, &[])?, String::new()))
    }

    fn basic(&self) -> Option<String> {
        let c = &self.credentials;
        (!c.username.is_empty()).then(|| format!("Basic {}", STANDARD.encode(format!("{}:{}", c.username, c.password))))
    }

    fn request(&self, wire: &Wire, base: &Url, bearer: &Challenge, scopes: &[String], offline: bool) -> Result<Grant> {
        let realm = base
            .join(bearer.param("realm"))
            .filter(|_| !bearer.param("realm").is_empty())
            .ok_or_else(|| Fault::new(Class::Refused, "no realm specified for token auth challenge"))?;
        let bare = base.scheme == Scheme::Https && realm.scheme == Scheme::Http;
        if bare && self.credentials.is_secret() && !is_insecure(wire.settings(), &realm.authority) {
            let message = format!("the registry wants the credentials sent to {realm}, where anybody could read them");
            return Err(Fault::new(Class::Refused, message)
                .hint("a registry behind TLS must name a token service behind TLS; without a login nothing is sent"));
        }
        if !self.credentials.identity_token.is_empty() {
            let answer = self.post(wire, &realm, bearer.param("service"), scopes)?;
            // A service that knows GET alone.
            if !matches!(answer.status().as_u16(), 404 | 405) {
                return read_grant(answer);
            }
        }
        let mut url = realm;
        let user = &self.credentials.username;
        if !user.is_empty() {
            url.push_query("account", user);
        }
        if offline {
            url.push_query("client_id", CLIENT_ID);
            url.push_query("offline_token", "true");
        }
        for scope in scopes {
            url.push_query("scope", scope);
        }
        url.push_query("service", bearer.param("service"));
        let headers: Vec<(&'static str, String)> = self.basic().map(|b| ("Authorization", b)).into_iter().collect();
        let exchange = Exchange { method: "GET", url: &url, headers: &headers, stall: None };
        read_grant(wire.exchange(&exchange, Payload::None)?)
    }

    fn post(&self, wire: &Wire, realm: &Url, service: &str, scopes: &[String]) -> Result<Response> {
        let form = [
            ("grant_type", "refresh_token"),
            ("service", service),
            ("client_id", CLIENT_ID),
            ("scope", &scopes.join(" ")),
            ("refresh_token", &self.credentials.identity_token),
        ]
        .map(|(k, v)| format!("{k}={}", query::escape(v)))
        .join("&");
        let headers = [("Content-Type", "application/x-www-form-urlencoded".to_owned())];
        let exchange = Exchange { method: "POST", url: realm, headers: &headers, stall: None };
        wire.exchange(&exchange, Payload::Bytes(form.as_bytes()))
    }
}

fn pick(grant: &Grant) -> String {
    if grant.token.is_empty() { grant.access_token.clone() } else { grant.token.clone() }
}

/// A tenth is kept back for the way and for clocks that disagree.
fn life(expires_in: Option<f64>) -> Duration {
    let seconds = expires_in.filter(|s| s.is_finite() && *s > 0.0).unwrap_or(DEFAULT_LIFE.as_secs_f64());
    Duration::from_secs_f64(seconds.min(86_400.0) * 0.9)
}

fn read_grant(mut answer: Response) -> Result<Grant> {
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    answer
        .body_mut()
        .as_reader()
        .take(MAX_ANSWER)
        .read_to_end(&mut body)
        .map_err(|e| super::transport::io_fault(&e))?;
    if status != 200 {
        return Err(from_status(status, None, &body));
    }
    let grant: Grant = json::from_slice(&body)
        .map_err(|e| Fault::new(Class::Refused, format!("unable to decode token response: {e}")))?;
    if grant.token.is_empty() && grant.access_token.is_empty() {
        return Err(Fault::new(Class::Refused, "authorization server did not include a token in the response"));
    }
    Ok(grant)
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::Settings;
    use super::super::transport::Cancel;
    use super::*;
    use std::sync::Arc;

    #[test]
    fn secrets_do_not_print() {
        let c = Credentials { username: "bob".into(), password: "pw".into(), ..Credentials::default() };
        assert_eq!(format!("{c:?}"), "Credentials(bob)");
    }

    /// A service beside a registry behind TLS is told no password in the clear.
    #[test]
    fn passwords_do_not_leave_tls() {
        let ask = |base: &str, realm: &str, password: &str| {
            let settings = Settings { http_proxy: String::new(), https_proxy: String::new(), ..Settings::default() };
            let wire = Wire::new(Arc::new(settings), "r.invalid", true, Arc::new(Cancel::default())).unwrap();
            let credentials =
                Credentials { username: "bob".into(), password: password.into(), ..Credentials::default() };
            let auth = Authenticator::new(credentials);
            auth.learn(super::super::challenge::parse(&format!("Bearer realm=\"{realm}\",service=s")));
            auth.header(&wire, &Url::parse(base).unwrap(), &[]).unwrap_err()
        };
        let refused = |fault: Fault| fault.text().contains("where anybody could read them");
        assert!(refused(ask("https://r.invalid/", "http://token.invalid/", "secret")));
        assert!(refused(ask("https://r.invalid/", "HTTP://r.invalid/token", "secret")));
        // Nothing to lose, nothing lost before, or asked for by the user's own settings.
        assert!(!refused(ask("https://r.invalid/", "http://token.invalid/", "")));
        assert!(!refused(ask("http://r.invalid/", "http://token.invalid/", "secret")));
        assert!(!refused(ask("https://r.invalid/", "http://127.0.0.1:1/", "secret")));
    }

    #[test]
    fn lives() {
        assert_eq!(life(None), Duration::from_secs(54));
        assert_eq!(life(Some(300.0)), Duration::from_secs(270));
        assert_eq!(life(Some(-1.0)), Duration::from_secs(54));
        assert_eq!(life(Some(f64::INFINITY)), Duration::from_secs(54));
    }
}
