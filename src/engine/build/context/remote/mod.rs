//! What a build fetches itself: files behind URLs, git repositories, and whole
//! contexts from either. Runs on the threads of requests and stages.

pub mod http;

use super::Unpack;
use crate::engine::Engine;
use crate::engine::build::Abort;
use crate::engine::build::transfer::{Root, Target};
use crate::error::{Context as _, Error, Result};
use crate::storage::tree;
use crate::sys::fs as sysfs;
use crate::util::git::GitUrl;
use crate::util::ignore::Ignore;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// A Dockerfile behind a URL, with nothing beside it.
pub const ALONE: &str = "Dockerfile";

/// What a remote context turned out to be.
pub enum Fetched {
    Tree(Root),
    /// A Dockerfile alone.
    Dockerfile(Root),
}

/// Gets a context below `dir`, which is a folder of the build.
pub fn context(engine: &Engine, url: &str, dir: &Path, keep_git_dir: bool, abort: &Abort) -> Result<Fetched> {
    if let Some(git) = GitUrl::parse(url) {
        return Ok(Fetched::Tree(repository(&git, dir, keep_git_dir || git.keep_git_dir, abort)?.0));
    }
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Error::invalid(format!(
            "cannot use {url} as a build context: neither a folder, nor a URL of http or https, nor a git repository"
        )));
    }
    fs::create_dir_all(dir)?;
    let held = dir.join("download");
    fs::create_dir_all(&held)?;
    let mut got = http::download(engine, url, &held, abort)?;
    let root = dir.join("tree");
    fs::create_dir_all(&root)?;
    let fetched = if got.is_archive()? {
        got.file.seek(SeekFrom::Start(0))?;
        let cancelled = || abort.cancel.fired();
        let unpack = Unpack { dir, name: "tree", owners: false, cancelled: &cancelled };
        unpack.run(&mut got.file).map_err(|e| e.context(format_args!("Error processing tar file from {url}")))?;
        Fetched::Tree(open(&root, url)?)
    } else {
        got.file.seek(SeekFrom::Start(0))?;
        let mut head = vec![0; 8192];
        let n = got.file.read(&mut head)?;
        if head[..n].contains(&0) {
            return Err(Error::invalid(format!("{url} is neither an archive nor a Dockerfile")));
        }
        fs::rename(held.join(&got.name), root.join(ALONE)).context("take the Dockerfile")?;
        Fetched::Dockerfile(open(&root, url)?)
    };
    Ok(fetched)
}

fn open(path: &Path, name: &str) -> Result<Root> {
    let fd = File::open(path).with_context(|| format!("open {}", path.display()))?;
    Ok(Root { fd: Arc::new(fd.into()), name: name.into() })
}

/// One ref of a repository, or a folder of it; and when its commit was made (unix seconds).
pub fn repository(url: &GitUrl, dir: &Path, keep: bool, abort: &Abort) -> Result<(Root, i64)> {
    fs::create_dir_all(dir)?;
    let path = dir.join("repository");
    fs::create_dir_all(&path)?;
    let made =
        url.fetch(&path, &|| abort.cancel.fired()).map_err(|e| e.context(http::without_password(&url.remote)))?;
    let whole = open(&path, &http::without_password(&url.remote))?;
    if !keep {
        tree::remove(whole.fd.as_fd(), c".git")?;
    }
    let inside = url.subdir.trim_matches('/');
    if inside.is_empty() {
        return Ok((whole, made));
    }
    let target = Target { fd: Some(whole.fd.try_clone()?), workdir: "/".into() };
    let resolved = target.resolve(inside)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let name = CString::new(resolved.trim_start_matches('/'))?;
    let fd = sysfs::open_in(whole.fd.as_fd(), &name, flags, Mode::empty()).map_err(|_| {
        Error::not_found(format!("subdir not a directory: {inside} of {}", http::without_password(&url.remote)))
    })?;
    Ok((Root { fd: Arc::new(fd.into()), name: whole.name }, made))
}

/// Takes away what the context's own rules leave out: nobody has filtered it on
/// the way. The Dockerfile and the rules stay until they are read.
pub fn filter(root: &Root, rules: &Ignore, keep: &dyn Fn(&str) -> bool) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    // Lists and no recursion: a stranger's tree is as deep as a path is long.
    let (mut open, mut left_out) = (vec![String::new()], Vec::new());
    while let Some(path) = open.pop() {
        filter_folder(root, rules, keep, &path, &mut open, &mut left_out)?;
    }
    for path in left_out.iter().rev() {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        // Goes if nothing in it was brought back.
        let _ = nix::unistd::unlinkat(&root.open_dir(folder)?, name, nix::unistd::UnlinkatFlags::RemoveDir);
    }
    Ok(())
}

fn filter_folder(
    root: &Root,
    rules: &Ignore,
    keep: &dyn Fn(&str) -> bool,
    path: &str,
    open: &mut Vec<String>,
    left_out: &mut Vec<String>,
) -> Result<()> {
    let dir = root.open_dir(path)?;
    for (name, _) in tree::list(dir.as_fd())? {
        let Ok(text) = name.to_str() else { continue };
        let child = if path.is_empty() { text.to_owned() } else { format!("{path}/{text}") };
        let is_dir = root.open_dir(&child).is_ok() && root.read_link(&child).is_err();
        let stays = !rules.excludes(&child) || keep(&child);
        if !stays && !(is_dir && (rules.has_exceptions() || holds(&child, keep))) {
            tree::remove(dir.as_fd(), &name)?;
        } else if is_dir {
            if !stays {
                left_out.push(child.clone());
            }
            open.push(child);
        }
    }
    Ok(())
}

/// The Dockerfile may lie in a folder that is left out.
fn holds(folder: &str, keep: &dyn Fn(&str) -> bool) -> bool {
    keep(&format!("{folder}/"))
}
