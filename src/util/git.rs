//! Git repositories as sources of builds: which names mean one, and getting one
//! ref of it into a folder. Runs the host's `git` program (Debian's package
//! `git`); used by the client for contexts and by the daemon for ADD.
//!
//! Invariant: names come from strangers' Dockerfiles, so only network protocols
//! are allowed, nothing a repository holds is executed (no hooks, no filters of
//! its own), and no name or ref can be taken for an option.

use crate::error::{Context, Error, Kind, Result};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A repository, what of it, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitUrl {
    pub remote: String,
    /// Branch, tag or commit; empty for the default branch.
    pub reference: String,
    /// A folder of it that is meant instead of the whole.
    pub subdir: String,
    /// `?checksum=` or `?commit=`: what the ref must stand for.
    pub commit: String,
    pub keep_git_dir: bool,
}

impl GitUrl {
    /// None if the name is no repository's: a plain URL, a folder.
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
        let known = if base.starts_with("http://") || base.starts_with("https://") {
            base.ends_with(".git")
        } else {
            base.starts_with("git://") || base.starts_with("ssh://") || is_scp(base) || base.starts_with("github.com/")
        };
        if !known {
            return None;
        }
        let remote = if base.starts_with("github.com/") { format!("https://{base}") } else { base.to_owned() };
        let mut url = Self { remote, ..Self::default() };
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        (url.reference, url.subdir) = (reference.to_owned(), subdir.to_owned());
        for (key, value) in query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "true"))) {
            match key {
                "ref" | "branch" | "tag" => value.clone_into(&mut url.reference),
                "subdir" => value.clone_into(&mut url.subdir),
                "checksum" | "commit" => value.clone_into(&mut url.commit),
                "keep-git-dir" => url.keep_git_dir = matches!(value, "true" | "1"),
                _ => {}
            }
        }
        Some(url)
    }

    fn check(&self) -> Result<()> {
        for (what, text) in [("repository", &self.remote), ("ref", &self.reference), ("commit", &self.commit)] {
            if text.starts_with('-') || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return Err(Error::invalid(format!("invalid git {what} {text:?}")));
            }
        }
        if self.subdir.split('/').any(|part| part == ".." || part == ".git") {
            return Err(Error::invalid(format!("invalid folder {:?} of a git repository", self.subdir)));
        }
        Ok(())
    }

    /// Gets it into the empty folder `dir`; returns when its commit was made, in unix seconds.
    pub fn fetch(&self, dir: &Path, cancelled: &dyn Fn() -> bool) -> Result<i64> {
        self.check()?;
        let (remote, authorization) = without_secret(&self.remote);
        let git = Git { program: program()?, dir, cancelled, authorization };
        git.run(&["init", "-q", "."])?;
        git.run(&["remote", "add", "origin", &remote])?;
        let wanted = match (self.reference.as_str(), self.commit.as_str()) {
            ("", "") => "HEAD",
            ("", commit) => commit,
            (reference, _) => reference,
        };
        git.get(wanted)?;
        let shown = git.run(&["log", "-1", "--format=%H %ct"])?;
        let (commit, time) = shown.trim().split_once(' ').unwrap_or((shown.trim(), "0"));
        if !self.commit.is_empty() && !commit.starts_with(&self.commit) {
            return Err(Error::invalid(format!("expected checksum to match {}, got {commit}", self.commit)));
        }
        if dir.join(".gitmodules").is_file() {
            git.run(&["submodule", "update", "-q", "--init", "--recursive", "--depth=1"])?;
        }
        Ok(time.parse().unwrap_or(0))
    }
}

/// A remote without its user and password, and the configuration that says them to
/// its own host alone. Everybody reads a process's arguments, and git keeps the
/// remote in the repository, which may become a part of an image.
fn without_secret(remote: &str) -> (String, Option<(String, String)>) {
    use base64::Engine;
    let plain = (remote.to_owned(), None);
    let Some((scheme @ ("http" | "https"), rest)) = remote.split_once("://") else { return plain };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Some((secret, host)) = authority.rsplit_once('@') else { return plain };
    let (user, password) = secret.split_once(':').unwrap_or((secret, ""));
    let both = [&unescape(user)[..], b":", &unescape(password)].concat();
    let header = format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(both));
    (format!("{scheme}://{host}{path}"), Some((format!("http.{scheme}://{host}/.extraHeader"), header)))
}

/// `%41` → `A`; what is no escape stays.
fn unescape(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|d| *first == b'%' && d.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// `user@host:path`, as ssh and scp have it.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    plain(user) && rest.split_once(':').is_some_and(|(host, path)| plain(host) && !path.is_empty())
}

fn is_hash(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The host's git, or what to do about its absence.
pub fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|dir| dir.join("git")).find(|p| p.is_file()).ok_or_else(|| {
        Error::unavailable("a git repository is needed, and there is no git program on this host")
            .with_hint("install it with: sudo apt-get install git")
    })
}

struct Git<'a> {
    program: PathBuf,
    dir: &'a Path,
    cancelled: &'a dyn Fn() -> bool,
    /// Key and value of git's configuration, told by the environment, which only
    /// this user can read.
    authorization: Option<(String, String)>,
}

impl Git<'_> {
    /// One commit where the server can do that, else its history, else all of it.
    fn get(&self, wanted: &str) -> Result<()> {
        let tries: [&[&str]; 2] = [&["--depth=1"], &[]];
        let mut first = None;
        for extra in tries {
            let args = [&["fetch", "-q", "--no-tags"], extra, &["origin", "--", wanted]].concat();
            match self.run(&args) {
                Err(e) if e.kind() == Kind::Cancelled => return Err(e),
                Err(e) => drop(first.get_or_insert(e)),
                Ok(_) => return self.run(&["checkout", "-q", "--detach", "FETCH_HEAD"]).map(drop),
            }
        }
        // Not every server gives a bare commit.
        if is_hash(wanted) {
            self.run(&["fetch", "-q", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"])?;
            let commit = format!("{wanted}^{{commit}}");
            if self.run(&["rev-parse", "-q", "--verify", &commit]).is_ok() {
                return self.run(&["checkout", "-q", "--detach", wanted]).map(drop);
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        for (key, _) in std::env::vars_os().filter(|(k, _)| k.to_string_lossy().starts_with("GIT_")) {
            command.env_remove(key);
        }
        if let Some((key, value)) = &self.authorization {
            command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", key).env("GIT_CONFIG_VALUE_0", value);
        }
        let child = command
            .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "init.defaultBranch=main"])
            .args(["-c", "advice.detachedHead=false", "-c", "core.autocrlf=false", "-c", "gc.auto=0"])
            .args(args)
            .current_dir(self.dir)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", "http:https:git:ssh")
            .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
            .env("GIT_DIR", self.dir.join(".git"))
            .env("GIT_WORK_TREE", self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("run {}", self.program.display()))?;
        self.finish(child, args.first().copied().unwrap_or_default())
    }

    fn finish(&self, mut child: Child, verb: &str) -> Result<String> {
        let drain = |stream: Option<Box<dyn Read + Send>>| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                // 1 MiB of complaints is enough; the rest is read and dropped.
                if let Some(mut stream) = stream {
                    let _ = stream.by_ref().take(1 << 20).read_to_end(&mut text);
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                }
                String::from_utf8_lossy(&text).into_owned()
            })
        };
        let out = drain(child.stdout.take().map(|s| Box::new(s) as _));
        let err = drain(child.stderr.take().map(|s| Box::new(s) as _));
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if (self.cancelled)() {
                let group = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
                let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
                let _ = child.wait();
                return Err(Error::cancelled());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
        if status.success() {
            return Ok(out);
        }
        let last = err.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("no word why");
        Err(Error::system(format!("git {verb}: {}", last.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let all = |text: &str| GitUrl::parse(text).map(|g| (g.remote, g.reference, g.subdir));
        let s = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(all("https://h/r.git"), s("https://h/r.git", "", ""));
        assert_eq!(all("https://h/r.git#v1:sub/dir"), s("https://h/r.git", "v1", "sub/dir"));
        assert_eq!(all("https://h/r.git#:sub"), s("https://h/r.git", "", "sub"));
        assert_eq!(all("https://h/r.git?ref=v2&subdir=d"), s("https://h/r.git", "v2", "d"));
        assert_eq!(all("git@github.com:a/b"), s("git@github.com:a/b", "", ""));
        assert_eq!(all("github.com/a/b#x"), s("https://github.com/a/b", "x", ""));
        assert_eq!(all("ssh://git@h/r"), s("ssh://git@h/r", "", ""));
        for text in ["https://h/file.tar.gz", "folder", "user@host", "./a:b@c:d", "https://h/r.git/file"] {
            assert_eq!(all(text), None, "{text}");
        }
    }

    #[test]
    fn no_password_in_what_others_see() {
        let (remote, told) = without_secret("https://us%40er:p%3Aw@h:8/r.git");
        assert_eq!(remote, "https://h:8/r.git");
        let (key, value) = told.unwrap();
        // "us@er:p:w"
        assert_eq!(
            (key.as_str(), value.as_str()),
            ("http.https://h:8/.extraHeader", "Authorization: Basic dXNAZXI6cDp3")
        );
        assert_eq!(without_secret("https://token@h/r").1.unwrap().1, "Authorization: Basic dG9rZW46");
        for plain in ["https://h/r@x.git", "git@h:r", "ssh://git@h/r", "git://h/r"] {
            assert_eq!(without_secret(plain), (plain.to_owned(), None));
        }
        assert_eq!(unescape("%4%zz%+1%"), b"%4%zz%+1%");
    }

    #[test]
    fn nothing_becomes_an_option() {
        for text in ["https://h/r.git#--upload-pack=x", "https://h/r.git#a b", "https://h/r.git#x:../up"] {
            let dir = std::env::temp_dir();
            assert!(GitUrl::parse(text).unwrap().fetch(&dir, &|| false).is_err(), "{text}");
        }
    }
}
