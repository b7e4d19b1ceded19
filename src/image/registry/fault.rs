//! What went wrong at a registry: the class that decides what to do next, and
//! Docker's words for it. Pure.
//!
//! Invariant: retry and fall-back decisions look at [`Class`], never at text.

use crate::error::{Error, Kind};
use crate::util::json;
use std::time::Duration;

pub type Result<T> = std::result::Result<T, Fault>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// No connection came about: another endpoint may do.
    Dial,
    /// The connection broke or stalled: another try may do.
    Link,
    /// The peer's certificate or protocol is not acceptable.
    Tls,
    /// 401 in spite of all credentials we have.
    Unauthorized,
    /// There is nothing to authenticate with.
    NoCredentials,
    Denied,
    NameUnknown,
    ManifestUnknown,
    /// Any other "not here": a blob, an upload session.
    Absent,
    /// 429, with the server's Retry-After.
    Limited(Option<Duration>),
    /// 5xx.
    Server,
    /// Any other refusal.
    Refused,
    /// What came is not what was asked for.
    Corrupt,
    /// Something of our own failed (memory, permissions): no retry helps.
    Local,
    /// The disk is full.
    NoSpace,
    Cancelled,
}

#[derive(Debug)]
pub struct Fault {
    pub class: Class,
    /// `Get "https://…"`, if the failure belongs to one request as a whole.
    pub request: Option<String>,
    pub message: String,
    pub hint: Option<String>,
}

impl Fault {
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, request: None, message: message.into(), hint: None }
    }
    pub fn cancelled() -> Self {
        Self::new(Class::Cancelled, "context canceled")
    }
    #[must_use]
    pub fn of_request(mut self, method: &str, url: &impl std::fmt::Display) -> Self {
        self.request.get_or_insert_with(|| format!("{} \"{url}\"", title(method)));
        self
    }
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Worth another try at the same place.
    pub fn transient(&self) -> bool {
        matches!(self.class, Class::Dial | Class::Link | Class::Server | Class::Limited(_))
    }
    /// A later pull may go on where this one stopped.
    pub fn resumable(&self) -> bool {
        self.transient() || self.class == Class::Cancelled
    }
    pub fn text(&self) -> String {
        match &self.request {
            Some(request) => format!("{request}: {}", self.message),
            None => self.message.clone(),
        }
    }
    fn kind(&self) -> Kind {
        match self.class {
            Class::Unauthorized => Kind::Unauthorized,
            Class::Denied => Kind::Forbidden,
            Class::NameUnknown | Class::ManifestUnknown | Class::Absent => Kind::NotFound,
            Class::Cancelled => Kind::Cancelled,
            _ => Kind::System,
        }
    }
    /// Docker's sentences about an image that cannot be pulled.
    pub fn for_pull(self, familiar_name: &str, familiar: &str) -> Error {
        let text = self.text();
        let message = match self.class {
            Class::Denied => format!(
                "pull access denied for {familiar_name}, repository does not exist or may require 'docker login': {text}"
            ),
            Class::ManifestUnknown => format!("manifest for {familiar} not found: {text}"),
            Class::NameUnknown => format!("repository {familiar_name} not found: {text}"),
            _ => return self.into(),
        };
        Error::not_found(message)
    }
}

impl From<Fault> for Error {
    fn from(f: Fault) -> Self {
        let error = Error::new(f.kind(), f.text());
        match f.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        let class = match e.kind() {
            Kind::Cancelled => Class::Cancelled,
            _ if e.is_no_space() => Class::NoSpace,
            _ => Class::Local,
        };
        Self { class, request: None, message: e.message().to_owned(), hint: e.hint().map(str::to_owned) }
    }
}

/// `GET` as Go's url.Error writes it: `Get`.
fn title(method: &str) -> String {
    let mut chars = method.chars();
    chars.next().map_or_else(String::new, |c| c.to_string() + &chars.as_str().to_ascii_lowercase())
}

/// One entry of the `errors` array (distribution spec, "Error Codes").
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Entry {
    code: String,
    message: String,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Document {
    errors: Vec<Entry>,
    details: String,
}

/// The fault that an answer with an error status stands for.
pub fn from_status(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Fault {
    let document: Document = json::from_slice(body).unwrap_or_default();
    if let Some(first) = document.errors.first() {
        let code = first.code.to_ascii_lowercase().replace('_', " ");
        let message = format!("{code}: {}", first.message);
        return Fault::new(class_of(&first.code, status, retry_after), message);
    }
    let class = match status {
        429 => Class::Limited(retry_after),
        500.. => Class::Server,
        _ => class_of("", status, retry_after),
    };
    let message = match (status, document.details.as_str()) {
        (401, "") => "unauthorized: authentication required".to_owned(),
        (401, details) => format!("unauthorized: {details}"),
        (403, "") => "denied: requested access to the resource is denied".to_owned(),
        (429, _) => "toomanyrequests: too many requests".to_owned(),
        (404, _) if body.is_empty() => "received unexpected HTTP status: 404 Not Found".to_owned(),
        _ => format!("received unexpected HTTP status: {status} {}", reason(status)),
    };
    Fault::new(class, message.trim_end().to_owned())
}

fn class_of(code: &str, status: u16, retry_after: Option<Duration>) -> Class {
    match (code, status) {
        ("UNAUTHORIZED", _) => Class::Unauthorized,
        ("DENIED", _) => Class::Denied,
        ("NAME_UNKNOWN", _) => Class::NameUnknown,
        ("MANIFEST_UNKNOWN", _) => Class::ManifestUnknown,
        ("TOOMANYREQUESTS", _) | (_, 429) => Class::Limited(retry_after),
        ("BLOB_UNKNOWN" | "BLOB_UPLOAD_UNKNOWN", _) | (_, 404) => Class::Absent,
        (_, 401) => Class::Unauthorized,
        (_, 403) => Class::Denied,
        (_, 500..) => Class::Server,
        _ => Class::Refused,
    }
}

pub fn reason(status: u16) -> &'static str {
    ureq::http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_docker() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#;
        let f = from_status(404, None, body);
        assert_eq!(f.class, Class::ManifestUnknown);
        assert_eq!(
            f.for_pull("r:5000/x", "r:5000/x:latest").message(),
            "manifest for r:5000/x:latest not found: manifest unknown: manifest unknown"
        );
        let body = br#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
        let e = from_status(401, None, body).for_pull("x", "x:latest");
        assert_eq!(e.kind(), Kind::NotFound);
        assert_eq!(
            e.message(),
            "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"
        );
    }

    #[test]
    fn odd_bodies() {
        assert_eq!(from_status(502, None, b"<html>").message, "received unexpected HTTP status: 502 Bad Gateway");
        assert_eq!(from_status(502, None, b"<html>").class, Class::Server);
        assert_eq!(from_status(401, None, b"").message, "unauthorized: authentication required");
        assert!(matches!(from_status(429, Some(Duration::from_secs(1)), b"").class, Class::Limited(Some(_))));
        assert_eq!(from_status(404, None, b"{\"errors\":[]}").class, Class::Absent);
        assert_eq!(from_status(418, None, b"{\"errors\":null}").class, Class::Refused);
    }

    #[test]
    fn requests() {
        let f = Fault::new(Class::Link, "EOF").of_request("GET", &"https://r/v2/").of_request("HEAD", &"x");
        assert_eq!(f.text(), "Get \"https://r/v2/\": EOF");
    }
}
