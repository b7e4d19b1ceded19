//! Pulling: what a name stands for at its registry, then its layers, each
//! unpacked as it arrives. The request's thread does the talking and listens to
//! the transfers, which run on their own threads and are shared between pulls.
//!
//! Invariant: the image's record is written after all its layers, so that a
//! pull that ends anywhere leaves no half image; the layers that did arrive
//! stay for the next try.

use super::progress::Lines;
use super::{layers_in_use, whole};
use crate::engine::Engine;
use crate::engine::events;
use crate::error::{Error, Kind, Result};
use crate::image::config::ImageConfig;
use crate::image::digest::{Digest, chain_ids};
use crate::image::layer::{Expected, Ingest, Staged};
use crate::image::manifest::{Descriptor, Index, Platform};
use crate::image::reference::Reference;
use crate::image::registry::auth::Credentials;
use crate::image::registry::blob::{self, BlobReader};
use crate::image::registry::client::{Client, Fetched};
use crate::image::registry::document::{self, Document};
use crate::image::registry::fault::{Class, Fault};
use crate::image::registry::service::{self, at_endpoint, find_manifest, wanted};
use crate::image::registry::transfer::{Handle, Job, Step, Update, Watch};
use crate::image::registry::transport::Cancel;
use crate::image::store::{Image, NewImage};
use crate::image::unfinished::Partial;
use crate::storage::behind::Once;
use crate::util::id::short;
use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How long a client that went away may go unnoticed while nothing arrives.
const GLANCE: Duration = Duration::from_millis(200);

pub struct Request {
    /// Without tag and digest: all tags of the repository.
    pub reference: Reference,
    pub platform: Option<Platform>,
    /// Every platform that there is.
    pub whole: bool,
    pub credentials: Credentials,
}

/// `fromImage` and `tag` of the API; the tag may be a digest.
pub fn reference(from: &str, tag: &str) -> Result<Reference> {
    let reference = Reference::parse(from.strip_suffix(':').unwrap_or(from))?;
    if tag.is_empty() {
        return Ok(reference);
    }
    match tag.parse::<Digest>() {
        Ok(digest) => Ok(reference.with_digest(digest)),
        Err(_) => reference.with_tag(tag).ok_or_else(|| Error::invalid("invalid tag format")),
    }
}

pub fn platform(text: &str) -> Result<Platform> {
    Platform::parse(text)
}

/// Pulls and tells about it. An error after the first line is told in-band and
/// is none to the caller.
pub fn pull(engine: &Arc<Engine>, request: &Request, lines: &mut Lines<'_>, cancel: &Arc<Cancel>) -> Result<()> {
    match run(engine, request, lines, cancel) {
        Err(e) if lines.started() && e.kind() != Kind::Cancelled => lines.error(&e.told()),
        result => result,
    }
}

fn run(engine: &Arc<Engine>, request: &Request, lines: &mut Lines<'_>, cancel: &Arc<Cancel>) -> Result<()> {
    let settings = engine.registries.settings();
    let reference = &request.reference;
    let credentials = &request.credentials;
    let explain = |f: Fault| f.for_pull(&reference.familiar_name(), &reference.familiar());
    let mut updated = false;
    let mut warning = None;
    if reference.is_name_only() {
        let (client, tags) =
            at_endpoint(&settings, reference, "pull", credentials, cancel, |c| c.tags()).map_err(explain)?;
        for tag in tags {
            let Some(tagged) = reference.with_tag(&tag) else { continue };
            let found = find_manifest(&client, &tag);
            let fetched = found.and_then(|f| f.whole(&client)).map_err(explain)?;
            let (changed, said) = one(engine, request, &client, &tagged, fetched, lines, cancel)?;
            updated |= changed;
            warning = warning.or(said);
        }
    } else {
        let version = wanted(reference);
        // Of a repository that is new here HEAD can tell nothing that GET does not.
        let new = engine.images.repository(reference).is_empty();
        let (client, fetched) = at_endpoint(&settings, reference, "pull", credentials, cancel, |client| {
            if new {
                return client.manifest(&version);
            }
            let found = find_manifest(client, &version)?;
            match known(engine, request, &found) {
                Some(fetched) => Ok(fetched),
                None => found.whole(client),
            }
        })
        .map_err(explain)?;
        (updated, warning) = one(engine, request, &client, reference, fetched, lines, cancel)?;
    }
    let verb = if updated { "Downloaded newer image" } else { "Image is up to date" };
    lines.status(&format!("Status: {verb} for {}", reference.familiar()))?;
    warning.map_or(Ok(()), |w| lines.status(&w))
}

/// A manifest that an image here came with need not be fetched again: HEAD does
/// not count towards a registry's pull limit, GET does.
fn known(engine: &Engine, request: &Request, found: &service::Found) -> Option<Fetched> {
    let service::Found::Headline(headline) = found else { return None };
    let by_digest = engine.images.by_reference(&request.reference.with_digest(headline.digest))?;
    let descriptor = by_digest.manifests.iter().find(|m| m.digest == headline.digest)?;
    let bytes = engine.images.read_blob(&headline.digest).ok()?;
    (Digest::of(&bytes) == headline.digest).then(|| Fetched {
        media_type: descriptor.media_type.clone(),
        digest: headline.digest,
        bytes,
    })
}

/// One tag or digest. True if a name points elsewhere than before; and what is
/// to be said of its platform at the end.
fn one(
    engine: &Arc<Engine>,
    request: &Request,
    client: &Arc<Client>,
    reference: &Reference,
    top: Fetched,
    lines: &mut Lines<'_>,
    cancel: &Arc<Cancel>,
) -> Result<(bool, Option<String>)> {
    let familiar = reference.familiar();
    let explain = |f: Fault| f.for_pull(&reference.familiar_name(), &familiar);
    let label = match (reference.digest(), reference.tag()) {
        (None, Some(tag)) => tag,
        _ => familiar.as_str(),
    };
    let document = document::parse(&top, &familiar).map_err(explain)?;
    lines.status_of(label, &format!("Pulling from {}", reference.path()))?;
    let top_digest = top.digest;
    let mut manifests = vec![(top.media_type, top.bytes)];
    let (manifest, whole) = match document {
        Document::Image(image) => (*image, None),
        Document::Index(index) => {
            let fetched = image_of_index(engine, client, entry(&index, request).map_err(explain)?).map_err(explain)?;
            let Document::Image(image) = document::parse(&fetched, &familiar).map_err(explain)? else {
                return Err(Error::system(format!("{familiar}: an index within an index")));
            };
            manifests.push((fetched.media_type, fetched.bytes));
            (*image, Some(index))
        }
    };
    let id = manifest.config.digest;
    if let Some(here) = engine.images.by_reference(reference)
        && here.packed.iter().any(|p| p.config.digest == id && holds(&here, &manifests[..1]))
    {
        lines.status(&format!("Digest: {top_digest}"))?;
        return Ok((false, None));
    }
    let rest = |lines: &mut Lines<'_>| match &whole {
        Some(index) if request.whole => whole::fetch(engine, client, (top_digest, index), lines, cancel),
        _ => Ok(Vec::new()),
    };
    let image = match engine.images.get(&id) {
        Some(image) if holds(&image, &manifests) && !request.whole => image,
        Some(image) => {
            let (config, parent) = (image.config.raw.clone(), image.parent.clone());
            engine.images.put(NewImage { config, parent, manifests, packed: rest(lines)? })?
        }
        None => {
            let raw = blob::document(client, id, manifest.config.size).map_err(explain)?;
            let config = ImageConfig::parse(raw)?;
            check(engine, &config, &manifest.layers)?;
            let held = fetch_layers(engine, client, &config, &manifest.layers, lines, cancel)?;
            let packed = rest(lines)?;
            let image = engine.images.put(NewImage { config: config.raw, parent: None, manifests, packed })?;
            drop(held);
            engine.images.end_pull(&id);
            image
        }
    };
    engine.images.end_pull(&top_digest);
    let updated = name(engine, reference, &image, top_digest)?;
    lines.status(&format!("Digest: {top_digest}"))?;
    Ok((updated, platform_warning(request, &image, &familiar)))
}

/// The image of an index that is unpacked.
fn entry<'a>(index: &'a Index, request: &Request) -> Result<&'a Descriptor, Fault> {
    match index.main().filter(|_| request.whole) {
        Some(entry) => Ok(entry),
        None => document::choose(index, &request.platform.clone().unwrap_or_else(Platform::host)),
    }
}

/// The manifest that an index names, from the store if it is there.
pub(super) fn image_of_index(engine: &Engine, client: &Client, entry: &Descriptor) -> Result<Fetched, Fault> {
    if let Ok(bytes) = engine.images.read_blob(&entry.digest)
        && Digest::of(&bytes) == entry.digest
    {
        return Ok(Fetched { media_type: entry.media_type.clone(), digest: entry.digest, bytes });
    }
    let fetched = client.manifest(&entry.digest.to_string())?;
    if fetched.bytes.len() as u64 != entry.size {
        let (got, said) = (fetched.bytes.len(), entry.size);
        let message = format!("manifest {} has {got} bytes where its index says {said}", entry.digest);
        return Err(Fault::new(Class::Corrupt, message));
    }
    Ok(fetched)
}

fn holds(image: &Image, manifests: &[(String, Vec<u8>)]) -> bool {
    manifests.iter().all(|(_, bytes)| {
        let digest = Digest::of(bytes);
        image.manifests.iter().any(|m| m.digest == digest)
    })
}

fn check(engine: &Engine, config: &ImageConfig, layers: &[Descriptor]) -> Result<()> {
    if !config.os.is_empty() && config.os != "linux" {
        return Err(Error::system(format!("image operating system \"{}\" cannot be used on this platform", config.os)));
    }
    if config.diff_ids().len() != layers.len() {
        return Err(Error::system("layers from manifest don't match image configuration"));
    }
    engine.images.check_depth(layers.len()).map_err(|e| e.context("failed to register layer"))
}

/// Tag and digest point at the image from now on. True if one of them did not.
fn name(engine: &Engine, reference: &Reference, image: &Image, digest: Digest) -> Result<bool> {
    let id = image.digest();
    let pinned = reference.with_digest(digest);
    let mut updated = engine.images.by_reference(&pinned).is_none_or(|i| i.digest() != id);
    if updated {
        engine.images.tag(&id, &pinned)?;
    }
    if reference.digest().is_none() {
        let before = engine.images.by_reference(reference).map(|i| i.digest());
        engine.images.tag(&id, reference)?;
        updated = before != Some(id);
    }
    let familiar = reference.familiar();
    let mut attributes = image.config.run.labels.clone().unwrap_or_default();
    attributes.insert("name".into(), reference.familiar_name());
    engine.events.publish(events::Kind::Image, "pull", familiar, attributes);
    Ok(updated)
}

fn platform_warning(request: &Request, image: &Image, familiar: &str) -> Option<String> {
    let platform = request.platform.as_ref()?;
    let have = image.platform();
    have.rank(platform).is_none().then(|| {
        format!(
            "WARNING: image with reference {familiar} was found but its platform ({have}) does not match the specified platform ({platform})"
        )
    })
}

/// A layer on its way, from the pull's point of view.
pub(super) struct Wanted {
    /// Of its transfer: the chain ID.
    pub key: Digest,
    /// Twelve digits of the blob's digest.
    pub id: String,
    /// Held, so that it goes on; none if the layer was here before.
    pub _watch: Option<Watch>,
    pub done: bool,
    pub told: bool,
}

/// What must live until the image's record does: transfers and pinned layers.
type Held = (Vec<Wanted>, Vec<crate::image::store::LayerRef>);

fn fetch_layers(
    engine: &Arc<Engine>,
    client: &Arc<Client>,
    config: &ImageConfig,
    layers: &[Descriptor],
    lines: &mut Lines<'_>,
    cancel: &Arc<Cancel>,
) -> Result<Held> {
    let chains = chain_ids(config.diff_ids());
    let id = config.id();
    client.rest();
    engine.images.begin_pull(&id, &chains, layers.iter().map(|l| l.digest).collect())?;
    let (to, from) = channel();
    let mut all: Vec<Wanted> = Vec::with_capacity(layers.len());
    let mut pinned = Vec::new();
    for (i, (layer, chain)) in layers.iter().zip(&chains).enumerate() {
        let id = short(&layer.digest.to_string()).to_owned();
        if let Some(here) = engine.images.layer(chain) {
            pinned.push(here);
            lines.step(&id, "Already exists")?;
            all.push(Wanted { key: *chain, id, _watch: None, done: true, told: true });
            continue;
        }
        lines.step(&id, "Pulling fs layer")?;
        let parent = i.checked_sub(1).map(|p| chains[p]);
        let plan = Plan {
            engine: engine.clone(),
            client: client.clone(),
            layer: layer.clone(),
            diff_id: config.diff_ids()[i],
            parent,
        };
        let watch = engine
            .registries
            .downloads
            .join(client.source(), *chain, parent, to.clone(), move |cancel| plan.job(cancel))
            .map_err(Error::from)?;
        all.push(Wanted { key: *chain, id, _watch: Some(watch), done: false, told: false });
    }
    drop(to);
    let Err(fault) = listen(&mut all, &from, lines, cancel) else { return Ok((all, pinned)) };
    drop((all, pinned));
    if !fault.resumable() {
        engine.images.end_pull(&id);
        engine.images.collect(&|| layers_in_use(engine))?;
    }
    if fault.class == Class::NoSpace {
        engine.images.make_room(&|| layers_in_use(engine))?;
    }
    Err(fault.into())
}

/// Tells the client what the transfers do until all have ended.
pub(super) fn listen(
    all: &mut [Wanted],
    from: &Receiver<Update>,
    lines: &mut Lines<'_>,
    cancel: &Cancel,
) -> Result<(), Fault> {
    while all.iter().any(|w| !w.done) {
        cancel.check()?;
        let update = match from.recv_timeout(GLANCE) {
            Ok(update) => update,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Fault::new(Class::Local, "internal error: a layer's transfer ended without a word"));
            }
        };
        let Some(at) = all.iter().position(|w| w.key == update.layer) else { continue };
        let id = all[at].id.clone();
        match update.step {
            Step::Waiting => lines.step(&id, "Waiting")?,
            Step::Downloading { current, total } => lines.bytes(&id, "Downloading", current, total)?,
            Step::Retrying { seconds } => {
                let plural = if seconds == 1 { "" } else { "s" };
                lines.step(&id, &format!("Retrying in {seconds} second{plural}"))?;
            }
            Step::Verifying => lines.step(&id, "Verifying Checksum")?,
            Step::Downloaded => lines.step(&id, "Download complete")?,
            Step::Complete => {
                all[at].done = true;
                // In the image's order, as Docker completes them.
                for w in all.iter_mut().take_while(|w| w.done).filter(|w| !w.told) {
                    w.told = true;
                    lines.step(&w.id, "Pull complete")?;
                }
            }
            Step::Failed(class, message, hint) => {
                return Err(Fault { class, request: None, message, hint });
            }
        }
    }
    Ok(())
}

/// One layer: all that its transfer needs, wherever the pull has gone.
struct Plan {
    engine: Arc<Engine>,
    client: Arc<Client>,
    layer: Descriptor,
    diff_id: Digest,
    parent: Option<Digest>,
}

/// What of a layer is here before it is asked for.
enum Given {
    Nothing,
    Partial(Partial),
    /// All of it, as a blob.
    Stored,
}

impl Plan {
    fn job(self, cancel: Arc<Cancel>) -> Job {
        Box::new(move |handle| self.run(handle, &cancel))
    }

    fn run(self, handle: &Arc<Handle>, cancel: &Arc<Cancel>) -> Result<(), Fault> {
        let total = self.layer.size;
        handle.report(Step::Downloading { current: 0, total });
        let stored =
            self.engine.images.blob(&self.layer.digest).filter(|f| f.metadata().is_ok_and(|m| m.len() == total));
        let staged = match stored {
            Some(file) => self.unpack(handle, cancel, &mut Once::new(file), Given::Stored)?,
            None => self.download(handle, cancel)?,
        };
        cancel.check()?;
        let held = self.engine.images.commit_layer(staged, self.parent.as_ref()).map_err(|e| self.refused(e))?;
        self.engine.images.remember_blob(&held.chain_id, &self.layer).map_err(|e| self.refused(e))?;
        handle.hold(Box::new(held));
        Ok(())
    }

    fn download(&self, handle: &Arc<Handle>, cancel: &Arc<Cancel>) -> Result<Staged, Fault> {
        let total = self.layer.size;
        loop {
            let partial = self.engine.images.partial(&self.layer.digest, total);
            let have = partial.as_ref().map_or(0, |p| p.length);
            // Connections of its own: the pull that asked first may go away while
            // others still wait for this layer.
            let client = Arc::new(self.client.fork(cancel));
            let teller = handle.clone();
            let mut reader = BlobReader::new(client, self.layer.digest, total)
                .starting_at(have)
                .on_retry(move |seconds| teller.report(Step::Retrying { seconds }));
            let given = partial.map_or(Given::Nothing, Given::Partial);
            match self.unpack(handle, cancel, &mut reader, given) {
                Ok(staged) => return Ok(staged),
                Err(fault) => match reader.take_fault() {
                    Some(fault) => return Err(fault),
                    // A power cut may have spoilt what an earlier try left; it is gone now.
                    None if have > 0 && fault.class == Class::Local => {}
                    None => return Err(fault),
                },
            }
        }
    }

    fn unpack(
        &self,
        handle: &Arc<Handle>,
        cancel: &Arc<Cancel>,
        reader: &mut dyn Read,
        given: Given,
    ) -> Result<Staged, Fault> {
        let total = self.layer.size;
        let mut ended = false;
        let mut progress = |current: u64| {
            if current < total {
                handle.report(Step::Downloading { current, total });
            } else if !ended {
                ended = true;
                handle.report(Step::Verifying);
                handle.report(Step::Downloaded);
            }
        };
        let expected = Expected { digest: Some(self.layer.digest), size: Some(total), diff_id: Some(self.diff_id) };
        let mut ingest = Ingest::new(expected, cancel.flag(), &mut progress);
        match given {
            Given::Nothing => {}
            Given::Partial(partial) => ingest.partial = Some(partial),
            Given::Stored => ingest.stored = true,
        }
        self.engine.images.ingest(reader, Some(self.parent.as_ref()), ingest).map_err(|e| self.refused(e))
    }

    /// Names the layer in whatever went wrong while it was unpacked.
    fn refused(&self, e: Error) -> Fault {
        let mut fault = Fault::from(e);
        if matches!(fault.class, Class::Local | Class::NoSpace)
            && !fault.message.contains(&self.layer.digest.to_string())
        {
            fault.message = format!("failed to register layer {}: {}", self.layer.digest, fault.message);
        }
        fault
    }
}
