//! The cache beyond this daemon: `--cache-to` writes which step gave which layer,
//! `--cache-from` reads it. In a registry it is an artifact of its own or a field
//! of the image's configuration (`inline`); in a folder of the client it is the
//! artifact as an OCI layout.
//!
//! Invariant: a step's key holds its parent's chain ID, and a layer that comes from
//! outside is verified against its diff ID before it is used. A foreign cache can
//! thus only say what a step gave, and is trusted as far as the image it came with.

use crate::api::build::Options;
use crate::engine::build::execute::Build;
use crate::engine::build::session;
use crate::engine::build::steps::base::{Made, Told};
use crate::engine::build::steps::layout::Layout;
use crate::engine::build::transfer::Root;
use crate::engine::image::progress::Lines;
use crate::engine::image::push;
use crate::error::{Context, Error, Kind, Result};
use crate::image::archive::save;
use crate::image::digest::{Digest, chain_id};
use crate::image::layer::{Expected, Ingest};
use crate::image::manifest::{Descriptor, Index, Manifest, Platform, is_index};
use crate::image::reference::Reference;
use crate::image::registry::blob::{self, BlobReader};
use crate::image::registry::client::Client;
use crate::image::registry::service::{at_endpoint, wanted};
use crate::image::store::LayerRef;
use crate::util::json;
use crate::util::order;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::sync::{Arc, PoisonError};

/// The artifact's configuration.
const MEDIA_TYPE: &str = "application/vnd.coracle.buildcache.v1+json";
/// The field of an image's configuration.
const FIELD: &str = "coracle.buildcache.v1";

/// One `--cache-from` or `--cache-to`.
#[derive(Debug, Default)]
pub struct Spec {
    pub kind: String,
    pub attrs: BTreeMap<String, String>,
}

impl Spec {
    /// `type=registry,ref=…`, or a reference alone.
    pub fn parse(text: &str) -> Self {
        if !text.contains('=') {
            return Self { kind: "registry".into(), attrs: [("ref".to_owned(), text.to_owned())].into() };
        }
        let pair = |p: &str| p.split_once('=').map_or((p.to_owned(), String::new()), |(k, v)| (k.into(), v.into()));
        let mut attrs: BTreeMap<String, String> = text.split(',').map(pair).collect();
        Self { kind: attrs.remove("type").unwrap_or_else(|| "registry".into()), attrs }
    }

    pub fn get(&self, key: &str) -> &str {
        self.attrs.get(key).map_or("", String::as_str)
    }

    fn reference(&self) -> Result<Reference> {
        Ok(Reference::parse(self.get("ref")).context("invalid cache reference")?.or_latest())
    }
}

/// Refuses what neither side of the cache knows.
pub fn check(options: &Options) -> Result<()> {
    for (flag, texts) in [("cache-from", &options.cache_from), ("cache-to", &options.cache_to)] {
        for spec in texts.iter().map(|t| Spec::parse(t)) {
            let needed = match (spec.kind.as_str(), flag) {
                ("registry", _) => "ref",
                ("local", "cache-from") => "src",
                ("local", _) => "dest",
                ("inline", "cache-to") => continue,
                (kind, _) => {
                    return Err(Error::not_implemented(format!(
                        "--{flag} type={kind} is not supported: registry, local{} are",
                        if flag == "cache-to" { " and inline" } else { "" }
                    )));
                }
            };
            if spec.get(needed).is_empty() {
                return Err(Error::invalid(format!("--{flag} type={}: {needed} is required", spec.kind)));
            }
            if needed == "dest" && options.build_id.is_empty() {
                return Err(Error::invalid("--cache-to type=local needs a client that takes files: use docker build"));
            }
            if needed == "ref" {
                spec.reference()?;
            }
            if !matches!(spec.get("mode"), "" | "min" | "max") {
                return Err(Error::invalid(format!("--{flag}: invalid mode {:?}: min or max", spec.get("mode"))));
            }
        }
    }
    Ok(())
}

/// Which step gave which layer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    key: String,
    /// Chain ID of what it stands on, hex; empty at the bottom.
    parent: String,
    diff_id: String,
    /// Of the artifact's or image's layers.
    layer: usize,
    description: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Document {
    steps: Vec<Step>,
}

/// A step of this build, whether it was carried out or taken from the cache.
#[derive(Debug, Clone)]
pub struct Trail {
    pub key: Digest,
    pub parent: String,
    pub chain: String,
    pub description: String,
}

/// A cache that was read.
pub struct Imported {
    steps: BTreeMap<String, Step>,
    layers: Vec<Descriptor>,
    from: From,
}

enum From {
    Registry(Arc<Client>),
    Folder(Root),
    /// Its layers are in the store, if they are anywhere.
    Here,
}

impl Imported {
    fn new(document: Document, layers: Vec<Descriptor>, from: From) -> Self {
        let steps = document.steps.into_iter().map(|s| (s.key.clone(), s)).collect();
        Self { steps, layers, from }
    }
}

/// The document in an image's configuration.
fn inline(config: &[u8]) -> Option<Document> {
    let mut value: serde_json::Value = json::from_slice(config).ok()?;
    let field = value.get_mut(FIELD)?.take();
    json::from_slice(&json::to_vec(&field).ok()?).ok()
}

impl Build<'_> {
    /// Reads what `--cache-from` names. What cannot be read is told and is none.
    pub fn import_caches(&self) -> Vec<Imported> {
        let mut all = Vec::new();
        for text in &self.request.options.cache_from {
            let spec = Spec::parse(text);
            let shown = if spec.kind == "local" { "the client's folder" } else { spec.get("ref") };
            let progress = self.report.phase(&format!("importing cache manifest from {shown}"));
            let result = match spec.kind.as_str() {
                "local" => self.import_folder(&spec),
                _ => self.import_image(&spec),
            };
            match result {
                Ok(found) => {
                    progress.log(format!("{} steps\n", found.steps.len()));
                    progress.done("");
                    all.push(found);
                }
                Err(e) => progress.failed(&e),
            }
        }
        all
    }

    fn import_image(&self, spec: &Spec) -> Result<Imported> {
        let reference = spec.reference()?;
        if let Some(document) = self.engine.images.by_reference(&reference).and_then(|i| inline(&i.config.raw)) {
            return Ok(Imported::new(document, Vec::new(), From::Here));
        }
        let settings = self.engine.registries.settings();
        let credentials = self.credentials(&reference);
        let cancel = &self.abort.cancel;
        let version = wanted(&reference);
        let fetch = |client: &Arc<Client>| client.manifest(&version);
        let (client, mut fetched) = at_endpoint(&settings, &reference, "pull", &credentials, cancel, fetch)?;
        if is_index(&fetched.media_type) {
            let index: Index = json::from_slice(&fetched.bytes)?;
            let entry =
                index.choose(&Platform::host()).ok_or_else(|| Error::not_found("no manifest of this platform"))?;
            fetched = client.manifest(&entry.digest.to_string())?;
        }
        let manifest: Manifest = json::from_slice(&fetched.bytes)?;
        let config = blob::document(&client, manifest.config.digest, manifest.config.size)?;
        let document = match manifest.config.media_type.as_str() {
            MEDIA_TYPE => Some(json::from_slice(&config)?),
            _ => inline(&config),
        };
        let document = document
            .ok_or_else(|| Error::not_found("it holds no build cache: build it with --cache-to type=inline"))?;
        Ok(Imported::new(document, manifest.layers, From::Registry(client)))
    }

    fn import_folder(&self, spec: &Spec) -> Result<Imported> {
        let root = self.context.named.get(spec.get("src"));
        let root = root.ok_or_else(|| Error::not_found("the folder was not sent"))?.clone();
        let layout = Layout::new(&root);
        let index = layout.index()?;
        let entry = index.manifests.first().ok_or_else(|| Error::not_found("its index is empty"))?;
        let manifest: Manifest = json::from_slice(&layout.document(&entry.digest)?)?;
        let document = json::from_slice(&layout.document(&manifest.config.digest)?)?;
        Ok(Imported::new(document, manifest.layers, From::Folder(root)))
    }

    /// The layer of a step from a foreign cache, taken in.
    pub fn from_afar(&self, key: &Digest, parent: &str) -> Option<LayerRef> {
        let name = key.hex();
        for imported in self.imported.iter() {
            let Some(step) = imported.steps.get(&name).filter(|s| s.parent == parent) else { continue };
            match self.take_step(imported, step, key) {
                Ok(layer) => return Some(layer),
                Err(e) if e.kind() == Kind::Cancelled => return None,
                Err(e) => crate::warn!("a cached layer cannot be had", "step" = step.description, "error" = e),
            }
        }
        None
    }

    fn take_step(&self, imported: &Imported, step: &Step, key: &Digest) -> Result<LayerRef> {
        let parent = Digest::from_hex(&step.parent);
        let diff_id: Digest = step.diff_id.parse()?;
        let chain = chain_id(parent.as_ref(), &diff_id);
        let layer = match self.engine.images.layer(&chain) {
            Some(here) => here,
            None => {
                let descriptor = imported.layers.get(step.layer);
                let descriptor = descriptor.ok_or_else(|| Error::not_found("the layer is not in the cache"))?;
                let expected =
                    Expected { digest: Some(descriptor.digest), size: Some(descriptor.size), diff_id: Some(diff_id) };
                let mut input: Box<dyn Read> = match &imported.from {
                    From::Registry(client) => {
                        Box::new(BlobReader::new(client.clone(), descriptor.digest, descriptor.size))
                    }
                    From::Folder(root) => Box::new(Layout::new(root).open(&descriptor.digest)?),
                    From::Here => return Err(Error::not_found("the image's layer is gone")),
                };
                let mut silent = |_| {};
                let ingest = Ingest::new(expected, self.abort.cancel.flag(), &mut silent);
                let staged = self.engine.images.ingest(&mut input, Some(parent.as_ref()), ingest)?;
                self.engine.images.commit_layer(staged, parent.as_ref())?
            }
        };
        self.engine.builds.cache.remember(key, &layer.chain_id, &step.description)?;
        Ok(layer)
    }

    pub fn note(&self, key: Digest, parent: String, layer: &LayerRef, description: &str) {
        let trail = Trail { key, parent, chain: layer.chain_id.hex(), description: description.to_owned() };
        self.trail.lock().unwrap_or_else(PoisonError::into_inner).push(trail);
    }

    /// The steps that count, and their layers, each once.
    fn collected(&self, made: &[&Made], all: bool) -> Result<(Document, Vec<LayerRef>)> {
        let own: HashSet<&String> = made.iter().flat_map(|m| &m.state.chain_ids).collect();
        let mut layers: Vec<LayerRef> = Vec::new();
        let mut document = Document::default();
        for step in self.trail.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if !all && !own.contains(&step.chain) {
                continue;
            }
            let Some(chain) = Digest::from_hex(&step.chain) else { continue };
            let at = match layers.iter().position(|l| l.chain_id == chain) {
                Some(at) => at,
                None => {
                    let layer = self.engine.images.layer(&chain);
                    layers.push(layer.ok_or_else(|| Error::system(format!("layer {chain} does not exist")))?);
                    layers.len() - 1
                }
            };
            document.steps.push(Step {
                key: step.key.hex(),
                parent: step.parent.clone(),
                diff_id: layers[at].layer.diff_id.to_string(),
                layer: at,
                description: step.description.clone(),
            });
        }
        order::sort_by(&mut document.steps, |a, b| a.key.cmp(&b.key));
        document.steps.dedup_by(|a, b| a.key == b.key);
        Ok((document, layers))
    }

    /// With `type=inline`, the configuration's bytes with the cache in them.
    pub fn with_inline_cache(&self, made: &Made, config: Vec<u8>) -> Result<Vec<u8>> {
        let options = &self.request.options;
        let argument = options.argument("BUILDKIT_INLINE_CACHE");
        let asked = options.cache_to.iter().any(|t| Spec::parse(t).kind == "inline");
        if !asked && !argument.is_some_and(|v| matches!(v, "1" | "true")) {
            return Ok(config);
        }
        let (mut document, layers) = self.collected(&[made], false)?;
        for step in &mut document.steps {
            let chain = layers[step.layer].chain_id.hex();
            step.layer = made.state.chain_ids.iter().position(|c| *c == chain).unwrap_or(usize::MAX);
        }
        let mut value: serde_json::Value = json::from_slice(&config)?;
        value[FIELD] = serde_json::json!({ "steps": document.steps });
        Ok(json::to_vec(&value)?)
    }

    /// Writes what `--cache-to` asks for.
    pub fn export_caches(&self, made: &[Arc<Made>]) -> Result<()> {
        let made: Vec<&Made> = made.iter().map(Arc::as_ref).collect();
        for (n, text) in self.request.options.cache_to.iter().enumerate() {
            let spec = Spec::parse(text);
            if spec.kind == "inline" {
                continue;
            }
            let progress = self.report.phase(&format!("exporting cache to {}", spec.kind));
            let (document, layers) = self.collected(&made, spec.get("mode") == "max")?;
            let config = json::to_vec(&document)?;
            let result = match spec.kind.as_str() {
                "local" => self.session.take(&format!("cache:{n}"), self.abort).and_then(|socket| {
                    let write = |out: &mut dyn std::io::Write| {
                        save::artifact(&self.engine.images, &layers, (MEDIA_TYPE, &config), out)
                    };
                    session::send(socket, write, self.abort)
                }),
                _ => spec.reference().and_then(|reference| {
                    let mut told = Told::new(&progress);
                    let credentials = self.credentials(&reference);
                    let request = push::Request { reference, platform: None, credentials, form: None };
                    let mut lines = Lines::new(&mut told);
                    push::artifact(
                        self.engine,
                        &request,
                        &layers,
                        (MEDIA_TYPE, &config),
                        &mut lines,
                        &self.abort.cancel,
                    )
                }),
            };
            match result {
                Ok(()) => progress.done(""),
                Err(e) if spec.get("ignore-error") == "true" => progress.failed(&e),
                Err(e) => {
                    let e = e.context("export the cache");
                    progress.failed(&e);
                    return Err(e);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs() {
        let spec = Spec::parse("type=registry,ref=a/b:c,mode=max");
        assert_eq!((spec.kind.as_str(), spec.get("ref"), spec.get("mode")), ("registry", "a/b:c", "max"));
        assert_eq!(Spec::parse("a/b").get("ref"), "a/b");
        let options = |to: &str| Options { cache_to: vec![to.to_owned()], ..Options::default() };
        assert!(check(&options("type=inline")).is_ok());
        for (text, part) in [
            ("type=gha", "type=gha is not supported"),
            ("type=local", "dest is required"),
            ("type=registry,ref=a,mode=x", "invalid mode"),
        ] {
            assert!(check(&options(text)).unwrap_err().message().contains(part), "{text}");
        }
    }

    #[test]
    fn a_configuration_without_a_cache() {
        assert!(inline(b"{}").is_none());
        let document = inline(br#"{"coracle.buildcache.v1":{"steps":[{"key":"k","layer":2}]}}"#).unwrap();
        assert_eq!((document.steps[0].key.as_str(), document.steps[0].layer), ("k", 2));
    }
}
