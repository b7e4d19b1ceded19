//! The HTTP surface as data: method, pattern, handler; and the version prefix.

use crate::api::version::{self, Version};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::server::request::Request;
use crate::server::response::Response;
use std::sync::Arc;

pub type Handler = fn(&Arc<Engine>, &mut Request) -> Result<Response>;

/// One line of the API. `{name}` matches one path segment, `{name*}` matches
/// greedily with slashes (image references).
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub method: &'static str,
    pub pattern: &'static str,
    pub handler: Handler,
}

pub const fn route(method: &'static str, pattern: &'static str, handler: Handler) -> Route {
    Route { method, pattern, handler }
}

pub type Params = Vec<(&'static str, String)>;

/// The first route that fits, in table order.
pub fn find(tables: &[&'static [Route]], method: &str, path: &str) -> Option<(&'static Route, Params)> {
    tables
        .iter()
        .flat_map(|table| table.iter())
        .filter(|route| route.method == method)
        .find_map(|route| matches(route.pattern, path).map(|params| (route, params)))
}

/// The parameters of `pattern` in `path`, if it fits.
pub fn matches(pattern: &'static str, path: &str) -> Option<Params> {
    let mut params = Vec::new();
    let (mut pattern, mut path) = (pattern, path);
    loop {
        let Some(open) = pattern.find('{') else { return (pattern == path).then_some(params) };
        path = path.strip_prefix(&pattern[..open])?;
        let close = open + pattern[open..].find('}')?;
        let name = &pattern[open + 1..close];
        let rest = &pattern[close + 1..];
        let value = match name.strip_suffix('*') {
            Some(_) => path.strip_suffix(rest)?,
            None => &path[..path.find('/').unwrap_or(path.len())],
        };
        if value.is_empty() {
            return None;
        }
        params.push((name.trim_end_matches('*'), value.to_owned()));
        path = &path[value.len()..];
        pattern = rest;
    }
}

/// Splits `/v1.51/x` into its version text and `/x`.
pub fn split_version(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("/v") else { return (None, path) };
    match rest.find('/') {
        Some(end) if end > 0 && rest[..end].bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            (Some(&rest[..end]), &rest[end..])
        }
        _ => (None, path),
    }
}

/// The version a prefix asks for, in the original's words if it cannot be served.
pub fn requested(text: &str, minimum: Version) -> Result<Version> {
    let mut numbers = text.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let beyond = numbers.any(|n| n > 0);
    let top = u32::from(version::MAX.0);
    if major > 1 || (major == 1 && (minor > top || (minor == top && beyond))) {
        return Err(Error::invalid(format!(
            "client version {text} is too new. Maximum supported API version is {}",
            version::MAX
        )));
    }
    if major < 1 || minor < u32::from(minimum.0) {
        return Err(Error::invalid(format!(
            "client version {text} is too old. Minimum supported API version is {minimum}, please upgrade your client to a newer version"
        )));
    }
    Ok(Version(minor as u16))
}

/// Below 1.24 error bodies were plain text, and such clients read them as that.
pub fn is_ancient(text: &str) -> bool {
    let mut numbers = text.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (1, 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let get = |pattern, path| matches(pattern, path).map(|p| p.into_iter().map(|(_, v)| v).collect::<Vec<_>>());
        assert_eq!(get("/info", "/info"), Some(vec![]));
        assert_eq!(get("/info", "/info/"), None);
        assert_eq!(get("/containers/{id}/json", "/containers/a/json"), Some(vec!["a".into()]));
        assert_eq!(get("/containers/{id}/json", "/containers//json"), None);
        assert_eq!(get("/containers/{id}/json", "/containers/a/b/json"), None);
        assert_eq!(get("/images/{name*}/json", "/images/a/b:c/json"), Some(vec!["a/b:c".into()]));
        assert_eq!(get("/images/{name*}/json", "/images/json"), None);
        assert_eq!(get("/images/{name*}", "/images/a/b"), Some(vec!["a/b".into()]));
        assert_eq!(get("/c/{id}/x/{y}", "/c/1/x/2"), Some(vec!["1".into(), "2".into()]));
    }

    #[test]
    fn versions() {
        assert_eq!(split_version("/v1.51/info"), (Some("1.51"), "/info"));
        for path in ["/info", "/v1.51", "/volumes", "/v/x", "/vx/y"] {
            assert_eq!(split_version(path), (None, path));
        }
        assert_eq!(requested("1.40", version::MIN).unwrap(), Version(40));
        assert_eq!(
            requested("1.99", version::MIN).unwrap_err().to_string(),
            "client version 1.99 is too new. Maximum supported API version is 1.51"
        );
        assert!(requested("1.51.3", version::MIN).is_err() && requested("2.0", version::MIN).is_err());
        assert!(requested("1.23", version::MIN).unwrap_err().to_string().contains("too old"));
        assert!(is_ancient("1.12") && !is_ancient("1.24"));
    }
}
