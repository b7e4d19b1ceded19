//! Paths as text: nothing here looks at a file system, so nothing here decides what
//! a path leads to.

/// Without doubled slashes, `.` and what `..` takes back, as Go's `path.Clean`;
/// "." for nothing left.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

/// The same of a path that is meant from the root, with or without a slash in front.
pub fn absolute(path: &str) -> String {
    clean(&format!("/{path}"))
}

/// `cleaned` with the trailing `/` or `/.` that `given` had: to `docker cp` both
/// mean the contents of a directory.
pub fn with_end(given: &str, cleaned: String) -> String {
    let bare = given.trim_end_matches('/');
    let dot = bare == "." || bare.ends_with("/.");
    match () {
        () if dot && cleaned == "/" => "/.".into(),
        () if dot => format!("{cleaned}/."),
        () if given.ends_with('/') && cleaned != "/" => format!("{cleaned}/"),
        () => cleaned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_slashes_go() {
        assert_eq!(clean("a/./b/../../.."), "..");
        assert_eq!(clean("a//b/"), "a/b");
        assert_eq!((clean("").as_str(), clean("a/..").as_str(), clean("/..").as_str()), (".", ".", "/"));
        assert_eq!(absolute("a//b/../c/."), "/a/c");
        assert_eq!(absolute("/a/./b/../c//d"), "/a/c/d");
        assert_eq!(absolute("/.."), "/");
    }
}
