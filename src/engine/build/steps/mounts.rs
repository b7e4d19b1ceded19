//! `RUN --mount`: read, hashed for the cache's key, and made real for one step.
//! Runs on the thread of its stage.
//!
//! Invariant: secrets and agents are files below the build's private folder or
//! sockets of the host. Only their ids and places are hashed, never their content,
//! and nothing of them is in the tree when the layer is packed.

use super::base::Source;
use crate::engine::build::cache::mounts::CacheMount;
use crate::engine::build::execute::{Build, Ongoing};
use crate::engine::build::report::Progress;
use crate::engine::build::session::{Agent, Owner};
use crate::engine::build::transfer::{Layer, Overrides, Place, Target, stream};
use crate::engine::container::record::{MountKind, MountRecord};
use crate::error::{Context, Error, Result};
use crate::util::id;
use base64::Engine as _;
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// One `--mount`, its variables replaced.
#[derive(Debug, Clone, Default)]
pub struct Mount {
    kind: String,
    target: String,
    attrs: BTreeMap<String, String>,
}

/// What a step gets; dropped when it is over.
#[derive(Default)]
pub struct Real<'a> {
    pub records: Vec<MountRecord>,
    pub env: Vec<String>,
    pub secret_env: Vec<String>,
    _caches: Vec<CacheMount<'a>>,
    _agents: Vec<Agent>,
    files: Vec<std::path::PathBuf>,
}

impl Drop for Real<'_> {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
    }
}

const KNOWN: &[(&str, &[&str])] = &[
    ("bind", &["target", "source", "from", "rw"]),
    ("cache", &["id", "target", "ro", "rw", "sharing", "from", "source", "mode", "uid", "gid"]),
    ("tmpfs", &["target", "size"]),
    ("secret", &["id", "target", "env", "required", "mode", "uid", "gid", "source"]),
    ("ssh", &["id", "target", "required", "mode", "uid", "gid"]),
];

impl Mount {
    pub fn parse(text: &str) -> Result<Self> {
        let mut mount = Self { kind: "bind".into(), ..Self::default() };
        for field in text.split(',') {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_ascii_lowercase(), value.to_owned()),
                None => (field.to_ascii_lowercase(), "true".to_owned()),
            };
            let (key, value) = match key.as_str() {
                "dst" | "destination" => ("target", value),
                "src" => ("source", value),
                "readwrite" => ("rw", value),
                "readonly" => ("ro", value),
                other => (other, value),
            };
            if key == "type" {
                mount.kind = value;
            } else {
                mount.attrs.insert(key.to_owned(), value);
            }
        }
        // A bind is read-only as it is.
        if mount.kind == "bind" {
            mount.attrs.remove("ro");
        }
        let known = KNOWN.iter().find(|(kind, _)| *kind == mount.kind);
        let (_, keys) = known.ok_or_else(|| Error::invalid(format!("unsupported mount type {:?}", mount.kind)))?;
        if let Some(key) = mount.attrs.keys().find(|k| !keys.contains(&k.as_str())) {
            return Err(Error::invalid(format!("unexpected key '{key}' in '{text}'")));
        }
        mount.target = mount.attr("target").to_owned();
        if mount.target.is_empty() && !matches!(mount.kind.as_str(), "secret" | "ssh") {
            return Err(Error::invalid(format!("mount {text:?}: target is required")));
        }
        Ok(mount)
    }

    pub fn kind(&self) -> &str {
        &self.kind
    }

    fn attr(&self, key: &str) -> &str {
        self.attrs.get(key).map_or("", String::as_str)
    }

    pub fn truth(&self, key: &str) -> bool {
        matches!(self.attr(key), "true" | "1")
    }

    fn octal(&self, key: &str, default: u32) -> Result<u32> {
        match self.attr(key) {
            "" => Ok(default),
            text => u32::from_str_radix(text, 8).map_err(|_| Error::invalid(format!("invalid value {text} for {key}"))),
        }
    }

    fn number(&self, key: &str) -> Result<u32> {
        match self.attr(key) {
            "" => Ok(0),
            text => text.parse().map_err(|_| Error::invalid(format!("invalid value {text} for {key}"))),
        }
    }

    pub fn id(&self) -> String {
        let own = match self.kind.as_str() {
            "ssh" => "default",
            "secret" => self.target.rsplit('/').next().unwrap_or(""),
            _ => self.target.as_str(),
        };
        Some(self.attr("id")).filter(|id| !id.is_empty()).unwrap_or(own).to_owned()
    }

    fn absolute(&self, workdir: &str) -> String {
        let base = if workdir.is_empty() { "/" } else { workdir };
        match self.target.starts_with('/') {
            true => crate::util::path::absolute(&self.target),
            false => crate::util::path::absolute(&format!("{base}/{}", self.target)),
        }
    }
}

impl<'a> Build<'a> {
    /// Reads the mounts of a RUN.
    pub fn mounts(&self, ongoing: &Ongoing, written: &[String]) -> Result<Vec<Mount>> {
        let one = |text: &String| Mount::parse(&ongoing.state.word(text).map_err(Error::invalid)?);
        written.iter().map(one).collect()
    }

    fn mount_source(&self, ongoing: &Ongoing, mount: &Mount, progress: &Progress<'_>) -> Result<Source> {
        match mount.attr("from") {
            "" => Ok(Source { root: self.context.root.clone(), layers: None }),
            from => self.source(ongoing.index, from, progress),
        }
    }

    /// What of the mounts counts for the cache.
    pub fn mounts_key(&self, ongoing: &Ongoing, mounts: &[Mount], progress: &Progress<'_>) -> Result<String> {
        let mut text = String::new();
        for mount in mounts {
            text.push_str(&format!("{} {:?} {:?}\n", mount.kind, mount.target, mount.attrs));
            if mount.kind == "bind" {
                let source = self.mount_source(ongoing, mount, progress)?;
                text.push_str(&match &source.layers {
                    Some(layers) => layers.last().cloned().unwrap_or_default(),
                    None => self.part(&source, mount)?.digest()?.hex(),
                });
            }
        }
        Ok(text)
    }

    /// The part of a tree that a bind shows, as a layer of its own.
    fn part(&self, source: &Source, mount: &Mount) -> Result<Layer> {
        let mut layer = Layer::default();
        let copy = crate::engine::build::language::instruction::Transfer { exec_form: true, ..Default::default() };
        let from = if mount.attr("source").is_empty() { "/" } else { mount.attr("source") };
        let target = Target { fd: None, workdir: "/".into() };
        let place = Place { destination: "/part", target: &target, overrides: &Overrides::default() };
        layer.add(&source.root, &[from.to_owned()], &place, &copy)?;
        Ok(layer)
    }

    /// Makes the mounts for one step.
    pub fn real_mounts(&self, ongoing: &Ongoing, mounts: &[Mount], progress: &Progress<'_>) -> Result<Real<'a>> {
        let mut real = Real::default();
        let mut agents = 0;
        for mount in mounts {
            let workdir = &ongoing.state.config.run.working_dir;
            let base = MountRecord {
                destination: mount.absolute(workdir),
                propagation: "rprivate".into(),
                rw: true,
                ..MountRecord::default()
            };
            match mount.kind.as_str() {
                "bind" => real.records.push(self.bind(ongoing, mount, base, progress)?),
                "tmpfs" => {
                    let size = mount.attr("size");
                    let options = if size.is_empty() { "exec".into() } else { format!("exec,size={size}") };
                    real.records.push(MountRecord { kind: MountKind::Tmpfs, tmpfs_options: options, ..base });
                }
                "cache" => self.cache_mount(ongoing, mount, base, progress, &mut real)?,
                "secret" => self.secret(mount, base, &mut real)?,
                _ => {
                    self.agent(mount, base, agents, &mut real)?;
                    agents += 1;
                }
            }
        }
        Ok(real)
    }

    /// Read-only the files themselves, else a copy that is thrown away.
    fn bind(
        &self,
        ongoing: &Ongoing,
        mount: &Mount,
        base: MountRecord,
        progress: &Progress<'_>,
    ) -> Result<MountRecord> {
        let source = self.mount_source(ongoing, mount, progress)?;
        let inside = mount.attr("source").trim_matches('/').to_owned();
        if let (Some(layers), false) = (&source.layers, mount.truth("rw"))
            && !layers.is_empty()
        {
            let kind = MountKind::Image;
            return Ok(MountRecord { kind, layers: layers.clone(), subpath: inside, rw: false, ..base });
        }
        if !mount.truth("rw") && source.layers.is_none() {
            // Symlinks are resolved inside the context, so the path has none left.
            let target = Target { fd: Some(source.root.fd.try_clone()?), workdir: "/".into() };
            let root = fs::read_link(format!("/proc/self/fd/{}", source.root.fd.as_raw_fd()))?;
            let path = root.join(target.resolve(&inside)?.trim_start_matches('/'));
            fs::symlink_metadata(&path).map_err(|_| {
                Error::not_found(format!("mount source {inside:?}: not found in the {}", source.root.name))
            })?;
            return Ok(MountRecord { source: path.display().to_string(), rw: false, ..base });
        }
        let name = format!("mount-{}", &id::random()[..12]);
        let layer = self.part(&source, mount)?;
        let mut tar = stream(layer, None)?;
        self.context.unpack(&name, &mut tar, &|| self.abort.cancel.fired())?;
        let source = self.context.path(&name).join("part").display().to_string();
        Ok(MountRecord { source, rw: mount.truth("rw"), ..base })
    }

    fn cache_mount(
        &self,
        ongoing: &Ongoing,
        mount: &Mount,
        base: MountRecord,
        progress: &Progress<'_>,
        real: &mut Real<'a>,
    ) -> Result<()> {
        let (alone, wait) = match mount.attr("sharing") {
            "" | "shared" => (false, false),
            "private" => (true, false),
            "locked" => (true, true),
            other => return Err(Error::invalid(format!("unsupported sharing value {other:?}"))),
        };
        let space = self.request.options.argument("BUILDKIT_CACHE_MOUNT_NS").unwrap_or_default();
        let name = format!("{space}{}\n{}\n{}", mount.id(), mount.attr("from"), mount.attr("source"));
        let cancelled = || self.abort.cancel.fired();
        let held = self.engine.builds.cache.mount(&name, alone, wait, &cancelled)?;
        if !held.path.exists() {
            if mount.attr("from").is_empty() {
                fs::create_dir_all(&held.path).with_context(|| format!("mkdir {}", held.path.display()))?;
            } else {
                self.fill_cache(ongoing, mount, &held.path, progress)?;
            }
            let (uid, gid) = (mount.number("uid")?, mount.number("gid")?);
            std::os::unix::fs::chown(&held.path, Some(uid), Some(gid)).context("give a cache mount its owner")?;
            let mode = mount.octal("mode", 0o755)?;
            fs::set_permissions(&held.path, fs::Permissions::from_mode(mode))?;
        }
        let source = held.path.display().to_string();
        real.records.push(MountRecord { source, rw: !mount.truth("ro"), ..base });
        real._caches.push(held);
        Ok(())
    }

    /// The first content of a cache mount with `from`.
    fn fill_cache(&self, ongoing: &Ongoing, mount: &Mount, path: &Path, progress: &Progress<'_>) -> Result<()> {
        let source = self.mount_source(ongoing, mount, progress)?;
        let mut tar = stream(self.part(&source, mount)?, None)?;
        let name = format!("fill-{}", &id::random()[..12]);
        self.context.unpack(&name, &mut tar, &|| self.abort.cancel.fired())?;
        fs::rename(self.context.path(&name).join("part"), path).context("fill a cache mount")
    }

    fn secret(&self, mount: &Mount, base: MountRecord, real: &mut Real<'a>) -> Result<()> {
        let id = mount.id();
        let Some(encoded) = self.request.secrets.secrets.get(&id) else {
            if mount.truth("required") {
                return Err(Error::not_found(format!("secret {id}: not found")));
            }
            return Ok(());
        };
        let value = base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .map_err(|_| Error::invalid(format!("secret {id}: invalid encoding")))?;
        if !mount.attr("env").is_empty() {
            let text = String::from_utf8(value).map_err(|_| Error::invalid(format!("secret {id} is not UTF-8")))?;
            real.secret_env.push(format!("{}={text}", mount.attr("env")));
            if mount.target.is_empty() {
                return Ok(());
            }
            return self.secret_file(mount, base, text.as_bytes(), real);
        }
        self.secret_file(mount, base, &value, real)
    }

    fn secret_file(&self, mount: &Mount, base: MountRecord, value: &[u8], real: &mut Real<'a>) -> Result<()> {
        let path = self.context.private().join(&id::random()[..16]);
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        real.files.push(path.clone());
        std::io::Write::write_all(&mut file, value)?;
        std::os::unix::fs::fchown(&file, Some(mount.number("uid")?), Some(mount.number("gid")?))?;
        file.set_permissions(fs::Permissions::from_mode(mount.octal("mode", 0o400)?))?;
        let destination = match mount.target.as_str() {
            "" => format!("/run/secrets/{}", mount.id()),
            _ => base.destination.clone(),
        };
        real.records.push(MountRecord { source: path.display().to_string(), destination, rw: false, ..base });
        Ok(())
    }

    fn agent(&self, mount: &Mount, base: MountRecord, n: usize, real: &mut Real<'a>) -> Result<()> {
        let id = mount.id();
        if !self.request.secrets.ssh.contains(&id) {
            if mount.truth("required") {
                return Err(Error::not_found(format!("no SSH key {id:?} forwarded from the client")));
            }
            return Ok(());
        }
        let destination = match mount.target.as_str() {
            "" => format!("/run/buildkit/ssh_agent.{n}"),
            _ => base.destination.clone(),
        };
        let owner = Owner { uid: mount.number("uid")?, gid: mount.number("gid")?, mode: mount.octal("mode", 0o600)? };
        let path = self.context.private().join(&id::random()[..16]);
        let agent = Agent::listen(&path, &id, &owner, self.session, self.abort)?;
        real.env.push(format!("SSH_AUTH_SOCK={destination}"));
        real.records.push(MountRecord { source: agent.path.display().to_string(), destination, ..base });
        real._agents.push(agent);
        Ok(())
    }
}

impl Build<'_> {
    /// A script with its own interpreter, for the heredoc form of RUN.
    pub fn script(&self, name: &str, content: &str, real: &mut Real<'_>) -> Result<String> {
        let path = self.context.path(&format!("script-{}", &id::random()[..12]));
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        real.files.push(path.clone());
        let destination = format!("/dev/pipes/{name}");
        let source = path.display().to_string();
        let propagation = "rprivate".into();
        real.records.push(MountRecord {
            source,
            destination: destination.clone(),
            propagation,
            ..MountRecord::default()
        });
        Ok(destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let m = Mount::parse("type=cache,dst=/c,sharing=locked,readonly").unwrap();
        assert_eq!((m.kind.as_str(), m.id().as_str(), m.truth("ro")), ("cache", "/c", true));
        assert_eq!(Mount::parse("source=a,target=b").unwrap().absolute("/w"), "/w/b");
        assert_eq!(Mount::parse("type=secret,id=s").unwrap().id(), "s");
        assert_eq!(Mount::parse("type=secret,target=/x/tok").unwrap().id(), "tok");
        for (text, part) in [
            ("type=x", "unsupported mount type"),
            ("target=/a,foo=1", "unexpected key"),
            ("type=tmpfs", "target is required"),
        ] {
            assert!(Mount::parse(text).unwrap_err().message().contains(part), "{text}");
        }
    }
}
