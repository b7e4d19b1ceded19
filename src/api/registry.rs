//! Registries on the wire: credentials, search results, remote descriptors.

use crate::api::omit;
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Body of `POST /auth` and content of X-Registry-Auth.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    #[serde(skip_serializing_if = "omit")]
    pub username: String,
    #[serde(skip_serializing_if = "omit")]
    pub password: String,
    /// base64 of `username:password`, as config.json has it.
    #[serde(skip_serializing_if = "omit")]
    pub auth: String,
    #[serde(skip_serializing_if = "omit")]
    pub serveraddress: String,
    #[serde(skip_serializing_if = "omit")]
    pub identitytoken: String,
    #[serde(skip_serializing_if = "omit")]
    pub registrytoken: String,
}

/// Secrets stay out of logs.
impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthConfig({}@{})", self.username, self.serveraddress)
    }
}

/// Base64 as clients send it: either alphabet, padded or not.
fn lenient(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::URL_SAFE, config);
    let text: String = text
        .trim()
        .chars()
        .map(|c| match c {
            '+' => '-',
            '/' => '_',
            c => c,
        })
        .collect();
    engine.decode(text).ok()
}

impl AuthConfig {
    /// None if the header is malformed; what that means is the caller's choice.
    pub fn from_header(value: &str) -> Option<Self> {
        if value.trim().is_empty() {
            return Some(Self::default());
        }
        crate::api::decode::from_slice::<Self>(&lenient(value)?).ok().map(Self::split_auth)
    }

    /// `auth` fills in what `username` and `password` leave out.
    #[must_use]
    pub fn split_auth(mut self) -> Self {
        if self.username.is_empty()
            && !self.auth.is_empty()
            && let Some(Ok(pair)) = lenient(&self.auth).map(String::from_utf8)
            && let Some((user, password)) = pair.split_once(':')
        {
            user.clone_into(&mut self.username);
            password.trim_end_matches('\0').clone_into(&mut self.password);
        }
        self
    }
}

/// Answer of `POST /auth`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AuthReply {
    pub identity_token: String,
    pub status: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    pub star_count: i64,
    pub is_official: bool,
    pub name: String,
    pub is_automated: bool,
    pub description: String,
}

/// Answer of `GET /distribution/{name}/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DistributionInspect {
    pub descriptor: Descriptor,
    pub platforms: Vec<Platform>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "omit")]
    pub os_version: String,
    #[serde(rename = "os.features", skip_serializing_if = "omit")]
    pub os_features: Vec<String>,
    #[serde(skip_serializing_if = "omit")]
    pub variant: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_all_clients() {
        // {"username":"b?b","password":">>>"}: both alphabets differ in it.
        for header in [
            "eyJ1c2VybmFtZSI6ImI_YiIsInBhc3N3b3JkIjoiPj4-In0=",
            "eyJ1c2VybmFtZSI6ImI/YiIsInBhc3N3b3JkIjoiPj4+In0=",
            "eyJ1c2VybmFtZSI6ImI_YiIsInBhc3N3b3JkIjoiPj4-In0",
        ] {
            let auth = AuthConfig::from_header(header).unwrap();
            assert_eq!((auth.username.as_str(), auth.password.as_str()), ("b?b", ">>>"));
        }
        assert_eq!(AuthConfig::from_header("e30").unwrap(), AuthConfig::default());
        assert_eq!(AuthConfig::from_header("").unwrap(), AuthConfig::default());
        assert!(AuthConfig::from_header("%%%").is_none());
    }

    #[test]
    fn auth_is_split_and_hidden() {
        let auth = AuthConfig { auth: "Ym9iOnNlOmNyZXQ=".into(), ..AuthConfig::default() }.split_auth();
        assert_eq!((auth.username.as_str(), auth.password.as_str()), ("bob", "se:cret"));
        assert!(!format!("{auth:?}").contains("cret"));
    }
}
