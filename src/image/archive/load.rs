//! `docker load`: one pass over the stream, layers unpacked as they come by,
//! whatever the order of entries. What images there are is known only at the
//! end, from manifest.json or index.json.
//!
//! Invariant: nothing becomes an image before the whole stream was read without
//! error; layers that then belong to no image are dropped with `Pending`.

use super::Item;
use crate::error::{Context, Error, Kind as Class, Result};
use crate::image::compress::{self, Compression};
use crate::image::config::ImageConfig;
use crate::image::digest::{self, Digest};
use crate::image::layer::{Expected, Ingest, Staged, stream_error};
use crate::image::manifest::{
    ANNOTATION_CONTAINERD_NAME, ANNOTATION_REF_NAME, Descriptor, Index, Manifest, Platform, is_index, is_manifest,
};
use crate::image::platforms::Packed;
use crate::image::reference::Reference;
use crate::image::store::{Image, LayerRef, NewImage, Store};
use crate::storage::apply::{Limits, clean};
use crate::storage::tar::read::{Discard, Reader};
use crate::storage::tar::{BLOCK, Kind, header};
use crate::util::id;
use crate::util::json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What happens meanwhile.
pub enum Progress<'a> {
    /// Bytes of the layer read so far, and all; named by its diff ID or its entry.
    Layer { name: &'a str, current: u64, total: u64 },
}

pub struct Options<'a> {
    /// Load only images of this platform.
    pub platform: Option<Platform>,
    pub cancel: &'a AtomicBool,
    pub progress: &'a mut dyn FnMut(Progress<'_>),
}

pub struct Loaded {
    pub image: Arc<Image>,
    /// Names it has got, and the image that each name was taken from.
    pub names: Vec<(Reference, Option<Digest>)>,
}

/// JSON documents of one archive together.
const MAX_DOCUMENTS: u64 = 16 << 20;
/// Each of them has a name that is kept.
const MAX_ENTRIES: u64 = 100_000;
const MAX_DOCUMENT: u64 = 8 << 20;

/// A layer of the archive by its entry's name.
pub(super) enum Layer {
    Staged(Box<Staged>),
    /// Here already, or committed: known by diff ID.
    Known(Digest),
}

pub(super) struct Pending<'a> {
    pub store: &'a Store,
    documents: BTreeMap<String, Vec<u8>>,
    pub layers: BTreeMap<String, Layer>,
    /// Entries that are links to others.
    aliases: BTreeMap<String, String>,
    /// Keeps what is committed until the images are.
    held: Vec<LayerRef>,
}

/// Indices in indices that are followed.
const DEEPEST: usize = 4;

pub fn load(store: &Store, input: &mut dyn Read, mut options: Options<'_>) -> Result<Vec<Loaded>> {
    let input = BufReader::with_capacity(256 * 1024, compress::auto(input)?);
    let mut pending = Pending {
        store,
        documents: BTreeMap::new(),
        layers: BTreeMap::new(),
        aliases: BTreeMap::new(),
        held: Vec::new(),
    };
    pending.read(input, &mut options)?;
    let wanted = if pending.documents.contains_key("manifest.json") && !pending.has_indices() {
        pending.docker_items()?
    } else if pending.documents.contains_key("index.json") {
        pending.oci_items(options.platform.as_ref())?
    } else {
        return Err(not_an_image(store));
    };
    let mut loaded = Vec::new();
    let mut others = Vec::new();
    for item in wanted {
        let config = ImageConfig::parse(item.config.clone())?;
        let have = config.platform();
        if let Some(platform) = &options.platform
            && have.rank(platform).is_none()
        {
            others.push(have.to_string());
            continue;
        }
        loaded.push(pending.commit(item, &config)?);
    }
    match (&options.platform, loaded.is_empty() && !others.is_empty()) {
        (Some(platform), true) => {
            Err(Error::invalid(format!("requested platform ({platform}) not found: image is {}", others.join(", "))))
        }
        _ => Ok(loaded),
    }
}

/// dockerd looks for its oldest layout last and says so.
fn not_an_image(store: &Store) -> Error {
    let number = u32::from_str_radix(&id::random()[..7], 16).unwrap_or(1);
    let place = store.temporary().join(format!("docker-import-{number}"));
    Error::system(format!("open {}/repositories: no such file or directory", place.display()))
}

/// An image that the archive describes.
struct Wanted {
    config: Vec<u8>,
    layers: Vec<String>,
    names: Vec<Reference>,
    manifests: Vec<(String, Vec<u8>)>,
    /// The index's digest and its entries, if all of them are to be kept.
    packed: Option<(Digest, Vec<Packed>)>,
}

impl Pending<'_> {
    fn read(&mut self, input: impl BufRead, options: &mut Options<'_>) -> Result<()> {
        let mut reader = Reader::new(input, Discard);
        let (mut documents, mut entries) = (0, 0);
        while let Some(entry) = reader.entry().map_err(stream_error)? {
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(Error::invalid(format!("the archive has more than {MAX_ENTRIES} entries")));
            }
            let Ok(name) = String::from_utf8(clean(&entry.name, Limits::default())?) else { continue };
            match entry.kind {
                Kind::Symlink | Kind::HardLink => {
                    let target = if entry.kind == Kind::HardLink { entry.link } else { beside(&name, &entry.link) };
                    if let Ok(target) = String::from_utf8(clean(&target, Limits::default())?) {
                        self.aliases.insert(name, target);
                    }
                }
                Kind::File if entry.sparse.is_none() => {
                    if is_document(&name, entry.size, reader.payload().map_err(stream_error)?) {
                        documents += entry.size;
                        if documents > MAX_DOCUMENTS {
                            return Err(Error::invalid("the archive has too many documents"));
                        }
                        let data = reader.payload_to_vec(MAX_DOCUMENT).map_err(stream_error)?;
                        self.documents.insert(name, data);
                    } else {
                        self.layer(name, entry.size, &mut reader, options)?;
                    }
                }
                _ => {}
            }
        }
        reader.finish().map_err(stream_error)
    }

    /// A file that is no document: a layer, or nothing of ours.
    fn layer(&mut self, name: String, size: u64, payload: &mut dyn Read, options: &mut Options<'_>) -> Result<()> {
        let claimed = claimed_digest(&name);
        if let Some(known) = claimed.and_then(|d| self.find_known(&d)) {
            self.layers.insert(name, Layer::Known(known));
            return Ok(());
        }
        let mut head = Vec::with_capacity(BLOCK);
        Read::take(&mut *payload, BLOCK as u64).read_to_end(&mut head).map_err(stream_error)?;
        if !looks_like_layer(&name, &head) {
            return Ok(());
        }
        let shown = claimed.map_or_else(|| name.clone(), |d| d.hex());
        let progress = &mut options.progress;
        let mut last = 0;
        let mut report = |current: u64| {
            if current - last >= 512 * 1024 || current == size {
                last = current;
                progress(Progress::Layer { name: &shown, current, total: size });
            }
        };
        let expected = Expected { size: Some(size), ..Expected::default() };
        let ingest = Ingest::new(expected, options.cancel, &mut report);
        let staged = self.store.ingest(&mut Cursor::new(head).chain(payload), None, ingest)?;
        if name.starts_with("blobs/sha256/")
            && let Some(claimed) = claimed
            && claimed != staged.digest
        {
            return Err(Error::invalid(format!("blob {claimed} of the archive has digest {}", staged.digest)));
        }
        self.layers.insert(name, Layer::Staged(Box::new(staged)));
        Ok(())
    }

    fn find_known(&mut self, digest: &Digest) -> Option<Digest> {
        let found = self.store.layer_by_diff_id(digest).or_else(|| self.store.layer_by_blob(digest))?;
        let diff_id = found.layer.diff_id;
        self.held.push(found);
        Some(diff_id)
    }

    fn document(&self, name: &str) -> Result<&[u8]> {
        let name = self.follow(name);
        let missing = || Error::system(format!("open {name}: no such file or directory"));
        self.documents.get(&name).map(Vec::as_slice).ok_or_else(missing)
    }

    /// The name at the end of links; a loop ends nowhere.
    fn follow(&self, name: &str) -> String {
        let mut name = name.to_owned();
        for _ in 0..8 {
            match self.aliases.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        name
    }

    fn docker_items(&self) -> Result<Vec<Wanted>> {
        let items: Vec<Item> = json::from_slice(self.document("manifest.json")?)
            .map_err(|e| Error::invalid(format!("invalid manifest.json: {e}")))?;
        let mut wanted = Vec::new();
        for item in items {
            let mut names = Vec::new();
            for name in item.repo_tags.iter().flatten() {
                let reference = Reference::parse(name)?;
                if reference.tag().is_none() {
                    return Err(Error::invalid(format!("invalid tag {name:?}")));
                }
                names.push(reference);
            }
            let config = self.document(&item.config)?.to_vec();
            wanted.push(Wanted { config, layers: item.layers, names, manifests: Vec::new(), packed: None });
        }
        Ok(wanted)
    }

    pub(super) fn blob(&self, descriptor: &Descriptor) -> Result<&[u8]> {
        let data = self.document(&super::blob_name(&descriptor.digest))?;
        if Digest::of(data) != descriptor.digest {
            return Err(Error::invalid(format!("blob {} of the archive has another digest", descriptor.digest)));
        }
        Ok(data)
    }

    /// The archive tells more in index.json than manifest.json can.
    fn has_indices(&self) -> bool {
        let index = self.document("index.json").ok().and_then(|data| json::from_slice::<Index>(data).ok());
        index.is_some_and(|i| i.manifests.iter().any(|m| is_index(&m.media_type) && self.blob(m).is_ok()))
    }

    fn oci_items(&self, platform: Option<&Platform>) -> Result<Vec<Wanted>> {
        let index: Index = json::from_slice(self.document("index.json")?)
            .map_err(|e| Error::invalid(format!("invalid index.json: {e}")))?;
        let host = Platform::host();
        let mut wanted = Vec::new();
        for entry in index.manifests.iter().filter(|d| !d.is_attestation()) {
            let mut manifests = Vec::new();
            let mut packed = None;
            let mut chosen = entry.clone();
            while is_index(&chosen.media_type) {
                if manifests.len() == DEEPEST {
                    return Err(Error::invalid(format!(
                        "index {} lies more than {DEEPEST} indices deep",
                        chosen.digest
                    )));
                }
                let data = self.blob(&chosen)?;
                let nested: Index = json::from_slice(data).map_err(|e| Error::invalid(e.to_string()))?;
                manifests.push((chosen.media_type.clone(), data.to_vec()));
                let ask = platform.unwrap_or(&host);
                packed = self.whole(&nested).filter(|_| platform.is_none()).map(|p| (chosen.digest, p));
                let best = if packed.is_some() { nested.main() } else { nested.choose(ask) };
                chosen = best.cloned().ok_or_else(|| {
                    Error::not_found(format!("no matching manifest for {ask} in the manifest list entries"))
                })?;
            }
            if !is_manifest(&chosen.media_type) {
                continue;
            }
            let data = self.blob(&chosen)?;
            let manifest: Manifest = json::from_slice(data).map_err(|e| Error::invalid(e.to_string()))?;
            manifests.push((chosen.media_type.clone(), data.to_vec()));
            wanted.push(Wanted {
                config: self.blob(&manifest.config)?.to_vec(),
                layers: manifest.layers.iter().map(|l| super::blob_name(&l.digest)).collect(),
                names: annotated_name(entry).into_iter().collect(),
                manifests,
                packed,
            });
        }
        match wanted.is_empty() {
            true => Err(Error::invalid("the archive holds no image: its index.json names no manifest of one")),
            false => Ok(wanted),
        }
    }

    fn commit(&mut self, item: Wanted, config: &ImageConfig) -> Result<Loaded> {
        let diff_ids = config.diff_ids();
        if diff_ids.len() != item.layers.len() {
            return Err(Error::invalid(format!(
                "invalid manifest, layers length mismatch: expected {}, got {}",
                diff_ids.len(),
                item.layers.len()
            )));
        }
        self.store.check_depth(diff_ids.len())?;
        let mut parent: Option<Digest> = None;
        for (i, (name, diff_id)) in item.layers.iter().zip(diff_ids).enumerate() {
            let chain = digest::chain_id(parent.as_ref(), diff_id);
            if let Some(layer) = self.store.layer(&chain) {
                self.held.push(layer);
            } else {
                let layer = self.place(i, name, diff_id, parent.as_ref())?;
                self.held.push(layer);
            }
            parent = Some(chain);
        }
        let mut new = NewImage { config: item.config, manifests: item.manifests, ..NewImage::default() };
        let index = item.packed.as_ref().map(|(index, _)| *index);
        if let Some((index, packed)) = item.packed {
            let blobs = packed.iter().flat_map(|p| p.blobs().chain([&p.entry]).map(|b| b.digest)).collect();
            self.store.begin_pull(&index, &[], blobs)?;
            self.keep_blobs(&packed)?;
            new.packed = packed;
        }
        let image = self.store.put(new)?;
        if let Some(index) = index {
            self.store.end_pull(&index);
        }
        let id = image.digest();
        let replaced = self.store.tag_all(&id, &item.names)?;
        let names = item.names.into_iter().zip(replaced).collect();
        Ok(Loaded { image, names })
    }

    fn place(&mut self, i: usize, name: &str, diff_id: &Digest, parent: Option<&Digest>) -> Result<LayerRef> {
        let key = self.follow(name);
        let check = |got: &Digest| {
            if got == diff_id {
                return Ok(());
            }
            Err(Error::invalid(format!("invalid diffID for layer {i}: expected \"{diff_id}\", got \"{got}\"")))
        };
        match self.layers.remove(&key) {
            Some(Layer::Staged(staged)) => {
                check(&staged.diff_id)?;
                self.layers.insert(key, Layer::Known(*diff_id));
                self.store.commit_layer(*staged, parent)
            }
            Some(Layer::Known(known)) => {
                check(&known)?;
                self.layers.insert(key, Layer::Known(known));
                self.store.copy_layer(&known, parent)
            }
            // Archives of several images may leave out what the loader has.
            None => self.store.copy_layer(diff_id, parent).map_err(|e| match e.kind() {
                Class::NotFound => Error::system(format!("open {name}: no such file or directory")),
                _ => e,
            }),
        }
    }
}

/// A symlink's target as a name in the archive.
fn beside(name: &str, target: &[u8]) -> Vec<u8> {
    let dir = name.rfind('/').map_or("", |slash| &name[..slash]);
    [dir.as_bytes(), b"/", target].concat()
}

/// `blobs/sha256/HEX`, `HEX.tar` (skopeo, podman) and `HEX/layer.tar` say what
/// they hold; nothing is believed without a check.
fn claimed_digest(name: &str) -> Option<Digest> {
    let (dir, base) = name.rsplit_once('/').unwrap_or(("", name));
    Digest::from_hex(base)
        .or_else(|| Digest::from_hex(base.split('.').next().unwrap_or_default()))
        .or_else(|| Digest::from_hex(dir.rsplit('/').next().unwrap_or_default()))
}

fn is_document(name: &str, size: u64, head: &[u8]) -> bool {
    let named = name.ends_with(".json") || matches!(name, "oci-layout" | "repositories");
    let blob = name.starts_with("blobs/") && head.first() == Some(&b'{');
    size <= MAX_DOCUMENT && (named || blob || name.ends_with("/json") || name.ends_with("/VERSION"))
}

fn looks_like_layer(name: &str, head: &[u8]) -> bool {
    if name.ends_with(".tar") || !matches!(Compression::detect(head), Compression::None) {
        return true;
    }
    <&header::Block>::try_from(head).is_ok_and(|b| header::is_zero(b) || header::check_sum(b).is_ok())
}

/// The name that an index entry carries; a bare tag names no repository.
fn annotated_name(entry: &Descriptor) -> Option<Reference> {
    let full = entry.annotation(ANNOTATION_CONTAINERD_NAME).and_then(|n| Reference::parse(n).ok());
    full.or_else(|| {
        let name = entry.annotation(ANNOTATION_REF_NAME)?;
        // "latest" or "v1" alone is a tag of a repository that we do not know.
        (name.contains(['/', ':'])).then(|| Reference::parse(name).ok()).flatten()
    })
    .map(Reference::or_latest)
}

impl Store {
    /// A layer with this content over another parent, made from one that is
    /// here. 404 if there is none.
    fn copy_layer(&self, diff_id: &Digest, parent: Option<&Digest>) -> Result<LayerRef> {
        if let Some(layer) = self.layer(&digest::chain_id(parent, diff_id)) {
            return Ok(layer);
        }
        let source = self
            .layer_by_diff_id(diff_id)
            .ok_or_else(|| Error::not_found(format!("no layer has diff ID {diff_id}")))?;
        let cancel = AtomicBool::new(false);
        let expected = Expected { diff_id: Some(*diff_id), ..Expected::default() };
        let mut silent = |_| {};
        let ingest = Ingest::new(expected, &cancel, &mut silent);
        let mut tar = self.layer_tar(&source.chain_id)?;
        let staged = self.ingest(&mut tar, Some(parent), ingest).context("copy a layer")?;
        let layer = self.commit_layer(staged, parent)?;
        if let Some(blob) = &source.layer.blob
            && layer.layer.blob.is_none()
        {
            self.remember_blob(&layer.chain_id, blob)?;
        }
        Ok(layer)
    }
}
