//! The files that a build may copy from: the uploaded tar, unpacked below the
//! data root for as long as the build lasts. Runs on the request's thread.
//!
//! Invariant: what was uploaded is a stranger's. It is unpacked by the extractor
//! of layers, with no owners and no devices, and read through `openat2` inside
//! its root afterwards.

pub mod kept;
pub mod remote;

use crate::api::build::{NamedContext, Options};
use crate::engine::build::Abort;
use crate::engine::build::transfer::{Root, Target};
use crate::engine::{Engine, timer};
use crate::error::{Context as _, Error, Result};
use crate::image::compress;
use crate::storage::apply::{self, Limits};
use crate::storage::{Staging, Whiteouts, tree};
use crate::sys::fs as sysfs;
use crate::util::ignore::Ignore;
use kept::Lease;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use remote::Fetched;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A Dockerfile larger than this is none.
const MAX_DOCKERFILE: u64 = 16 << 20;
/// How long a build waits until its files are gone.
const MOMENT: Duration = Duration::from_secs(1);
/// More files than this are a mistake: the root of a file system, a cache.
const MAX_ENTRIES: u64 = 4_000_000;
/// A Dockerfile that is no part of the context, as our client sends it.
const SENT: &str = ".coracle-dockerfile";

/// What one build has on disk. Removed when dropped.
pub struct Context {
    dir: PathBuf,
    /// On a file system in memory where the host has one: for secrets.
    private: PathBuf,
    pub root: Root,
    /// By name, lower case.
    pub named: std::collections::BTreeMap<String, Root>,
    pub dockerfile: String,
    pub dockerfile_name: String,
    /// It came beside a context that was fetched.
    given: bool,
    /// What is left out of it.
    pub ignore: Ignore,
    /// The main context is one that stays.
    lease: Option<Lease>,
    discarded: AtomicBool,
}

impl Drop for Context {
    fn drop(&mut self) {
        self.discard();
    }
}

impl Context {
    /// When the last step is done. Before the result is synced: what is gone by
    /// then never has to be written to the disk.
    pub fn discard(&self) {
        if self.discarded.swap(true, Ordering::Relaxed) {
            return;
        }
        for dir in [&self.dir, &self.private] {
            if !dir.exists() {
                continue;
            }
            if let Err(e) = remove_all(dir) {
                crate::warn!("cannot remove the files of a build", "path" = dir.display(), "error" = e);
            }
        }
    }
}

/// At start: removes what killed daemons left.
pub fn clean_up(engine: &Engine) {
    let folders = engine.config.data_root.join("tmp");
    let _ = fs::create_dir_all(&folders);
    if let Ok(folders) = File::open(&folders) {
        // Only a matter of speed: a context is many files, and soon gone.
        let _ = sysfs::spread_folders(folders.as_fd());
    }
    for base in [engine.config.data_root.join("tmp"), engine.config.exec_root.clone()] {
        for entry in fs::read_dir(&base).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("build-") {
                let _ = remove_all(&entry.path());
            }
        }
    }
}

/// What takes longer than a moment is done in the background: of a million files it may
/// be minutes, where the file system tells the disk of every block that is free.
fn remove_all(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let Ok(parent) = File::open(parent) else { return Ok(()) };
    let name = CString::new(name.as_encoded_bytes())?;
    if tree::remove_until(parent.as_fd(), &name, Some(Instant::now() + MOMENT))? {
        return Ok(());
    }
    timer::spawn("sweep", move || {
        if let Err(e) = tree::remove(parent.as_fd(), &name) {
            crate::warn!("cannot remove the files of a build", "name" = name.to_string_lossy(), "error" = e);
        }
    });
    Ok(())
}

/// Reads the request's body to its end.
pub fn receive(engine: &Engine, id: &str, options: &Options, body: &mut dyn Read, abort: &Abort) -> Result<Context> {
    let dir = engine.config.data_root.join("tmp").join(format!("build-{id}"));
    let private = engine.config.exec_root.join(format!("build-{id}"));
    for path in [&dir, &private] {
        fs::create_dir_all(path).with_context(|| format!("mkdir {}", path.display()))?;
    }
    let root = open_root(&dir.join("context"), "build context")?;
    let mut context = Context {
        dir,
        private,
        root,
        named: Default::default(),
        dockerfile: String::new(),
        dockerfile_name: options.dockerfile.clone(),
        given: false,
        ignore: Ignore::default(),
        lease: None,
        discarded: AtomicBool::new(false),
    };
    if !options.kept.is_empty() {
        context.take_kept(engine, options, body, abort)?;
    }
    let cancelled = || abort.cancel.fired();
    let unpack = Unpack { dir: &context.dir, name: "context", owners: false, cancelled: &cancelled };
    unpack.run(body).map_err(|e| e.context("Error processing tar file"))?;
    context.take_named(engine, options, abort)?;
    let mut asked = options.dockerfile.clone();
    if !matches!(options.remote.as_str(), "" | "client-session") {
        asked = context.take_remote(engine, options, &asked, abort)?;
    }
    if asked.starts_with("http://") || asked.starts_with("https://") {
        context.fetch_dockerfile(engine, &asked, abort)?;
    }
    context.find_dockerfile(&asked)?;
    Ok(context)
}

fn keep_git_dir(options: &Options) -> bool {
    options.argument("BUILDKIT_CONTEXT_KEEP_GIT_DIR").is_some_and(|v| matches!(v, "1" | "true"))
}

fn open_root(path: &Path, name: &str) -> Result<Root> {
    fs::create_dir_all(path).with_context(|| format!("mkdir {}", path.display()))?;
    let fd = File::open(path).with_context(|| format!("open {}", path.display()))?;
    Ok(Root { fd: Arc::new(fd.into()), name: name.into() })
}

impl Context {
    /// The context is what was kept of it, with what is sent now.
    fn take_kept(&mut self, engine: &Engine, options: &Options, body: &mut dyn Read, abort: &Abort) -> Result<()> {
        let lease = engine.builds.contexts.take(&options.kept, &options.build_id)?;
        let cancelled = || abort.cancel.fired();
        lease.update(abort, |dir| {
            let unpack = Unpack { dir, name: "tree", owners: false, cancelled: &cancelled };
            unpack.run(body).map_err(|e| e.context("Error processing tar file"))
        })?;
        self.root = open_root(&lease.path().join("tree"), "build context")?;
        self.lease = Some(lease);
        Ok(())
    }

    /// A fresh folder of this build.
    pub fn folder(&self, name: &str) -> Result<Root> {
        open_root(&self.dir.join(name), name)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where the main context is.
    fn main(&self) -> PathBuf {
        self.lease.as_ref().map_or_else(|| self.dir.join("context"), |lease| lease.path().join("tree"))
    }

    /// Where the paths of a build's private files begin.
    pub fn private(&self) -> &Path {
        &self.private
    }

    /// Unpacks an archive into a folder of this build, owners kept.
    pub fn unpack(&self, name: &str, input: &mut dyn Read, cancelled: &dyn Fn() -> bool) -> Result<Root> {
        let root = self.folder(name)?;
        Unpack { dir: &self.dir, name, owners: true, cancelled }.run(input)?;
        Ok(root)
    }

    /// The main context is fetched; what was uploaded beside it is a Dockerfile at
    /// most. Gives the name of the Dockerfile.
    fn take_remote(&mut self, engine: &Engine, options: &Options, asked: &str, abort: &Abort) -> Result<String> {
        let (url, keep_git_dir) = (options.remote.as_str(), keep_git_dir(options));
        let sent = self.read(SENT)?;
        match remote::context(engine, url, &self.dir.join("remote"), keep_git_dir, abort)? {
            // Nothing but the Dockerfile: COPY has nothing to take.
            Fetched::Dockerfile(root) => {
                self.root = root;
                self.dockerfile = self.read(remote::ALONE)?.unwrap_or_default();
                self.root = self.folder("alone")?;
                fs::write(self.dir.join("alone").join(SENT), &self.dockerfile)?;
                return Ok(SENT.into());
            }
            Fetched::Tree(root) => self.root = Root { name: "build context".into(), ..root },
        }
        if let Some(text) = sent {
            self.filter("")?;
            self.dockerfile = text;
            self.given = true;
            return Ok(SENT.into());
        }
        self.filter(if asked.is_empty() { "Dockerfile" } else { asked })?;
        Ok(asked.to_owned())
    }

    fn fetch_dockerfile(&mut self, engine: &Engine, url: &str, abort: &Abort) -> Result<()> {
        let held = self.folder("dockerfile")?;
        let got = remote::http::download(engine, url, &self.dir.join("dockerfile"), abort)?;
        let outside = Self::read_of(&held, &got.name)?;
        (self.dockerfile, self.given) = (outside.unwrap_or_default(), true);
        Ok(())
    }

    /// As the client filters what it sends.
    fn filter(&self, dockerfile: &str) -> Result<()> {
        let rules = self.rules(dockerfile)?;
        // Asked with a slash behind it: may that folder hold the Dockerfile?
        let keep = |path: &str| {
            path == dockerfile || path == ".dockerignore" || (path.ends_with('/') && dockerfile.starts_with(path))
        };
        remote::filter(&self.root, &rules, &keep)
    }

    /// `<dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore`.
    fn rules(&self, dockerfile: &str) -> Result<Ignore> {
        let text = match self.read(&format!("{dockerfile}.dockerignore"))? {
            Some(text) => Some(text),
            None => self.read(".dockerignore")?,
        };
        Ignore::parse(&text.unwrap_or_default())
            .map_err(|e| Error::invalid(format!("error reading .dockerignore: {e}")))
    }

    /// Folders of further contexts leave the main one.
    fn take_named(&mut self, engine: &Engine, options: &Options, abort: &Abort) -> Result<()> {
        for (n, (name, source)) in options.contexts.iter().enumerate() {
            if let NamedContext::Remote(url) = source {
                let (Fetched::Tree(root) | Fetched::Dockerfile(root)) =
                    remote::context(engine, url, &self.dir.join(format!("named-{n}")), keep_git_dir(options), abort)
                        .map_err(|e| e.context(format_args!("build context {name}")))?;
                let root = Root { name: format!("build context {name}").into(), ..root };
                self.named.insert(name.to_ascii_lowercase(), root);
                continue;
            }
            let (NamedContext::Uploaded(prefix) | NamedContext::Layout(prefix, _)) = source else { continue };
            if prefix.contains('/') || prefix.starts_with("..") || prefix.is_empty() {
                return Err(Error::invalid(format!("build context {name}: invalid folder {prefix:?}")));
            }
            let target = self.dir.join(format!("named-{n}"));
            match fs::rename(self.main().join(prefix), &target) {
                Ok(()) => {}
                // An empty folder has no entry of its own.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e).with_context(|| format!("build context {name}")),
            }
            let root = open_root(&target, &format!("build context {name}"))?;
            self.named.insert(name.to_ascii_lowercase(), root);
        }
        Ok(())
    }

    /// Reads the Dockerfile, and hides it and `.dockerignore` where the rules say so.
    fn find_dockerfile(&mut self, asked: &str) -> Result<()> {
        if self.given {
            self.dockerfile_name = "Dockerfile".into();
            return Ok(());
        }
        let names: &[&str] = if asked.is_empty() { &["Dockerfile", "dockerfile"] } else { &[asked] };
        let found = names.iter().find_map(|name| self.read(name).transpose().map(|text| (*name, text)));
        let (name, text) = found.ok_or_else(|| {
            Error::invalid(format!("Cannot locate specified Dockerfile: {}", names.first().unwrap_or(&"Dockerfile")))
        })?;
        self.dockerfile = text?;
        name.clone_into(&mut self.dockerfile_name);
        // Sent beside the context, never a part of it.
        if name == SENT {
            self.dockerfile_name = "Dockerfile".into();
            return self.hide(name);
        }
        let rules = self.rules(name)?;
        for hidden in [name, ".dockerignore"] {
            if rules.excludes(hidden) {
                self.hide(hidden)?;
            }
        }
        self.ignore = rules;
        Ok(())
    }

    /// None if there is no such file.
    fn read(&self, name: &str) -> Result<Option<String>> {
        Self::read_of(&self.root, name)
    }

    fn read_of(root: &Root, name: &str) -> Result<Option<String>> {
        let target = Target { fd: Some(root.fd.try_clone()?), workdir: "/".into() };
        let Ok(file) = root.open(&target.resolve(name)?) else { return Ok(None) };
        if !file.metadata()?.is_file() {
            return Err(Error::invalid(format!("the Dockerfile {name} is not a regular file")));
        }
        let mut text = Vec::new();
        file.take(MAX_DOCKERFILE + 1).read_to_end(&mut text).with_context(|| format!("read {name}"))?;
        if text.len() as u64 > MAX_DOCKERFILE {
            return Err(Error::invalid(format!("{name} is larger than {} MiB", MAX_DOCKERFILE >> 20)));
        }
        String::from_utf8(text).map(Some).map_err(|_| Error::invalid(format!("{name} is not UTF-8")))
    }

    fn hide(&self, path: &str) -> Result<()> {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let parent = CString::new(if parent.is_empty() { "." } else { parent })?;
        let Ok(dir) = sysfs::open_in(self.root.fd.as_fd(), &parent, flags, Mode::empty()) else { return Ok(()) };
        tree::remove(dir.as_fd(), &CString::new(name)?)
    }
}

/// A plain folder as the extractor wants it.
struct Folder {
    root: File,
    aside: File,
}

impl Staging for Folder {
    fn root(&self) -> &File {
        &self.root
    }
    fn aside(&self) -> &File {
        &self.aside
    }
    fn whiteouts(&self) -> Whiteouts {
        Whiteouts::Literal
    }
    fn commit(self: Box<Self>, _: &str) -> Result<()> {
        Ok(())
    }
}

/// An archive that becomes a folder.
pub struct Unpack<'a> {
    pub dir: &'a Path,
    /// The folder's name in it.
    pub name: &'a str,
    /// Owners of the archive count.
    pub owners: bool,
    pub cancelled: &'a dyn Fn() -> bool,
}

impl Unpack<'_> {
    pub fn run(&self, input: &mut dyn Read) -> Result<()> {
        let mut input = BufReader::with_capacity(128 << 10, input);
        // No context at all is an empty one.
        if input.fill_buf().context("read the build context")?.is_empty() {
            return Ok(());
        }
        let aside = self.dir.join("aside");
        fs::create_dir_all(&aside)?;
        let folder = Folder { root: File::open(self.dir.join(self.name))?, aside: File::open(&aside)? };
        let limits = Limits { entries: MAX_ENTRIES, ..Limits::default() };
        // Without owners: to the extractor that is a host with one id.
        let options = apply::Options { limits, cancelled: self.cancelled, single_id: !self.owners, devices: false };
        let tar = compress::auto(input).map_err(|e| Error::invalid(e.to_string()))?;
        let mut tar = BufReader::with_capacity(128 << 10, tar);
        apply::apply(&mut tar, &folder, None::<std::io::BufWriter<std::fs::File>>, options)?;
        std::io::copy(&mut tar, &mut std::io::sink())?;
        Ok(())
    }
}
