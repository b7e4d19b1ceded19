//! Pushing: layers in parallel, then the configuration, the manifest last, so
//! that a registry never has a manifest without its content. Runs on the
//! request's thread and on one thread per upload.
//!
//! What was pulled goes out as it came: the kept blob and the original manifest
//! bytes, hence the same digest. A layer without a kept blob is compressed on
//! the way, and remembered by its digest for the next time.

use super::inspect;
use super::progress::Lines;
use crate::engine::{Engine, events};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{
    DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, Descriptor, Manifest, OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST,
    Platform, is_index, is_manifest,
};
use crate::image::platforms::Blobs;
use crate::image::reference::Reference;
use crate::image::registry::auth::Credentials;
use crate::image::registry::client::Client;
use crate::image::registry::fault::{Class, Fault};
use crate::image::registry::service::at_endpoint;
use crate::image::registry::transport::Cancel;
use crate::image::registry::upload::{Known, Mount};
use crate::image::registry::url::Url;
use crate::image::store::{Image, LayerRef};
use crate::storage::behind::Once;
use crate::util::id::short;
use crate::util::json;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const GLANCE: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_millis(100);
const STACK: usize = 256 << 10;
/// More neighbours than this are not asked for one blob.
const MAX_MOUNTS: usize = 3;

pub struct Request {
    /// Without tag: every tag of the repository.
    pub reference: Reference,
    pub platform: Option<Platform>,
    pub credentials: Credentials,
    /// None: as it came, or as the original writes what never was anywhere.
    pub form: Option<Form>,
}

/// A manifest made anew, as a build asks for it.
#[derive(Debug, Clone)]
pub struct Form {
    /// OCI's media types instead of Docker's.
    pub oci: bool,
    pub annotations: BTreeMap<String, String>,
}

impl Form {
    fn manifest(&self, config: Known, layers: &[Known]) -> Result<(String, Vec<u8>)> {
        if !self.oci {
            return Ok((DOCKER_MANIFEST.to_owned(), fresh_manifest(config, layers)));
        }
        let layers = layers.iter().map(|l| Descriptor::new(OCI_LAYER_GZIP, l.digest, l.size)).collect();
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.into(),
            config: Descriptor::new(OCI_CONFIG, config.digest, config.size),
            layers,
            annotations: (!self.annotations.is_empty()).then(|| self.annotations.clone()),
        };
        Ok((OCI_MANIFEST.to_owned(), json::to_vec(&manifest)?))
    }
}

/// The name in the path and the `tag` of the query.
pub fn reference(name: &str, tag: &str) -> Result<Reference> {
    let reference = Reference::parse(name)?;
    if tag.is_empty() {
        return Ok(reference);
    }
    reference.with_tag(tag).ok_or_else(|| Error::invalid("invalid tag format"))
}

/// `{"os":…,"architecture":…,"variant":…}`, as newer parameters have it.
pub fn platform(json: &str) -> Result<Platform> {
    let platform: Platform =
        json::from_str(json).map_err(|e| Error::invalid(format!("failed to parse platform: {e}")))?;
    if platform.os.is_empty() || platform.architecture.is_empty() {
        return Err(Error::invalid("both OS and Architecture must be provided"));
    }
    Ok(platform.normalised())
}

/// Pushes and tells about it. An error after the first line is told in-band.
pub fn push(engine: &Arc<Engine>, request: &Request, lines: &mut Lines<'_>, cancel: &Arc<Cancel>) -> Result<()> {
    match run(engine, request, lines, cancel) {
        Err(e) if lines.started() && e.kind() != Kind::Cancelled => lines.error(e.message()),
        result => result,
    }
}

fn run(engine: &Arc<Engine>, request: &Request, lines: &mut Lines<'_>, cancel: &Arc<Cancel>) -> Result<()> {
    let reference = &request.reference;
    let images = local_images(engine, reference);
    let images: Vec<_> = images.into_iter().map(|(t, i)| of_platform(engine, request, t, i)).collect::<Result<_>>()?;
    lines.status(&format!("The push refers to repository [{}]", reference.name()))?;
    if reference.digest().is_some() {
        return Err(Error::invalid("cannot push a digest reference"));
    }
    if images.is_empty() {
        let name = reference.familiar_name();
        return Err(Error::not_found(format!("An image does not exist locally with the tag: {name}")));
    }
    let settings = engine.registries.settings();
    let (client, ()) = at_endpoint(&settings, reference, "push,pull", &request.credentials, cancel, |_| Ok(()))?;
    for (tagged, image) in &images {
        one(engine, &client, tagged, image, request, lines)?;
    }
    Ok(())
}

/// Something that is no image: layers that are here, and a document about them.
pub fn artifact(
    engine: &Arc<Engine>,
    request: &Request,
    layers: &[LayerRef],
    (media_type, document): (&str, &[u8]),
    lines: &mut Lines<'_>,
    cancel: &Arc<Cancel>,
) -> Result<()> {
    let reference = &request.reference;
    let settings = engine.registries.settings();
    let (client, ()) = at_endpoint(&settings, reference, "push,pull", &request.credentials, cancel, |_| Ok(()))?;
    let jobs: Vec<Job> = layers.iter().map(|layer| Job::new(engine, reference, layer, None)).collect();
    let pushed = push_layers(engine, &client, &jobs, lines)?;
    let config = Known { digest: Digest::of(document), size: document.len() as u64 };
    push_config(&client, config, document).map_err(explain)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.into(),
        config: Descriptor::new(media_type, config.digest, config.size),
        layers: pushed.iter().map(|l| Descriptor::new(OCI_LAYER_GZIP, l.digest, l.size)).collect(),
        annotations: None,
    };
    let tag = reference.tag().unwrap_or("latest");
    client.put_manifest(tag, OCI_MANIFEST, &json::to_vec(&manifest)?).map_err(explain)
}

fn local_images(engine: &Engine, reference: &Reference) -> Vec<(Reference, Arc<Image>)> {
    if reference.is_name_only() {
        let all = engine.images.repository(reference);
        return all
            .into_iter()
            .filter(|(name, _)| name.digest().is_none())
            .filter_map(|(name, id)| Some((name, engine.images.get(&id)?)))
            .collect();
    }
    engine.images.by_reference(reference).map(|image| (reference.clone(), image)).into_iter().collect()
}

fn of_platform(
    engine: &Engine,
    request: &Request,
    tagged: Reference,
    image: Arc<Image>,
) -> Result<(Reference, Arc<Image>)> {
    let Some(wanted) = &request.platform else { return Ok((tagged, image)) };
    let have = image.platform();
    match engine.images.for_platform(image, wanted)? {
        Some(image) => Ok((tagged, image)),
        None => Err(inspect::mismatch(&tagged.familiar(), &have, wanted)),
    }
}

/// Docker shows what went wrong with credentials without the request's URL.
fn explain(fault: Fault) -> Error {
    match fault.class {
        Class::Unauthorized | Class::NoCredentials | Class::Denied => Fault { request: None, ..fault }.into(),
        _ => fault.into(),
    }
}

fn one(
    engine: &Arc<Engine>,
    client: &Arc<Client>,
    reference: &Reference,
    image: &Image,
    request: &Request,
    lines: &mut Lines<'_>,
) -> Result<()> {
    // With a platform the index stays here: its manifest alone is asked for.
    let whole = Blobs::of(&engine.images, image).filter(|b| request.platform.is_none() || !is_index(&b.top.media_type));
    let (media_type, bytes) = match whole {
        Some(blobs) => push_blobs(engine, client, reference, &blobs, lines)?,
        None => push_image(engine, client, reference, (image, request.form.as_ref()), lines)?,
    };
    let tag = reference.tag().unwrap_or("latest");
    client.put_manifest(tag, &media_type, &bytes).map_err(explain)?;
    let digest = Digest::of(&bytes);
    if engine.images.get(&image.digest()).is_some() {
        engine.images.tag(&image.digest(), &reference.with_digest(digest))?;
    }
    let size = bytes.len();
    lines.status(&format!("{tag}: digest: {digest} size: {size}"))?;
    lines.aux(&json!({ "Tag": tag, "Digest": digest.to_string(), "Size": size }))?;
    let mut attributes = image.config.run.labels.clone().unwrap_or_default();
    attributes.insert("name".into(), reference.familiar_name());
    engine.events.publish(events::Kind::Image, "push", reference.familiar(), attributes);
    Ok(())
}

/// Everything below the image's own manifest, which is given back.
fn push_image(
    engine: &Arc<Engine>,
    client: &Arc<Client>,
    reference: &Reference,
    (image, form): (&Image, Option<&Form>),
    lines: &mut Lines<'_>,
) -> Result<(String, Vec<u8>)> {
    let layers: Vec<LayerRef> = crate::image::digest::chain_ids(&image.diff_ids)
        .iter()
        .map(|chain| engine.images.layer(chain).ok_or_else(|| Error::system(format!("layer {chain} does not exist"))))
        .collect::<Result<_>>()?;
    let original = original_manifest(engine, image);
    let jobs: Vec<Job> = layers
        .iter()
        .enumerate()
        .map(|(i, layer)| Job::new(engine, reference, layer, original.as_ref().map(|(m, _)| &m.layers[i])))
        .collect();
    let pushed = push_layers(engine, client, &jobs, lines)?;
    let config = Known { digest: image.digest(), size: image.config.raw.len() as u64 };
    push_config(client, config, &image.config.raw).map_err(explain)?;
    Ok(match (original, form) {
        (_, Some(form)) => form.manifest(config, &pushed)?,
        (Some((manifest, bytes)), None) if manifest.layers.iter().zip(&pushed).all(|(l, p)| l.digest == p.digest) => {
            (manifest.media_type, bytes)
        }
        _ => (DOCKER_MANIFEST.to_owned(), fresh_manifest(config, &pushed)),
    })
}

/// Everything below the topmost document, manifests by digest among it.
fn push_blobs(
    engine: &Arc<Engine>,
    client: &Arc<Client>,
    reference: &Reference,
    blobs: &Blobs<'_>,
    lines: &mut Lines<'_>,
) -> Result<(String, Vec<u8>)> {
    let mut jobs: Vec<Job> = Vec::new();
    for layer in blobs.packed.iter().flat_map(|p| &p.layers) {
        if !jobs.iter().any(|j| j.known[0].digest == layer.digest) {
            jobs.push(Job::of_blob(engine, reference, layer));
        }
    }
    push_layers(engine, client, &jobs, lines)?;
    for packed in blobs.packed {
        let raw = engine.images.read_blob(&packed.config.digest)?;
        let config = Known { digest: packed.config.digest, size: raw.len() as u64 };
        push_config(client, config, &raw).map_err(explain)?;
        if packed.entry.digest != blobs.top.digest {
            let manifest = engine.images.read_blob(&packed.entry.digest)?;
            let digest = packed.entry.digest.to_string();
            client.put_manifest(&digest, &packed.entry.media_type, &manifest).map_err(explain)?;
        }
    }
    Ok((blobs.top.media_type.clone(), engine.images.read_blob(&blobs.top.digest)?))
}

/// The manifest that the image was pulled with, if it still describes it.
fn original_manifest(engine: &Engine, image: &Image) -> Option<(Manifest, Vec<u8>)> {
    image.manifests.iter().filter(|m| m.media_type.is_empty() || is_manifest(&m.media_type)).find_map(|m| {
        let bytes = engine.images.read_blob(&m.digest).ok().filter(|b| Digest::of(b) == m.digest)?;
        let mut manifest: Manifest = json::from_slice(&bytes).ok()?;
        manifest.media_type.clone_from(&m.media_type);
        let fits = manifest.config.digest == image.digest()
            && manifest.layers.len() == image.diff_ids.len()
            && is_manifest(&manifest.media_type);
        fits.then_some((manifest, bytes))
    })
}

/// As Docker writes its own: indented by three.
fn fresh_manifest(config: Known, layers: &[Known]) -> Vec<u8> {
    let entry = |indent: &str, media_type: &str, blob: &Known| {
        format!(
            "{{\n{indent}   \"mediaType\": \"{media_type}\",\n{indent}   \"size\": {},\n{indent}   \"digest\": \"{}\"\n{indent}}}",
            blob.size, blob.digest
        )
    };
    let list: Vec<String> = layers.iter().map(|l| format!("      {}", entry("      ", DOCKER_LAYER_GZIP, l))).collect();
    let list = if list.is_empty() { "[]".to_owned() } else { format!("[\n{}\n   ]", list.join(",\n")) };
    format!(
        "{{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"{DOCKER_MANIFEST}\",\n   \"config\": {},\n   \"layers\": {list}\n}}",
        entry("   ", DOCKER_CONFIG, &config)
    )
    .into_bytes()
}

fn push_config(client: &Client, config: Known, raw: &[u8]) -> Result<(), Fault> {
    if client.blob_size(config.digest)?.is_some() {
        return Ok(());
    }
    let source = || Ok(Box::new(io::Cursor::new(raw)) as Box<dyn Read + Send + '_>);
    client.upload(None, Some(config), &source, &mut |_| {}).map(drop)
}

enum Step {
    Waiting,
    Pushing(u64, u64),
    Pushed,
    Exists,
    Mounted(String),
}

/// One layer on its way out.
struct Job<'a> {
    /// None: a blob that is there as it is.
    layer: Option<&'a LayerRef>,
    id: String,
    /// What it is called in compressed form: by the manifest that it was pulled
    /// with, by an earlier push.
    known: Vec<Known>,
    /// Repositories of the same registry that should have it.
    neighbours: Vec<String>,
    foreign: bool,
}

impl<'a> Job<'a> {
    fn new(engine: &Engine, reference: &Reference, layer: &'a LayerRef, original: Option<&Descriptor>) -> Self {
        let mut known: Vec<Known> =
            original.into_iter().chain(&layer.layer.blob).map(|d| Known { digest: d.digest, size: d.size }).collect();
        known.dedup();
        let chain = layer.chain_id.hex();
        Self {
            layer: Some(layer),
            id: short(&layer.layer.diff_id.to_string()).to_owned(),
            known,
            neighbours: neighbours(engine, reference, |i| i.chain_ids.contains(&chain)),
            foreign: original.is_some_and(Descriptor::is_foreign),
        }
    }

    fn of_blob(engine: &Engine, reference: &Reference, blob: &Descriptor) -> Self {
        let has = |i: &Image| i.packed.iter().any(|p| p.layers.iter().any(|l| l.digest == blob.digest));
        Self {
            layer: None,
            id: short(&blob.digest.to_string()).to_owned(),
            known: vec![Known { digest: blob.digest, size: blob.size }],
            neighbours: neighbours(engine, reference, has),
            foreign: blob.is_foreign(),
        }
    }
}

/// Where else at the same registry this layer was pulled from or pushed to.
fn neighbours(engine: &Engine, reference: &Reference, has: impl Fn(&Image) -> bool) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for image in engine.images.list().iter().filter(|i| has(i)) {
        for name in image.repo_digests.iter().filter_map(|n| Reference::parse(n).ok()) {
            let path = name.path().to_owned();
            if name.domain() == reference.domain() && path != reference.path() && !found.contains(&path) {
                found.push(path);
            }
        }
    }
    found.truncate(MAX_MOUNTS);
    found
}

fn push_layers(
    engine: &Arc<Engine>,
    client: &Arc<Client>,
    jobs: &[Job<'_>],
    lines: &mut Lines<'_>,
) -> Result<Vec<Known>> {
    // The topmost layer first, as Docker lists them.
    for job in jobs.iter().rev() {
        lines.step(&job.id, "Preparing")?;
    }
    let workers = client.settings.max_uploads.clamp(1, jobs.len().max(1));
    let order: Vec<usize> = (0..jobs.len()).rev().collect();
    for &at in order.iter().skip(workers) {
        lines.step(&jobs[at].id, step_text(&Step::Waiting).as_str())?;
    }
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<Known, Fault>>>> = Mutex::new(jobs.iter().map(|_| None).collect());
    let (to, from) = channel::<(usize, Step)>();
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..workers {
            let (to, next, order, results) = (to.clone(), &next, &order, &results);
            let work = move || {
                while let Some(&at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = push_layer(engine, client, &jobs[at], &to, at);
                    let failed = result.is_err();
                    results.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result);
                    if failed {
                        // What is not begun yet is not begun any more.
                        next.store(order.len(), Ordering::Relaxed);
                        return;
                    }
                }
            };
            std::thread::Builder::new().name("upload".into()).stack_size(STACK).spawn_scoped(scope, work)?;
        }
        drop(to);
        loop {
            let (at, step) = match from.recv_timeout(GLANCE) {
                Ok(news) => news,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let told = match &step {
                Step::Pushing(current, total) => lines.bytes(&jobs[at].id, "Pushing", *current, *total),
                step => lines.step(&jobs[at].id, &step_text(step)),
            };
            if let Err(e) = told {
                // The scope waits for its threads: end them.
                client.cancel().fire();
                return Err(e);
            }
        }
    })?;
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    // A failure says more than that others were not begun.
    let pushed: Vec<Known> = results.into_iter().flatten().collect::<Result<_, _>>().map_err(explain)?;
    if pushed.len() < jobs.len() { Err(Error::system("a layer was not pushed")) } else { Ok(pushed) }
}

fn step_text(step: &Step) -> String {
    match step {
        Step::Waiting => "Waiting".into(),
        Step::Pushing(..) => "Pushing".into(),
        Step::Pushed => "Pushed".into(),
        Step::Exists => "Layer already exists".into(),
        Step::Mounted(from) => format!("Mounted from {from}"),
    }
}

fn push_layer(
    engine: &Arc<Engine>,
    client: &Client,
    job: &Job<'_>,
    to: &Sender<(usize, Step)>,
    at: usize,
) -> Result<Known, Fault> {
    client.cancel().check()?;
    let tell = |step: Step| drop(to.send((at, step)));
    let mut session = None;
    for &known in &job.known {
        if job.foreign || client.blob_size(known.digest)?.is_some() {
            tell(Step::Exists);
            return Ok(known);
        }
    }
    if let Some((known, from)) = mount(client, job, &mut session)? {
        tell(Step::Mounted(from));
        return Ok(known);
    }
    let kept = job.known.iter().copied().find(|k| engine.images.blob(&k.digest).is_some());
    let total = kept.map_or(job.layer.map_or(0, |l| l.layer.tar_size), |k| k.size);
    let mut told = Instant::now();
    let mut progress = |current: u64| {
        if told.elapsed() >= TICK || current == total {
            told = Instant::now();
            tell(Step::Pushing(current, total));
        }
    };
    let source = || -> Result<Box<dyn Read + Send>, Fault> {
        match (kept.and_then(|k| engine.images.blob(&k.digest)), job.layer) {
            (Some(file), _) => Ok(Box::new(Once::new(file))),
            (None, Some(layer)) => {
                let tar = engine.images.layer_tar(&layer.chain_id)?;
                Ok(Box::new(flate2::read::GzEncoder::new(tar, flate2::Compression::default())))
            }
            (None, None) => Err(Fault::new(Class::Local, format!("blob of {} is missing", job.id))),
        }
    };
    let sent = client.upload(session, kept, &source, &mut progress)?;
    if let (None, Some(layer)) = (kept, job.layer) {
        let descriptor = Descriptor::new(DOCKER_LAYER_GZIP, sent.digest, sent.size);
        engine.images.remember_blob(&layer.chain_id, &descriptor)?;
    }
    tell(Step::Pushed);
    Ok(sent)
}

/// What is not kept cannot be sent under its own digest, but it can be mounted from a
/// neighbour. `session` is the upload that a registry begins where it does not mount.
fn mount(client: &Client, job: &Job<'_>, session: &mut Option<Url>) -> Result<Option<(Known, String)>, Fault> {
    for &known in &job.known {
        for from in &job.neighbours {
            match client.mount(known.digest, from) {
                Ok(Mount::Done) => return Ok(Some((known, from.clone()))),
                Ok(Mount::Upload(url)) => {
                    if let Some(before) = session.replace(url) {
                        client.cancel_upload(before);
                    }
                }
                // No right to read there: it is sent instead.
                Err(f) if matches!(f.class, Class::Denied | Class::Unauthorized | Class::Absent | Class::Refused) => {}
                Err(f) => return Err(f),
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded: what Docker made of the same image.
    #[test]
    fn manifests_as_docker_writes_them() {
        let known = |n: u64| Known { digest: Digest::of(&n.to_le_bytes()), size: n };
        let text = String::from_utf8(fresh_manifest(known(1), &[known(2), known(3)])).unwrap();
        let value: serde_json::Value = json::from_str(&text).unwrap();
        assert_eq!(value["layers"][1]["size"], 3);
        assert_eq!(value["config"]["mediaType"], DOCKER_CONFIG);
        assert!(text.starts_with("{\n   \"schemaVersion\": 2,\n   \"mediaType\""));
        assert!(text.contains("\n      {\n         \"mediaType\""));
        assert!(text.ends_with("\n      }\n   ]\n}"));
    }
}
