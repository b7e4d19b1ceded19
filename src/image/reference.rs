//! Image references: `[domain/]path[:tag][@digest]`, exactly as Docker's
//! distribution grammar has them. Pure, any thread.
//!
//! Invariant: a `Reference` is normalised (`docker.io/library/` spelled out) and
//! valid; what people see is `familiar()`. The error texts are Docker's, since
//! clients and scripts match on them.

use super::digest::Digest;
use crate::error::{Error, Result};
use std::fmt;

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// A normalised name with an optional tag and an optional digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// What a user's word for an image may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyReference {
    Named(Reference),
    /// 64 hex digits, or `sha256:` and 64 hex digits.
    Id(Digest),
}

impl Reference {
    /// Docker's `ParseNormalizedNamed`.
    pub fn parse(s: &str) -> Result<Self> {
        if Digest::from_hex(s).is_some() {
            return Err(Error::invalid(format!(
                "invalid repository name ({s}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (domain, remainder) = split_domain(s);
        let name_end = remainder.find(':').unwrap_or(remainder.len());
        let name = &remainder[..name_end];
        if name.to_lowercase() != name {
            return Err(Error::invalid(format!(
                "invalid reference format: repository name ({name}) must be lowercase"
            )));
        }
        Self::parse_canonical(&domain, &remainder)
    }

    fn parse_canonical(domain: &str, remainder: &str) -> Result<Self> {
        let malformed = || Error::invalid("invalid reference format");
        let (rest, digest) = match remainder.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (remainder, None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if !is_domain(domain) || !is_path(path) || tag.is_some_and(|t| !is_tag(t)) {
            return Err(malformed());
        }
        if path.len() > NAME_MAX {
            return Err(Error::invalid(format!("repository name must not be more than {NAME_MAX} characters")));
        }
        let digest = match digest {
            Some(text) if !is_digest_shaped(text) => return Err(malformed()),
            Some(text) => Some(text.parse::<Digest>()?),
            None => None,
        };
        Ok(Self { domain: domain.into(), path: path.into(), tag: tag.map(Into::into), digest })
    }

    /// A name from its parts, checked.
    pub fn with(repository: &Reference, tag: Option<&str>, digest: Option<Digest>) -> Result<Self> {
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(Error::invalid("invalid tag format"));
        }
        Ok(Self { domain: repository.domain.clone(), path: repository.path.clone(), tag: tag.map(Into::into), digest })
    }

    /// The registry's host name, with its port: `docker.io`, `127.0.0.1:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }
    /// The repository inside the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }
    /// `docker.io/library/busybox`
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }
    /// Docker's `TagNameOnly`: adds `latest` where there is neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some("latest".into());
        }
        self
    }
    /// The repository alone.
    #[must_use]
    pub fn without_version(&self) -> Self {
        Self { domain: self.domain.clone(), path: self.path.clone(), tag: None, digest: None }
    }
    /// The form that names a local record: a digest outranks a tag.
    #[must_use]
    pub fn for_store(&self) -> Self {
        let mut r = self.clone();
        if r.digest.is_some() {
            r.tag = None;
        }
        r.or_latest()
    }
    #[must_use]
    pub fn with_tag(&self, tag: &str) -> Option<Self> {
        is_tag(tag).then(|| Self { tag: Some(tag.into()), ..self.without_version() })
    }
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.without_version() }
    }
    /// `busybox` for `docker.io/library/busybox`; what people see.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        let short = match self.path.strip_prefix(OFFICIAL) {
            Some(short) if !short.contains('/') => short,
            _ => &self.path,
        };
        // A namespace that looks like a registry: the short name would be another image's.
        let back = split_domain(short);
        if back.0 == self.domain && back.1 == self.path { short.to_owned() } else { self.name() }
    }
    /// `busybox:latest`, `busybox@sha256:…`
    pub fn familiar(&self) -> String {
        self.versioned(self.familiar_name())
    }

    fn versioned(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl fmt::Display for Reference {
    /// The normalised form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.versioned(self.name()))
    }
}

impl std::str::FromStr for Reference {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        Self::parse(s)
    }
}

impl AnyReference {
    /// Docker's `ParseAnyReference`.
    pub fn parse(s: &str) -> Result<Self> {
        if let Some(digest) = Digest::from_hex(s) {
            return Ok(Self::Id(digest));
        }
        if let Ok(digest) = s.parse() {
            return Ok(Self::Id(digest));
        }
        Reference::parse(s).map(Self::Named)
    }
}

/// Docker's `splitDockerDomain`: the first component is a registry only if it
/// cannot be a namespace of the default one.
fn split_domain(s: &str) -> (String, String) {
    let Some((first, rest)) = s.split_once('/') else {
        return (DEFAULT_DOMAIN.into(), format!("{OFFICIAL}{s}"));
    };
    let (domain, remote) = match first {
        "localhost" => (first, rest),
        LEGACY_DOMAIN => (DEFAULT_DOMAIN, rest),
        _ if first.contains(['.', ':']) || first.to_lowercase() != first => (first, rest),
        _ => (DEFAULT_DOMAIN, s),
    };
    if domain == DEFAULT_DOMAIN && !remote.contains('/') {
        return (domain.into(), format!("{OFFICIAL}{remote}"));
    }
    (domain.into(), remote.into())
}

/// Host name, IPv4 address or bracketed IPv6 address, with an optional port.
fn is_domain(s: &str) -> bool {
    let (host, port) = match s.strip_prefix('[') {
        Some(rest) => {
            let Some((address, rest)) = rest.split_once(']') else { return false };
            if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return false;
            }
            match rest.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if rest.is_empty() => (None, None),
                None => return false,
            }
        }
        None => match s.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(s), None),
        },
    };
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    host.is_none_or(|h| h.split('.').all(label))
        && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

fn is_path(s: &str) -> bool {
    s.split('/').all(is_component)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(s: &str) -> bool {
    let bytes = s.as_bytes();
    let mut i = 0;
    loop {
        let start = i;
        while i < bytes.len() && (bytes[i].is_ascii_lowercase() || bytes[i].is_ascii_digit()) {
            i += 1;
        }
        if i == start {
            return false;
        }
        if i == bytes.len() {
            return true;
        }
        let separator = i;
        while i < bytes.len() && matches!(bytes[i], b'.' | b'_' | b'-') {
            i += 1;
        }
        match &s[separator..i] {
            "." | "_" | "__" => {}
            dashes if !dashes.is_empty() && dashes.bytes().all(|b| b == b'-') => {}
            _ => return false,
        }
    }
}

/// `[\w][\w.-]{0,127}`
fn is_tag(s: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = s.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= TAG_MAX
        && word(bytes[0])
        && bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-')
}

/// What the grammar lets pass before the algorithm is looked at.
fn is_digest_shaped(s: &str) -> bool {
    let Some((algorithm, hex)) = s.split_once(':') else { return false };
    let part = |p: &str| {
        p.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) && p.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(part) && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn normalises_and_shortens() {
        for (given, full, familiar) in [
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
            ("index.docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
            ("a/b", "docker.io/a/b", "a/b"),
            ("localhost/a", "localhost/a", "localhost/a"),
            ("LOCAL/a", "LOCAL/a", "LOCAL/a"),
            ("127.0.0.1:5000/x:y", "127.0.0.1:5000/x:y", "127.0.0.1:5000/x:y"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("e/a__b.c---d", "docker.io/e/a__b.c---d", "e/a__b.c---d"),
            ("docker.io/evil.io/x", "docker.io/evil.io/x", "docker.io/evil.io/x"),
            ("docker.io/localhost/x", "docker.io/localhost/x", "docker.io/localhost/x"),
            ("docker.io/docker.io/x", "docker.io/docker.io/x", "docker.io/docker.io/x"),
        ] {
            let r = Reference::parse(given).unwrap();
            assert_eq!((r.to_string().as_str(), r.familiar().as_str()), (full, familiar), "{given}");
            assert_eq!(Reference::parse(&r.to_string()).unwrap(), r);
        }
        let both = format!("busybox:1@sha256:{HEX}");
        let r = Reference::parse(&both).unwrap();
        assert_eq!(r.familiar(), both);
        assert_eq!(r.for_store().familiar(), format!("busybox@sha256:{HEX}"));
        assert_eq!(Reference::parse("x").unwrap().or_latest().familiar(), "x:latest");
    }

    #[test]
    fn refuses_in_the_words_of_the_original() {
        let long = "a".repeat(300);
        for (given, text) in [
            ("", "invalid reference format"),
            (":x", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a@sha256:12", "invalid reference format"),
            ("Upper", "invalid reference format: repository name (library/Upper) must be lowercase"),
            ("Bad Name", "invalid reference format: repository name (library/Bad Name) must be lowercase"),
            (&long, "repository name must not be more than 255 characters"),
            (
                HEX,
                "invalid repository name (e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855), \
                 cannot specify 64-byte hexadecimal strings",
            ),
        ] {
            assert_eq!(Reference::parse(given).unwrap_err().message(), text, "{given}");
        }
        let md5 = format!("a@md5:{}", &HEX[..32]);
        assert_eq!(Reference::parse(&md5).unwrap_err().message(), "unsupported digest algorithm");
    }

    #[test]
    fn ids_are_not_names() {
        assert_eq!(AnyReference::parse(HEX).unwrap(), AnyReference::Id(Digest::of(b"")));
        assert_eq!(AnyReference::parse(&format!("sha256:{HEX}")).unwrap(), AnyReference::Id(Digest::of(b"")));
        assert!(matches!(AnyReference::parse("e3b0c4").unwrap(), AnyReference::Named(_)));
    }

    /// Random strings over the grammar's alphabet: never a panic, and whatever
    /// is accepted is a fixed point of printing and parsing.
    #[test]
    fn accepted_names_are_fixed_points() {
        const ALPHABET: &[u8] = b"aZ09._-:/@[]lh";
        let mut state = 0x2545_f491_4f6c_dd1du64;
        for _ in 0..200_000 {
            let mut s = String::new();
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let mut bits = state;
            for _ in 0..(state >> 59) % 16 {
                s.push(char::from(ALPHABET[(bits & 15) as usize % ALPHABET.len()]));
                bits >>= 4;
            }
            if let Ok(r) = Reference::parse(&s) {
                assert_eq!(Reference::parse(&r.to_string()).unwrap(), r, "{s}");
                assert_eq!(Reference::parse(&r.familiar()).unwrap(), r, "{s}");
            }
        }
    }
}
