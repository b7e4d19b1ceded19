//! Verbs on images, one file each.

pub mod build;
pub mod history;
pub mod import;
pub mod inspect;
pub mod load;
pub mod ls;
pub mod prune;
pub mod pull;
pub mod push;
pub mod rm;
pub mod save;
pub mod tag;
pub mod tree;

use crate::error::{Context as _, Error, Result};
use std::fs::File;

/// `--platform` as the API takes it: a JSON object.
pub fn platform(given: Option<&str>) -> Result<Option<String>> {
    let Some(text) = given.filter(|t| !t.is_empty()) else { return Ok(None) };
    let parts: Vec<String> = text.split('/').map(str::to_lowercase).collect();
    let valid = |p: &String| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.()".contains(&b));
    if parts.len() > 3 || !parts.iter().all(valid) {
        return Err(Error::invalid(format!("invalid platform: {text:?} is an invalid component")));
    }
    let (os, architecture, variant) = match parts.as_slice() {
        [os, arch] => (os.as_str(), arch.as_str(), ""),
        [os, arch, variant] => (os.as_str(), arch.as_str(), variant.as_str()),
        [one] if matches!(one.as_str(), "linux" | "windows" | "darwin" | "freebsd") => (one.as_str(), host_arch(), ""),
        [one] => ("linux", one.as_str(), ""),
        _ => ("linux", host_arch(), ""),
    };
    let (architecture, variant) = match (architecture, variant) {
        ("x86_64" | "x86-64", v) => ("amd64", v),
        ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
        ("aarch64", v) => ("arm64", v),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        other => other,
    };
    let mut value = serde_json::json!({ "architecture": architecture, "os": os });
    if !variant.is_empty() {
        value["variant"] = variant.into();
    }
    Ok(Some(value.to_string()))
}

/// Each of `--platform`.
pub fn platforms(given: &[String]) -> Result<Vec<String>> {
    let each = given.iter().flat_map(|p| p.split(','));
    each.filter_map(|p| platform(Some(p)).transpose()).collect()
}

/// Our architecture by its name in images.
pub fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// An archive that the user named.
fn open(path: &str) -> Result<File> {
    File::open(path).with_context(|| format!("open {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_forms() {
        let read = |t: &str| platform(Some(t)).map(Option::unwrap);
        assert_eq!(read("linux/arm64/v8").unwrap(), r#"{"architecture":"arm64","os":"linux"}"#);
        assert_eq!(read("linux/arm/v6").unwrap(), r#"{"architecture":"arm","os":"linux","variant":"v6"}"#);
        assert_eq!(read("x86_64").unwrap(), r#"{"architecture":"amd64","os":"linux"}"#);
        assert!(read("a/b/c/d").is_err() && read("linux/").is_err());
        assert_eq!(platform(None).unwrap(), None);
    }
}
