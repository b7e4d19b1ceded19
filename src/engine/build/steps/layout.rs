//! `--build-context NAME=oci-layout://…`: an image that lies in a folder of the
//! client as an OCI layout. Its layers are taken in, the image itself is not kept:
//! it has no name here. Runs on the thread of its stage.
//!
//! Invariant: a blob counts only if it is what its digest says.

use super::base::{Made, Source};
use crate::engine::build::execute::{Build, host_platform};
use crate::engine::build::state::State;
use crate::engine::build::transfer::Root;
use crate::engine::image::pull;
use crate::error::{Context, Error, Result};
use crate::image::config::ImageConfig;
use crate::image::digest::{Digest, chain_id};
use crate::image::layer::{Expected, Ingest};
use crate::image::manifest::{ANNOTATION_REF_NAME, Descriptor, Index, Manifest, Platform, is_index};
use crate::image::store::LayerRef;
use crate::util::json;
use std::io::Read;
use std::sync::PoisonError;

/// Documents are small; what is larger is none.
const MAX_DOCUMENT: u64 = 64 << 20;

/// A folder with the layout in it.
pub struct Layout<'a> {
    root: &'a Root,
}

impl<'a> Layout<'a> {
    pub fn new(root: &'a Root) -> Self {
        Self { root }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.root.open(path)?.take(MAX_DOCUMENT).read_to_end(&mut bytes).with_context(|| format!("read {path}"))?;
        Ok(bytes)
    }

    pub fn index(&self) -> Result<Index> {
        json::from_slice(&self.read("index.json")?).map_err(|e| Error::invalid(format!("index.json: {e}")))
    }

    pub fn open(&self, digest: &Digest) -> Result<std::fs::File> {
        self.root.open(&format!("blobs/sha256/{}", digest.hex()))
    }

    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let bytes = self.read(&format!("blobs/sha256/{}", digest.hex()))?;
        match Digest::of(&bytes) {
            got if got == *digest => Ok(bytes),
            got => Err(Error::invalid(format!("blob {digest} of the layout has digest {got}"))),
        }
    }

    /// The entry that `@sha256:…`, a tag or nothing at all names.
    fn entry(&self, wanted: &str) -> Result<Descriptor> {
        let index = self.index()?;
        if let Some(digest) = wanted.strip_prefix('@') {
            let digest: Digest = digest.parse()?;
            if let Some(entry) = index.manifests.iter().find(|m| m.digest == digest) {
                return Ok(entry.clone());
            }
            // One that another document of the layout names.
            let bytes = self.document(&digest)?;
            let kind: serde_json::Value = json::from_slice(&bytes)?;
            let kind = kind["mediaType"].as_str().unwrap_or_default();
            return Ok(Descriptor::new(kind, digest, bytes.len() as u64));
        }
        let tag = if wanted.is_empty() { "latest" } else { wanted };
        let tagged = |m: &&Descriptor| {
            let name = m.annotation(ANNOTATION_REF_NAME).unwrap_or_default();
            name == tag || name.rsplit_once(':').is_some_and(|(_, t)| t == tag)
        };
        match (index.manifests.iter().find(tagged), index.manifests.as_slice()) {
            (Some(entry), _) => Ok(entry.clone()),
            (None, [only]) if wanted.is_empty() => Ok(only.clone()),
            _ => Err(Error::not_found(format!("the layout has no image with the tag {tag}"))
                .with_hint("name one: oci-layout://FOLDER:TAG or oci-layout://FOLDER@sha256:DIGEST")),
        }
    }

    /// The manifest and configuration for a platform.
    fn image(&self, wanted: &str, platform: &Platform) -> Result<(Manifest, ImageConfig)> {
        let mut entry = self.entry(wanted)?;
        for _ in 0..4 {
            if !is_index(&entry.media_type) {
                break;
            }
            let nested: Index = json::from_slice(&self.document(&entry.digest)?)?;
            let chosen = nested.choose(platform).cloned();
            entry = chosen.ok_or_else(|| Error::not_found(format!("the layout has no image for {platform}")))?;
        }
        let manifest: Manifest = json::from_slice(&self.document(&entry.digest)?)?;
        let config = ImageConfig::parse(self.document(&manifest.config.digest)?)?;
        if config.diff_ids().len() != manifest.layers.len() {
            return Err(Error::invalid("layers from manifest don't match image configuration"));
        }
        Ok((manifest, config))
    }
}

impl Build<'_> {
    /// What a stage begins with.
    pub fn on_layout(&self, name: &str, wanted: &str, platform: &str) -> Result<Made> {
        let (mut config, chain_ids) = self.take_layout(name, wanted, platform)?;
        config.raw.clear();
        let inherited = config.history.len();
        Ok(Made { state: State::begin(config, chain_ids, None, self.plan.escape), inherited })
    }

    pub fn layout_source(&self, name: &str, wanted: &str) -> Result<Source> {
        let (_, chain_ids) = self.take_layout(name, wanted, &self.platform)?;
        self.tree(&chain_ids, &format!("build context {name}"))
    }

    /// Its configuration, and its layers in the store for as long as the build lasts.
    fn take_layout(&self, name: &str, wanted: &str, platform: &str) -> Result<(ImageConfig, Vec<String>)> {
        let whole = || {
            let root = self.context.named.get(&name.to_ascii_lowercase());
            let root = root.ok_or_else(|| Error::not_found("it was not sent"))?;
            let own = host_platform();
            let platform = pull::platform(if platform.is_empty() { &own } else { platform })?;
            let layout = Layout::new(root);
            let (manifest, config) = layout.image(wanted, &platform)?;
            let mut chain_ids = Vec::new();
            let mut parent: Option<Digest> = None;
            for (blob, diff_id) in manifest.layers.iter().zip(config.diff_ids()) {
                let layer = self.take_layer(&layout, blob, diff_id, parent.as_ref())?;
                parent = Some(layer.chain_id);
                chain_ids.push(layer.chain_id.hex());
                self.held.lock().unwrap_or_else(PoisonError::into_inner).push(layer);
            }
            Ok((config, chain_ids))
        };
        whole().map_err(|e: Error| e.context(format_args!("build context {name}")))
    }

    fn take_layer(
        &self,
        layout: &Layout<'_>,
        blob: &Descriptor,
        diff_id: &Digest,
        parent: Option<&Digest>,
    ) -> Result<LayerRef> {
        if let Some(here) = self.engine.images.layer(&chain_id(parent, diff_id)) {
            return Ok(here);
        }
        let expected = Expected { digest: Some(blob.digest), size: Some(blob.size), diff_id: Some(*diff_id) };
        let mut silent = |_| {};
        let ingest = Ingest::new(expected, self.abort.cancel.flag(), &mut silent);
        let staged = self.engine.images.ingest(&mut layout.open(&blob.digest)?, Some(parent), ingest)?;
        self.engine.images.commit_layer(staged, parent)
    }
}
