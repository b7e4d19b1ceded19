//! What `docker cp` means by its two paths, and the tar streams between: packing
//! files of this machine, unpacking what came from a container.

pub mod pack;
pub mod unpack;

use crate::error::{Error, Result};
use crate::util::path;

/// Where a copy goes, in terms of the folder that is unpacked into.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// The folder, which exists.
    pub dir: String,
    /// What the copied thing is called there, in place of its own name.
    pub rename: Option<String>,
}

/// What is known of the destination.
#[derive(Debug, Clone, Default)]
pub struct Destination {
    pub path: String,
    pub exists: bool,
    pub is_dir: bool,
}

/// A path that says itself that it is a folder: `x/`, `x/.`.
fn asserts_dir(path: &str) -> bool {
    path.ends_with('/') || path == "." || path.ends_with("/.")
}

/// Folder and last part; `x/.` has the last part `.`.
pub fn split(path: &str) -> (String, String) {
    let dot = path == "." || path.ends_with("/.");
    let clean = path::clean(path);
    if dot {
        return (clean, ".".into());
    }
    match clean.rsplit_once('/') {
        Some(("", name)) => ("/".into(), if name.is_empty() { "/".into() } else { name.into() }),
        Some((dir, name)) => (dir.into(), name.into()),
        None => (".".into(), clean),
    }
}

/// Docker's table of what becomes of SRC at DEST; `source` is the source as given.
pub fn target(source: &str, source_is_dir: bool, to: &Destination) -> Result<Target> {
    let (dir, name) = split(&to.path);
    let renamed = |dir: String, name: String| Target { dir, rename: Some(name) };
    if to.exists && to.is_dir {
        return Ok(Target { dir: to.path.clone(), rename: None });
    }
    if to.exists && source_is_dir {
        return Err(Error::invalid("cannot copy directory"));
    }
    if to.exists && asserts_dir(&to.path) {
        return Err(Error::invalid("not a directory"));
    }
    if !to.exists && !source_is_dir && asserts_dir(&to.path) {
        return Err(Error::invalid("no such directory"));
    }
    let _ = source;
    // `x/.` names the folder x itself, which is to be made.
    let (dir, name) = if name == "." { split(&dir) } else { (dir, name) };
    Ok(renamed(dir, name))
}

/// The name of an entry once its first part is called otherwise.
pub fn rebase(entry: &str, old: &str, new: &str) -> String {
    let bare = entry.trim_start_matches("./");
    if old == "." || old == "/" {
        return if bare.is_empty() || bare == "." {
            new.to_owned()
        } else {
            format!("{new}/{}", bare.trim_start_matches('/'))
        };
    }
    match entry.strip_prefix(old) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{new}{rest}"),
        _ => entry.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(split("/a/b"), ("/a".into(), "b".into()));
        assert_eq!(split("/a/b/"), ("/a".into(), "b".into()));
        assert_eq!(split("/a/b/."), ("/a/b".into(), ".".into()));
        assert_eq!(split("x"), (".".into(), "x".into()));
        assert_eq!(split("/x"), ("/".into(), "x".into()));
        assert_eq!(rebase("etc/passwd", "etc", "new"), "new/passwd");
        assert_eq!(rebase("./a", ".", "new"), "new/a");
        assert_eq!(rebase("etcetera", "etc", "new"), "etcetera");
    }

    #[test]
    fn table() {
        let to = |path: &str, exists, is_dir| Destination { path: path.into(), exists, is_dir };
        let got = |t: Result<Target>| t.map(|t| (t.dir, t.rename)).map_err(|e| e.message().to_owned());
        assert_eq!(got(target("/d", true, &to("/x", true, true))), Ok(("/x".into(), None)));
        assert_eq!(got(target("/d", true, &to("/x", true, false))), Err("cannot copy directory".into()));
        assert_eq!(got(target("/d", true, &to("/x/new", false, false))), Ok(("/x".into(), Some("new".into()))));
        assert_eq!(got(target("/f", false, &to("/x/new/", false, false))), Err("no such directory".into()));
        assert_eq!(got(target("/f", false, &to("/etc/passwd/", true, false))), Err("not a directory".into()));
        assert_eq!(got(target("/f", false, &to("/x/f2", true, false))), Ok(("/x".into(), Some("f2".into()))));
    }
}
