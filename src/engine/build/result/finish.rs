//! The last stage becomes an image: configuration, times, names, and what the
//! client is told. Runs on the build's thread.

use super::{index, output};
use crate::api::build::Options;
use crate::engine::build::cache;
use crate::engine::build::execute::Build;
use crate::engine::build::steps::base::Made;
use crate::engine::image::{image_event, names, pull};
use crate::error::{Error, Result};
use crate::image::config::{History, ImageConfig};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::image::store::{Image, LayerRef, NewImage};
use crate::storage::diff::{self, Trees};
use crate::util::time::{Timestamp, parse_rfc3339, rfc3339_nano};
use std::os::fd::AsFd;
use std::sync::Arc;

/// Refuses before anything is uploaded what cannot be done.
pub fn check(options: &Options) -> Result<()> {
    for tag in &options.tags {
        reference(tag)?;
    }
    platforms(options)?;
    output::check(options)?;
    cache::spread::check(options)?;
    Ok(())
}

/// What `--platform` asks for, each in its normal form; one empty text for this
/// machine's own.
pub fn platforms(options: &Options) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for text in options.platform.split(',').map(str::trim) {
        let platform = if text.is_empty() { String::new() } else { pull::platform(text)?.to_string() };
        if all.contains(&platform) {
            return Err(Error::invalid(format!("the platform {text:?} is given twice")));
        }
        all.push(platform);
    }
    Ok(all)
}

pub fn reference(tag: &str) -> Result<Reference> {
    let parsed = Reference::parse(tag).map_err(|e| e.context(format_args!("invalid tag {tag:?}")))?;
    if parsed.digest().is_some() {
        return Err(Error::invalid(format!("invalid tag {tag:?}: build tag cannot contain a digest")));
    }
    Ok(parsed.or_latest())
}

pub fn finish(builds: &[Build<'_>], made: &[Arc<Made>]) -> Result<()> {
    match (builds, made) {
        ([build], [made]) => one(build, made),
        _ => index::finish(builds, made),
    }
}

/// The result's configuration; what holds the layer that `--squash` made.
pub fn configuration(build: &Build<'_>, made: &Made) -> Result<(ImageConfig, Option<LayerRef>)> {
    let options = &build.request.options;
    let mut config = made.state.config.clone();
    config.run.labels = match (config.run.labels.take(), options.labels.is_empty()) {
        (labels, true) => labels,
        (labels, false) => {
            let mut labels = labels.unwrap_or_default();
            labels.extend(options.labels.clone());
            Some(labels)
        }
    };
    let mut squashed = None;
    if options.squash && made.state.chain_ids.len() > 1 {
        squashed = Some(squash(build, made, &mut config)?);
    }
    config.created = None;
    config.comment.clear();
    config.docker_version.clear();
    // The same content has the same times, so that its id stays when it is built again.
    config.encode()?;
    let created = match build.epoch()? {
        Some(secs) => rfc3339_nano(Timestamp::from_parts(secs, 0)),
        None => build.engine.builds.cache.first_made(&cache::key(&["image", &config.id().hex()]))?,
    };
    config.created = Some(created.clone());
    for entry in config.history.iter_mut().skip(made.inherited) {
        entry.created.get_or_insert_with(|| created.clone());
    }
    config.encode()?;
    config.raw = build.with_inline_cache(made, std::mem::take(&mut config.raw))?;
    Ok((config, squashed))
}

fn one(build: &Build<'_>, made: &Arc<Made>) -> Result<()> {
    build.abort.check()?;
    let options = &build.request.options;
    let (config, _squashed) = configuration(build, made)?;
    let image = keep(build, made, config)?;
    let mut metadata = serde_json::json!({ "containerimage.config.digest": image.id });
    if output::is_stored(options) {
        metadata["containerimage.digest"] = image.id.clone().into();
    }
    let names = stored_names(options)?;
    if !names.is_empty() {
        metadata["image.name"] = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",").into();
    }
    if output::is_stored(options) {
        for reference in &names {
            names::give(build.engine, &image, reference)?;
        }
    }
    let made = std::slice::from_ref(made);
    build.deliver(made, std::slice::from_ref(&image), &mut metadata)?;
    build.export_caches(made)?;
    build.report.metadata(&metadata);
    if output::is_stored(options) {
        build.tell_result(&image.id, &names);
    }
    Ok(())
}

impl Build<'_> {
    pub fn tell_result(&self, id: &str, names: &[Reference]) {
        self.report.result(id);
        let short = id.trim_start_matches("sha256:").get(..12).unwrap_or_default().to_owned();
        self.report.say(format!("Successfully built {short}\n"));
        for reference in names {
            self.report.say(format!("Successfully tagged {}\n", reference.familiar()));
        }
    }
}

/// The image as it would be in the store.
pub fn image_of(made: &Made, config: ImageConfig) -> Image {
    Image {
        id: config.id().to_string(),
        created: config.created.as_deref().and_then(parse_rfc3339),
        chain_ids: made.state.chain_ids.clone(),
        diff_ids: config.diff_ids().to_vec(),
        config,
        ..Image::default()
    }
}

/// The image in the store, or only what an archive of it needs.
fn keep(build: &Build<'_>, made: &Made, config: ImageConfig) -> Result<Arc<Image>> {
    if !output::is_stored(&build.request.options) {
        return Ok(Arc::new(image_of(made, config)));
    }
    let new = NewImage { config: config.raw, ..NewImage::default() };
    let known = build.engine.images.get(&Digest::of(&new.config)).is_some();
    let image = build.engine.images.put(new)?;
    if !known {
        image_event(build.engine, &image, "create", &image.id);
    }
    Ok(image)
}

/// Every name that the image gets here, each once.
pub fn stored_names(options: &Options) -> Result<Vec<Reference>> {
    let mut all: Vec<Reference> = options.tags.iter().map(|t| reference(t)).collect::<Result<_>>()?;
    for output in options.outputs.iter().filter(|o| !output::is_sent(o)) {
        for name in output::names(options, output)? {
            if !all.contains(&name) {
                all.push(name);
            }
        }
    }
    Ok(all)
}

/// One layer of all that came on top of the base image.
fn squash(build: &Build<'_>, made: &Made, config: &mut ImageConfig) -> Result<LayerRef> {
    let base = match &made.state.base_id {
        Some(id) => build.engine.images.resolve(id)?.chain_ids.clone(),
        None => Vec::new(),
    };
    let merged = build.engine.driver.mount_ro(&made.state.chain_ids)?;
    let lower = if base.is_empty() { None } else { Some(build.engine.driver.mount_ro(&base)?) };
    let (mut reader, writer) = std::io::pipe()?;
    let epoch = build.rewriting()?;
    let layer = std::thread::scope(|scope| {
        let pack = scope.spawn(move || -> Result<()> {
            let trees = Trees {
                owners: None,
                upper: None,
                lower: lower.as_ref().map(AsFd::as_fd),
                merged: merged.as_fd(),
                ignore: &|_| false,
                epoch,
            };
            let mut out = std::io::BufWriter::with_capacity(128 << 10, writer);
            diff::layer(&trees, &mut out)?;
            Ok(std::io::Write::flush(&mut out)?)
        });
        let layer = build.ingest(&mut reader, base.last().map_or("", String::as_str));
        drop(reader);
        pack.join().unwrap_or_else(|_| Err(Error::system("the layer's writer failed")))?;
        layer
    })?;
    config.rootfs.diff_ids.truncate(base.len());
    config.rootfs.diff_ids.push(layer.layer.diff_id);
    for entry in config.history.iter_mut().skip(made.inherited) {
        entry.empty_layer = true;
    }
    let comment = "merge of all layers of the build".to_owned();
    config.history.push(History { comment, ..History::default() });
    Ok(layer)
}
