//! Container paths as `docker cp` means them: always absolute, a trailing `/` or
//! `/.` kept because it has a meaning. Pure.

use crate::util::path;

/// The cleaned absolute path with its trailing `/` or `/.`.
pub fn absolute(path: &str) -> String {
    path::with_end(path, path::absolute(path))
}

/// The last component: of `/a/b/` it is `b`, of `/a/.` it is `.`, of `/` itself.
pub fn base(absolute: &str) -> &str {
    let trimmed = absolute.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some("") | None => "/",
        Some(name) => name,
    }
}

/// A final symlink is followed where the path insists on a directory.
pub fn follows(absolute: &str) -> bool {
    absolute.ends_with('/') || absolute.ends_with("/.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_marks_stay() {
        for (given, expected, name) in [
            ("etc", "/etc", "etc"),
            ("/etc/", "/etc/", "etc"),
            ("/etc/.", "/etc/.", "."),
            ("/", "/", "/"),
            ("../x/./y", "/x/y", "y"),
            ("", "/", "/"),
        ] {
            let path = absolute(given);
            assert_eq!((path.as_str(), base(&path)), (expected, name), "{given}");
        }
    }
}
