//! Manifests and indices of OCI and of Docker schema 2: descriptors, platform
//! choice, media types. Pure, any thread.

use super::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Annotations that `save` writes and `load` reads.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";
pub const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Marks an index entry that is no image but a statement about one.
const ANNOTATION_REFERENCE_TYPE: &str = "vnd.docker.reference.type";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    #[serde(default)]
    pub size: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: None,
            platform: None,
            artifact_type: None,
        }
    }
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
    /// Windows base layers: the bytes are elsewhere, by licence.
    pub fn is_foreign(&self) -> bool {
        self.media_type.contains(".foreign.") || self.media_type.contains(".nondistributable.")
    }
    /// A build attestation: an entry of an index that is no image.
    pub fn is_attestation(&self) -> bool {
        self.annotation(ANNOTATION_REFERENCE_TYPE).is_some()
    }
}

/// An image: a configuration and its layers, bottom first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A list of manifests, one per platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

impl Platform {
    /// What this program runs: `linux` and its own architecture.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", ""),
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            other => (other, ""),
        };
        Self { architecture: architecture.into(), os: "linux".into(), variant: variant.into(), ..Self::default() }
    }

    /// Reads `os`, `arch`, `os/arch` or `os/arch/variant`; what is missing is
    /// taken from the host. Aliases (`x86_64`, `aarch64`) are normalised.
    pub fn parse(s: &str) -> crate::error::Result<Self> {
        use crate::error::Error;
        let parts: Vec<&str> = s.split('/').collect();
        let bad =
            |p: &str| p.is_empty() || !p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if bad(parts[0]) || parts[0].contains('.') {
            return Err(Error::invalid(format!(
                "{:?} is an invalid OS component of {s:?}: OSAndVersion specifier component must match \"^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.-]*)\\\\))?$\": invalid argument",
                parts[0]
            )));
        }
        if let Some(part) = parts.iter().find(|p| bad(p)) {
            return Err(Error::invalid(format!(
                "{part:?} is an invalid component of {s:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
            )));
        }
        let host = Self::host();
        let platform = match parts.as_slice() {
            [one] if is_os(one) => Self { os: one.to_lowercase(), ..host },
            [one] if is_arch(one) => Self { architecture: (*one).into(), variant: String::new(), ..host },
            [_] => {
                return Err(Error::invalid(format!(
                    "{s:?}: unknown operating system or architecture: invalid argument"
                )));
            }
            [os, arch] => Self { os: os.to_lowercase(), architecture: (*arch).into(), ..Self::default() },
            [os, arch, variant] => Self {
                os: os.to_lowercase(),
                architecture: (*arch).into(),
                variant: (*variant).into(),
                ..Self::default()
            },
            _ => return Err(Error::invalid(format!("{s:?}: cannot parse platform specifier: invalid argument"))),
        };
        Ok(platform.normalised())
    }

    #[must_use]
    pub fn normalised(mut self) -> Self {
        self.architecture = self.architecture.to_lowercase();
        self.variant = self.variant.to_lowercase();
        let (architecture, variant) = match (self.architecture.as_str(), self.variant.as_str()) {
            ("x86_64" | "x86-64", v) | ("amd64", v) => ("amd64", if v == "v1" { "" } else { v }),
            ("i386", _) => ("386", ""),
            ("aarch64" | "arm64", v) => ("arm64", if matches!(v, "8" | "v8") { "" } else { v }),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (a, v) => (a, v),
        };
        let (architecture, variant) = (architecture.to_owned(), variant.to_owned());
        self.architecture = architecture;
        self.variant = variant;
        self
    }

    /// How well an image for `self` runs where `wanted` is asked for: lower is
    /// better, none is not at all. An arm/v7 machine runs v6 and v5; amd64 runs 386
    /// only when nothing else is there.
    pub fn rank(&self, wanted: &Platform) -> Option<u32> {
        let (have, want) = (self.clone().normalised(), wanted.clone().normalised());
        if have.os != want.os {
            return None;
        }
        let level = |v: &str| v.strip_prefix('v').and_then(|n| n.parse::<u32>().ok());
        if have.architecture == want.architecture {
            return match (level(&have.variant), level(&want.variant)) {
                _ if have.variant == want.variant => Some(0),
                (Some(h), Some(w)) if h <= w => Some(w - h),
                (None, Some(w)) if have.variant.is_empty() => Some(w + 1),
                (Some(8), None) if have.architecture == "arm64" => Some(0),
                _ => None,
            };
        }
        match (want.architecture.as_str(), have.architecture.as_str()) {
            ("arm64", "arm") => level(&have.variant).filter(|l| *l <= 8).map(|l| 100 + (8 - l)),
            ("amd64", "386") => Some(100),
            _ => None,
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

impl Index {
    /// The entry for `wanted`, attestations and unknown platforms left out. An
    /// entry without a platform is taken only if nothing else fits.
    pub fn choose(&self, wanted: &Platform) -> Option<&Descriptor> {
        let images = || self.manifests.iter().filter(|d| !d.is_attestation());
        let ranked = images().filter_map(|d| Some((d.platform.as_ref()?.rank(wanted)?, d)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, d)| d).or_else(|| images().find(|d| d.platform.is_none()))
    }

    /// The entry that stands for an index that is kept whole: the host's, else
    /// the first that Linux runs.
    pub fn main(&self) -> Option<&Descriptor> {
        let images = || self.manifests.iter().filter(|d| !d.is_attestation());
        let linux = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.os == "linux");
        self.choose(&Platform::host()).or_else(|| images().find(linux)).or_else(|| images().next())
    }
}

fn is_os(s: &str) -> bool {
    matches!(
        s.to_lowercase().as_str(),
        "aix"
            | "android"
            | "darwin"
            | "macos"
            | "dragonfly"
            | "freebsd"
            | "illumos"
            | "ios"
            | "linux"
            | "netbsd"
            | "openbsd"
            | "plan9"
            | "solaris"
            | "windows"
    )
}

fn is_arch(s: &str) -> bool {
    matches!(
        s.to_lowercase().as_str(),
        "386"
            | "i386"
            | "amd64"
            | "x86_64"
            | "x86-64"
            | "arm"
            | "armhf"
            | "armel"
            | "arm64"
            | "aarch64"
            | "loong64"
            | "mips"
            | "mipsle"
            | "mips64"
            | "mips64le"
            | "ppc64"
            | "ppc64le"
            | "riscv64"
            | "s390x"
            | "wasm"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_the_best_platform() {
        let entry = |p: &str| Descriptor {
            platform: Some(Platform::parse(p).unwrap()),
            ..Descriptor::new(OCI_MANIFEST, Digest::of(p.as_bytes()), 1)
        };
        let index = Index {
            schema_version: 2,
            media_type: OCI_INDEX.into(),
            manifests: ["linux/386", "linux/arm/v5", "linux/arm/v6", "linux/amd64", "linux/arm64"].map(entry).to_vec(),
            annotations: None,
        };
        let pick =
            |p: &str| index.choose(&Platform::parse(p).unwrap()).map(|d| d.platform.as_ref().unwrap().to_string());
        assert_eq!(pick("linux/amd64").as_deref(), Some("linux/amd64"));
        assert_eq!(pick("linux/arm/v7").as_deref(), Some("linux/arm/v6"));
        assert_eq!(pick("linux/aarch64/v8").as_deref(), Some("linux/arm64"));
        assert_eq!(pick("linux/riscv64"), None);
        assert_eq!(pick("windows/amd64"), None);
    }

    #[test]
    fn reads_platforms_as_people_write_them() {
        assert_eq!(Platform::parse("linux/x86_64").unwrap().to_string(), "linux/amd64");
        assert_eq!(Platform::parse("armhf").unwrap().to_string(), "linux/arm/v7");
        assert!(Platform::parse("").is_err());
        assert!(Platform::parse("nonsense").is_err());
        assert!(Platform::parse("a/b/c/d").is_err());
    }
}
