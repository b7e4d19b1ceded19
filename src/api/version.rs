//! The range of API versions and what a request's version is.

/// `major.minor`; major is always 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16);

pub const MAX: Version = Version(51);
pub const MIN: Version = Version(24);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// The release of the original whose behaviour this engine has, with our own
/// behind it: tools compare the front part.
pub const PRODUCT: &str = concat!("28.5.2+coracle", env!("CARGO_PKG_VERSION"));
/// Of the sources, when the build knew it.
pub const COMMIT: &str = match option_env!("CORACLE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
/// RFC 3339, when the build knew it.
pub const BUILD_TIME: &str = match option_env!("CORACLE_BUILD_TIME") {
    Some(time) => time,
    None => "",
};
