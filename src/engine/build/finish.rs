//! The last stage becomes an image: configuration, times, names, and what the
//! client is told. Runs on the build's thread.

use super::base::Made;
use super::cache;
use super::execute::Build;
use crate::api::build::Options;
use crate::engine::image::{image_event, names};
use crate::error::{Error, Result};
use crate::image::config::History;
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::image::store::NewImage;
use crate::storage::diff::{self, Trees};
use crate::util::time::{Timestamp, rfc3339_nano};
use std::os::fd::AsFd;

/// Refuses before anything is uploaded what cannot be done.
pub fn check(options: &Options) -> Result<()> {
    for tag in &options.tags {
        reference(tag)?;
    }
    for output in &options.outputs {
        let push = output.r#type == "registry" || output.attrs.get("push").is_some_and(|p| p != "false");
        match output.r#type.as_str() {
            _ if push => {
                return Err(Error::not_implemented("a build does not push: build with -t, then use docker push"));
            }
            "image" | "docker" if !output.attrs.contains_key("dest") => {}
            other => {
                return Err(Error::not_implemented(format!(
                    "output type {other:?} is not supported: build with -t, then use docker save or docker cp"
                )));
            }
        }
    }
    if !options.cache_to.is_empty() {
        return Err(Error::not_implemented("--cache-to is not supported: the cache stays in this daemon"));
    }
    Ok(())
}

fn reference(tag: &str) -> Result<Reference> {
    let parsed = Reference::parse(tag).map_err(|e| e.context(format_args!("invalid tag {tag:?}")))?;
    if parsed.digest().is_some() {
        return Err(Error::invalid(format!("invalid tag {tag:?}: build tag cannot contain a digest")));
    }
    Ok(parsed.or_latest())
}

pub fn finish(build: &Build<'_>, made: &Made) -> Result<()> {
    build.abort.check()?;
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
    let mut _squashed = None;
    if options.squash && made.state.chain_ids.len() > 1 {
        _squashed = Some(squash(build, made, &mut config)?);
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
    let mut extra = Vec::new();
    for output in &options.outputs {
        extra.extend(output.attrs.get("name").iter().flat_map(|n| n.split(',')).map(str::to_owned));
    }
    let new = NewImage { config: config.raw, ..NewImage::default() };
    let known = build.engine.images.get(&Digest::of(&new.config)).is_some();
    let image = build.engine.images.put(new)?;
    if !known {
        image_event(build.engine, &image, "create", &image.id);
    }
    build.report.result(&image.id);
    let short = image.id.trim_start_matches("sha256:").get(..12).unwrap_or_default().to_owned();
    build.report.say(format!("Successfully built {short}\n"));
    for tag in options.tags.iter().chain(&extra) {
        let reference = reference(tag)?;
        names::give(build.engine, &image, &reference)?;
        build.report.say(format!("Successfully tagged {}\n", reference.familiar()));
    }
    Ok(())
}

/// One layer of all that came on top of the base image.
fn squash(
    build: &Build<'_>,
    made: &Made,
    config: &mut crate::image::config::ImageConfig,
) -> Result<crate::image::store::LayerRef> {
    let base = match &made.state.base_id {
        Some(id) => build.engine.images.resolve(id)?.chain_ids.clone(),
        None => Vec::new(),
    };
    let merged = build.engine.driver.mount_ro(&made.state.chain_ids)?;
    let lower = if base.is_empty() { None } else { Some(build.engine.driver.mount_ro(&base)?) };
    let (mut reader, writer) = std::io::pipe()?;
    let layer = std::thread::scope(|scope| {
        let pack = scope.spawn(move || -> Result<()> {
            let trees = Trees {
                upper: None,
                lower: lower.as_ref().map(AsFd::as_fd),
                merged: merged.as_fd(),
                ignore: &|_| false,
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
