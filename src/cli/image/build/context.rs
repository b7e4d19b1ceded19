//! The build context as the daemon gets it: one tar, filtered by
//! `.dockerignore`, written by a thread of its own while the request is sent.
//!
//! Invariant: nothing outside the context's folder is read, symbolic links are
//! sent as links, and owners are dropped: builds must not depend on who builds.

use super::listing::{self, Listed};
use crate::api::build::NamedContext;
use crate::client::Client;
use crate::error::{Context, Error, Result};
use crate::util::git::GitUrl;
use crate::util::ignore::Ignore;
use crate::util::order;
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the context comes from.
pub(super) struct Source {
    kind: Kind,
    /// Relative to the context, as the daemon is told.
    pub(super) dockerfile: String,
    pub(super) remote: Option<String>,
    pub(super) named: BTreeMap<String, NamedContext>,
    /// A Dockerfile that lies outside the context or came by stdin.
    extra: Option<Vec<u8>>,
    /// Folders of `--build-context`, with the prefix they get in the tar.
    folders: Vec<(String, PathBuf)>,
    /// Removed when the context has been sent.
    checkout: Option<Checkout>,
    /// The daemon has a part of the folder.
    listed: Option<Listed>,
}

enum Kind {
    Folder(PathBuf),
    /// A tar on stdin, first bytes already read.
    Stream(Vec<u8>),
    Empty,
}

/// A name that no project has, for a Dockerfile that is no part of the context.
const EXTRA: &str = ".coracle-dockerfile";

/// Looks at PATH, URL or `-` and at `-f`.
pub(super) fn open(context: &str, file: Option<&str>) -> Result<Source> {
    let source = |kind| Source {
        kind,
        dockerfile: String::new(),
        remote: None,
        named: BTreeMap::new(),
        extra: None,
        folders: Vec::new(),
        checkout: None,
        listed: None,
    };
    if context == "-" {
        if file == Some("-") {
            return Err(Error::invalid("invalid argument: can't use stdin for both build context and dockerfile"));
        }
        return stdin(source(Kind::Empty), file);
    }
    if is_remote(context) {
        return remote(source(Kind::Empty), context, file);
    }
    let root = fs::canonicalize(context).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::not_found(format!("unable to prepare context: path {context:?} not found"))
        }
        _ => Error::from(e).context(format_args!("unable to prepare context: {context:?}")),
    })?;
    if !root.is_dir() {
        return Err(Error::invalid(format!(
            "unable to prepare context: context must be a directory: {}",
            root.display()
        )));
    }
    let mut found = source(Kind::Folder(root.clone()));
    match file {
        Some("-") => found.dockerfile_from_stdin()?,
        // The daemon gets it.
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => found.dockerfile = url.to_owned(),
        Some(path) => found.dockerfile_at(&root, path)?,
        None => {
            let lower = !root.join("Dockerfile").exists() && root.join("dockerfile").exists();
            found.dockerfile = if lower { "dockerfile" } else { "Dockerfile" }.into();
            let path = root.join(&found.dockerfile);
            if !path.exists() {
                return Err(no_dockerfile(&path.display().to_string(), "no such file or directory"));
            }
        }
    }
    Ok(found)
}

fn no_dockerfile(path: &str, why: &str) -> Error {
    Error::invalid(format!(
        "unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {path}: {why}"
    ))
}

/// A URL is the daemon's to fetch; but only here are the keys that a repository
/// behind ssh asks for.
fn remote(mut source: Source, context: &str, file: Option<&str>) -> Result<Source> {
    match GitUrl::parse(context) {
        Some(git) if !git.remote.contains("://") || git.remote.starts_with("ssh://") => {
            let checkout = Checkout::new(&git)?;
            let mut local = open(&checkout.inside(&git.subdir)?, if file == Some("-") { file } else { None })?;
            if let Some(file) = file.filter(|f| *f != "-") {
                local.dockerfile = file.to_owned();
            }
            local.checkout = Some(checkout);
            return Ok(local);
        }
        _ => source.remote = Some(context.to_owned()),
    }
    match file {
        Some("-") => source.dockerfile_from_stdin()?,
        file => source.dockerfile = file.unwrap_or("").to_owned(),
    }
    Ok(source)
}

/// `FOLDER`, `FOLDER:TAG`, `FOLDER@sha256:…`; second: nothing, the tag, or `@digest`.
fn layout(place: &str) -> (&str, String) {
    if let Some(at) = place.find('@') {
        return (&place[..at], place[at..].to_owned());
    }
    match place.rsplit_once(':') {
        Some((folder, tag)) if !tag.contains('/') => (folder, tag.to_owned()),
        _ => (place, String::new()),
    }
}

/// A clone, for as long as it is sent.
struct Checkout(PathBuf);

impl Checkout {
    fn new(git: &GitUrl) -> Result<Self> {
        let name = format!("docker-build-git-{}", &crate::util::id::random()[..12]);
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("mkdir {}", path.display()))?;
        let checkout = Self(path);
        git.fetch(&checkout.0, &|| false).map_err(|e| e.context("unable to prepare context: unable to 'git clone'"))?;
        if !git.keep_git_dir {
            fs::remove_dir_all(checkout.0.join(".git"))?;
        }
        Ok(checkout)
    }

    fn inside(&self, subdir: &str) -> Result<String> {
        let path = fs::canonicalize(self.0.join(subdir.trim_matches('/')))
            .with_context(|| format!("unable to prepare context: {subdir}"))?;
        if !path.starts_with(fs::canonicalize(&self.0)?) {
            return Err(Error::invalid(format!("unable to prepare context: {subdir} leads out of the repository")));
        }
        Ok(path.to_string_lossy().into_owned())
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Stdin is a tar (of any compression) or the Dockerfile itself.
fn stdin(mut source: Source, file: Option<&str>) -> Result<Source> {
    let mut start = vec![0; 512];
    let mut filled = 0;
    while filled < start.len() {
        let n = io::stdin().read(&mut start[filled..]).context("read the context from stdin")?;
        if n == 0 {
            break;
        }
        filled += n;
    }
    start.truncate(filled);
    if is_archive(&start) {
        source.kind = Kind::Stream(start);
        source.dockerfile = file.unwrap_or("Dockerfile").to_owned();
        return Ok(source);
    }
    io::stdin().read_to_end(&mut start).context("read the Dockerfile from stdin")?;
    source.extra = Some(start);
    source.dockerfile = EXTRA.into();
    Ok(source)
}

/// gzip, bzip2, xz, zstd or a tar header.
fn is_archive(start: &[u8]) -> bool {
    const MAGIC: &[&[u8]] = &[b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    MAGIC.iter().any(|m| start.starts_with(m)) || start.get(257..262) == Some(b"ustar")
}

pub(super) fn is_remote(context: &str) -> bool {
    ["http://", "https://", "git://", "git@", "ssh://", "github.com/"].iter().any(|p| context.starts_with(p))
}

impl Source {
    /// One outside of the context is sent beside it.
    fn dockerfile_at(&mut self, root: &Path, path: &str) -> Result<()> {
        let path = fs::canonicalize(path).map_err(|e| no_dockerfile(path, &crate::error::errno_text(&e)))?;
        if let Ok(inside) = path.strip_prefix(root) {
            self.dockerfile = inside.to_string_lossy().into_owned();
            return Ok(());
        }
        if !fs::metadata(&path).is_ok_and(|m| m.is_file()) {
            return Err(Error::invalid(format!("the Dockerfile {} is not a regular file", path.display())));
        }
        self.extra = Some(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
        self.dockerfile = EXTRA.into();
        Ok(())
    }

    fn dockerfile_from_stdin(&mut self) -> Result<()> {
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text).context("read the Dockerfile from stdin")?;
        self.extra = Some(text);
        self.dockerfile = EXTRA.into();
        Ok(())
    }

    pub(super) fn add_named(&mut self, name: &str, target: &str) -> Result<()> {
        let context = if let Some(image) = target.strip_prefix("docker-image://") {
            NamedContext::Image(image.to_owned())
        } else if let Some(stage) = target.strip_prefix("target:") {
            NamedContext::Target(stage.to_owned())
        } else if is_remote(target) {
            NamedContext::Remote(target.to_owned())
        } else if let Some(place) = target.strip_prefix("oci-layout://") {
            let (folder, wanted) = layout(place);
            let path = fs::canonicalize(folder).with_context(|| format!("build context {name}: {folder}"))?;
            if !path.join("index.json").is_file() {
                return Err(Error::invalid(format!("build context {name}: {folder} is no OCI layout: no index.json")));
            }
            NamedContext::Layout(self.add_folder(path), wanted)
        } else {
            let path = fs::canonicalize(target).with_context(|| format!("build context {name}: {target}"))?;
            NamedContext::Uploaded(self.add_folder(path))
        };
        self.named.insert(name.to_ascii_lowercase(), context);
        Ok(())
    }

    /// A further folder to send, and where it is in the tar.
    fn add_folder(&mut self, path: PathBuf) -> String {
        let prefix = format!(".coracle-context-{}", self.folders.len());
        self.folders.push((prefix.clone(), path));
        prefix
    }

    /// `--cache-from type=local,src=FOLDER`: the folder goes along, under a name that
    /// no stage can have.
    pub(super) fn cache_folder(&mut self, spec: &str) -> Result<String> {
        let mut attrs: BTreeMap<&str, &str> = spec.split(',').filter_map(|pair| pair.split_once('=')).collect();
        let (Some(&"local"), Some(folder)) = (attrs.get("type"), attrs.get("src").copied()) else {
            return Ok(spec.to_owned());
        };
        let name = format!(".cache-{}", self.folders.len());
        if Path::new(folder).join("index.json").is_file() {
            self.add_named(&name, folder)?;
        }
        attrs.insert("src", &name);
        Ok(attrs.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","))
    }

    /// The body of the request. A failure in the middle of it ends the tar
    /// early, which the daemon refuses; the reason is kept for the reader.
    pub(super) fn into_tar(self, trouble: &Trouble) -> Result<Box<dyn Read + Send>> {
        if let Kind::Stream(start) = self.kind {
            return Ok(Box::new(io::Cursor::new(start).chain(io::stdin())));
        }
        if self.remote.is_some() && self.folders.is_empty() && self.extra.is_none() {
            return Ok(Box::new(io::empty()));
        }
        let (reader, writer) = io::pipe()?;
        let thread = std::thread::spawn(move || self.write(io::BufWriter::with_capacity(64 << 10, writer)));
        Ok(Box::new(Joined { reader, thread: Some(thread), trouble: trouble.clone() }))
    }

    /// The daemon needs these two also where the rules leave them out.
    fn needs(&self, path: &str) -> bool {
        path == self.dockerfile || path == ".dockerignore"
    }

    /// Asks the daemon what it has of a large folder; gives what the build is to say.
    pub(super) fn offer(&mut self, client: &Client, build: &str) -> Result<String> {
        if let (Kind::Folder(root), None) = (&self.kind, &self.checkout) {
            let ignore = read_ignore(root, &self.dockerfile)?;
            let keep = |path: &str| self.needs(path);
            self.listed = listing::ask(client, build, &Walk { root, ignore: &ignore, keep: &keep }, &self.dockerfile)?;
        }
        Ok(self.listed.as_ref().map(|l| l.key.clone()).unwrap_or_default())
    }

    fn write(self, to: impl io::Write) -> Result<()> {
        let mut tar = tar::Builder::new(to);
        tar.follow_symlinks(false);
        if let Some(text) = &self.extra {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            tar.append_data(&mut header, EXTRA, text.as_slice())?;
        }
        if let Kind::Folder(root) = &self.kind {
            let mut send = |path: &str, full: &Path, meta: &Metadata| append(&mut tar, path, full, meta);
            match &self.listed {
                Some(listed) => listed.each(root, &mut send)?,
                None => {
                    let ignore = read_ignore(root, &self.dockerfile)?;
                    let keep = |path: &str| self.needs(path);
                    Walk { root, ignore: &ignore, keep: &keep }.folder(&mut send, "")?;
                }
            }
        }
        for (prefix, root) in &self.folders {
            let ignore = read_ignore(root, "")?;
            let mut send =
                |path: &str, full: &Path, meta: &Metadata| append(&mut tar, &format!("{prefix}/{path}"), full, meta);
            Walk { root, ignore: &ignore, keep: &|_| false }.folder(&mut send, "")?;
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }
}

/// `<dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore`.
fn read_ignore(root: &Path, dockerfile: &str) -> Result<Ignore> {
    for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".into()] {
        match fs::read_to_string(root.join(&name)) {
            Ok(text) => return Ignore::parse(&text).map_err(|e| Error::invalid(format!("error reading {name}: {e}"))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::from(e).context(format!("error reading {name}"))),
        }
    }
    Ok(Ignore::default())
}

/// A folder as it is sent.
pub(super) struct Walk<'a> {
    pub(super) root: &'a Path,
    ignore: &'a Ignore,
    keep: &'a dyn Fn(&str) -> bool,
}

/// Takes an entry: its path in the context, where it is, what it is.
pub(super) type Visit<'a> = dyn FnMut(&str, &Path, &Metadata) -> Result<()> + 'a;

impl Walk<'_> {
    /// Everything below `path` that is not left out, folders before their content.
    pub(super) fn folder(&self, visit: &mut Visit<'_>, path: &str) -> Result<()> {
        let folder = self.root.join(path);
        let mut names: Vec<_> = fs::read_dir(&folder)
            .and_then(|entries| entries.map(|e| e.map(|e| e.file_name())).collect())
            .with_context(|| format!("error checking context: can't list {}", folder.display()))?;
        // One order on every file system: the same context gives the same bytes.
        order::sort(&mut names);
        for name in names {
            let name = name
                .into_string()
                .map_err(|n| Error::invalid(format!("file name {n:?} in the context is not UTF-8")))?;
            let child = if path.is_empty() { name } else { format!("{path}/{name}") };
            self.entry(visit, &child)?;
        }
        Ok(())
    }

    fn entry(&self, visit: &mut Visit<'_>, path: &str) -> Result<()> {
        let full = self.root.join(path);
        let excluded = self.ignore.excludes(path) && !(self.keep)(path);
        let meta =
            fs::symlink_metadata(&full).with_context(|| format!("error checking context: {}", full.display()))?;
        if excluded && !(meta.is_dir() && self.ignore.has_exceptions()) {
            return Ok(());
        }
        if !excluded {
            visit(path, &full, &meta)?;
        }
        if meta.is_dir() { self.folder(visit, path) } else { Ok(()) }
    }
}

/// One entry of the tar.
fn append<W: io::Write>(tar: &mut tar::Builder<W>, name: &str, full: &Path, meta: &Metadata) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(meta.permissions().mode() & 0o7777);
    header.set_mtime(meta.mtime().max(0).unsigned_abs());
    if meta.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        tar.append_data(&mut header, format!("{name}/"), io::empty())?;
    } else if meta.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, name, fs::read_link(full)?)?;
    } else if meta.is_file() {
        let file =
            fs::File::open(full).with_context(|| format!("error checking context: can't read {}", full.display()))?;
        header.set_size(meta.len());
        // A file that grows meanwhile must not tear the tar.
        tar.append_data(&mut header, name, Exactly { inner: file.take(meta.len()), left: meta.len() })?;
    }
    // Sockets, devices and fifos are no content.
    Ok(())
}

/// Pads a file that shrank while it was read.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut n = self.inner.read(buffer)?;
        if n == 0 && self.left > 0 && !buffer.is_empty() {
            n = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            buffer[..n].fill(0);
        }
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}

/// The pipe's reading end; at its end it says how the writing went.
struct Joined {
    reader: io::PipeReader,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
    trouble: Trouble,
}

/// Why the context could not be read, which says more than that a request broke.
pub(super) type Trouble = Arc<Mutex<Option<Error>>>;

impl Read for Joined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        if n == 0
            && let Some(thread) = self.thread.take()
        {
            let result = thread.join().unwrap_or_else(|_| Err(Error::system("the context's writer failed")));
            result.map_err(|e| {
                let text = e.to_string();
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                io::Error::other(text)
            })?;
        }
        Ok(n)
    }
}
