//! The steps COPY, ADD and WORKDIR: what they copy is put together, looked up in
//! the cache by its content, and else taken in as a layer. Runs on the thread of
//! its stage.

use super::base::Source;
use crate::engine::build::cache;
use crate::engine::build::context::remote;
use crate::engine::build::execute::{Build, Ongoing};
use crate::engine::build::language::instruction::Transfer;
use crate::engine::build::language::parser::{Node, heredoc_marker};
use crate::engine::build::report::{Progress, shown};
use crate::engine::build::result::output;
use crate::engine::build::transfer::attributes::{ModeChange, owner};
use crate::engine::build::transfer::{self, Layer, Overrides, Place, Root, Target};
use crate::error::{Error, Result};
use crate::image::compress::Compression;
use crate::image::digest::Digest;
use crate::image::layer::{Expected, Ingest};
use crate::image::store::LayerRef;
use crate::util::git::GitUrl;
use crate::util::id;
use std::io::Read;

impl Build<'_> {
    pub fn copy_step(
        &self,
        ongoing: &mut Ongoing,
        node: &Node,
        copy: &Transfer,
        add: bool,
        progress: &Progress<'_>,
    ) -> Result<()> {
        let state = &ongoing.state;
        let word = |text: &str| state.word(text).map_err(Error::invalid);
        let source = match &copy.from {
            Some(from) => self.source(ongoing.index, &word(from)?, progress)?,
            None => Source { root: self.context.root.clone(), layers: None },
        };
        let target = self.target(ongoing, copy.link)?;
        let overrides = Overrides {
            owner: match &copy.chown {
                Some(text) => Some(owner(&word(text)?, &self.target(ongoing, false)?)?),
                None => None,
            },
            keep: source.layers.is_some(),
            mode: copy.chmod.as_ref().map(|m| ModeChange::parse(&word(m)?)).transpose()?,
        };
        let checksum = copy.checksum.as_ref().map(|c| word(c)).transpose()?;
        let destination = word(&copy.destination)?;
        let mut copy = Transfer { checksum, ..copy.clone() };
        copy.excludes = copy.excludes.iter().map(|e| word(e)).collect::<Result<_>>()?;
        let place = Place { destination: &destination, target: &target, overrides: &overrides };
        let mut layer = Layer::default();
        let mut plain = Vec::new();
        for written in &copy.sources {
            let marker = if copy.exec_form { None } else { heredoc_marker(written) };
            if let Some(marker) = marker {
                let Some(heredoc) = copy.heredocs.iter().find(|h| h.name == marker.name) else { continue };
                let text = if heredoc.expand {
                    state.heredoc(&heredoc.content).map_err(Error::invalid)?
                } else {
                    heredoc.content.clone()
                };
                layer.add_bytes(&marker.name, text.into_bytes(), &place)?;
                continue;
            }
            let name = word(written)?;
            if add && self.add_remote(&mut layer, &name, &place, &copy)? {
                continue;
            }
            if add && copy.unpack != Some(false) && self.add_archive(&mut layer, &name, &place, &source.root)? {
                continue;
            }
            plain.push(name);
        }
        if !plain.is_empty() {
            layer.add(&source.root, &plain, &place, &copy)?;
        }
        let created_by = shown(node);
        self.take_in(ongoing, layer, created_by, progress)
    }

    /// The stage's tree, to resolve destinations in. `--link` does not look at it.
    fn target(&self, ongoing: &Ongoing, blind: bool) -> Result<Target> {
        let workdir = match ongoing.state.config.run.working_dir.as_str() {
            "" => "/".to_owned(),
            dir => dir.to_owned(),
        };
        let fd = match ongoing.state.chain_ids.as_slice() {
            [] => None,
            _ if blind => None,
            layers => Some(self.engine.driver.mount_ro(layers)?),
        };
        Ok(Target { fd, workdir })
    }

    /// A URL or a repository; false if the source is neither.
    fn add_remote(&self, layer: &mut Layer, name: &str, place: &Place<'_>, add: &Transfer) -> Result<bool> {
        let folder = format!("remote-{}", &id::random()[..12]);
        let checksum = add.checksum.as_deref().unwrap_or("");
        if let Some(mut url) = GitUrl::parse(name) {
            if !checksum.is_empty() {
                checksum.clone_into(&mut url.commit);
            }
            let keep = add.keep_git_dir || url.keep_git_dir;
            let (root, time) = remote::repository(&url, &self.context.path(&folder), keep, self.abort)?;
            let mut tree = Layer::default();
            let everything = ["/".to_owned()];
            let destination = format!("{}/", place.destination.trim_end_matches('/'));
            tree.add(&root, &everything, &Place { destination: &destination, ..*place }, add)?;
            // Files of a checkout have the time of the clone, which says nothing.
            tree.stamp(time);
            layer.merge(tree);
            return Ok(true);
        }
        if !name.starts_with("http://") && !name.starts_with("https://") {
            return Ok(false);
        }
        let wanted = match checksum {
            "" => None,
            text => Some(text.parse::<Digest>().map_err(|e| e.context(format_args!("invalid checksum {text:?}")))?),
        };
        let root = self.context.folder(&folder)?;
        let mut got = remote::http::download(self.engine, name, &self.context.path(&folder), self.abort)?;
        if let Some(wanted) = wanted
            && wanted != got.digest
        {
            return Err(Error::invalid(format!("digest mismatch {}: {wanted}", got.digest)));
        }
        if add.unpack == Some(true) && got.is_archive()? {
            return self.add_archive(layer, &got.name, place, &root);
        }
        if place.destination.ends_with('/') && !got.named {
            return Err(Error::invalid(format!("cannot determine filename from url: {name}")));
        }
        layer.add_download((&root, &got.name), got.modified, place)?;
        Ok(true)
    }

    /// Unpacks a local archive; false if the source is none.
    fn add_archive(&self, layer: &mut Layer, name: &str, place: &Place<'_>, root: &Root) -> Result<bool> {
        let Ok(mut file) = root.open(name) else { return Ok(false) };
        if !file.metadata()?.is_file() || !is_archive(&mut file)? {
            return Ok(false);
        }
        let mut file = root.open(name)?;
        let folder = format!("add-{}", &id::random()[..12]);
        let unpacked = self.context.unpack(&folder, &mut file, &|| self.abort.cancel.fired())?;
        layer.add_tree(&unpacked, place)?;
        Ok(true)
    }

    pub fn workdir_step(&self, ongoing: &mut Ongoing, path: &str, progress: &Progress<'_>) -> Result<()> {
        let workdir = ongoing.state.workdir(path).map_err(Error::invalid)?;
        let created_by = format!("WORKDIR {workdir}");
        let target = self.target(ongoing, false)?;
        if target.is_dir(&workdir) {
            ongoing.state.record("", created_by, true);
            return Ok(());
        }
        // As with BuildKit it belongs to the user of the commands that will run in it.
        let user = ongoing.state.config.run.user.clone();
        let owner = if user.is_empty() { (0, 0) } else { owner(&user, &target)? };
        let mut layer = Layer::default();
        layer.add_dir(&workdir, &target, owner)?;
        self.take_in(ongoing, layer, created_by, progress)
    }

    fn take_in(&self, ongoing: &mut Ongoing, layer: Layer, created_by: String, progress: &Progress<'_>) -> Result<()> {
        let epoch = self.rewriting()?;
        let parent = ongoing.state.chain_ids.last().cloned().unwrap_or_default();
        let content = layer.digest()?.hex();
        let key = cache::key(&["copy", &parent, &content, &epoch.unwrap_or(-1).to_string()]);
        let layer = match self.earlier(ongoing, &key, &parent) {
            Some(found) => {
                progress.cached();
                found
            }
            None => {
                let made = self.ingest(&mut transfer::stream(layer, epoch)?, &parent)?;
                self.engine.builds.cache.remember(&key, &made.chain_id, &created_by)?;
                made
            }
        };
        self.note(key, parent, &layer, &created_by);
        self.stack(ongoing, layer, created_by);
        Ok(())
    }

    /// Takes a tar in as a layer on top of `parent` (hex, or empty).
    pub fn ingest(&self, tar: &mut dyn Read, parent: &str) -> Result<LayerRef> {
        let parent = Digest::from_hex(parent);
        let mut silent = |_| {};
        let ingest = Ingest::new(Expected::default(), self.abort.cancel.flag(), &mut silent);
        let staged = self.engine.images.ingest(tar, Some(parent.as_ref()), ingest)?;
        self.engine.images.commit_layer(staged, parent.as_ref())
    }

    /// The time that no file of a new layer may be younger than: SOURCE_DATE_EPOCH,
    /// if an output asks for `rewrite-timestamp`.
    pub fn rewriting(&self) -> Result<Option<i64>> {
        let asked = self.request.options.outputs.iter().any(|o| output::truth(o, "rewrite-timestamp"));
        if asked { self.epoch() } else { Ok(None) }
    }

    /// SOURCE_DATE_EPOCH, in seconds.
    pub fn epoch(&self) -> Result<Option<i64>> {
        match self.request.options.build_args.get("SOURCE_DATE_EPOCH").cloned().flatten() {
            None => Ok(None),
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => match text.parse() {
                Ok(n) => Ok(Some(n)),
                Err(_) => Err(Error::invalid(format!("invalid SOURCE_DATE_EPOCH: {text}"))),
            },
        }
    }
}

/// A tar of any compression; a packed file that is no tar is copied as it is.
pub fn is_archive(file: &mut std::fs::File) -> Result<bool> {
    let (compression, stream) = crate::image::compress::peek(file)?;
    let mut head = vec![0; 512];
    let read = match compression {
        Compression::None => read_full(&mut { stream }, &mut head),
        packed => read_full(&mut packed.decoder(Box::new(std::io::BufReader::new(stream)))?, &mut head),
    };
    Ok(read.is_some_and(|n| n == head.len()) && head.get(257..262) == Some(b"ustar"))
}

fn read_full(input: &mut dyn Read, buffer: &mut [u8]) -> Option<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match input.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(have)
}
