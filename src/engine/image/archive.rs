//! `docker load`, `docker save` and `docker import`.

use super::progress::Lines;
use super::{changes, image_event, layers_in_use, names, remote};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::archive::import::{self, Import};
use crate::image::archive::load::{self, Progress};
use crate::image::archive::save::{Archive, Saved};
use crate::image::config::ImageConfig;
pub use crate::image::manifest::Platform;
use crate::image::reference::{AnyReference, Reference};
use crate::image::registry::transport::Cancel;
use crate::util::id::short;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Reads an archive; progress and results go out as lines, errors are returned.
pub fn load(
    engine: &Engine,
    input: &mut dyn Read,
    platform: Option<Platform>,
    quiet: bool,
    lines: &mut Lines<'_>,
    cancel: &AtomicBool,
) -> Result<()> {
    let mut lost = None;
    let mut report = |progress: Progress<'_>| {
        let Progress::Layer { name, current, total } = progress;
        if !quiet
            && lost.is_none()
            && let Err(e) = lines.bytes(short(name), "Loading layer", current, total)
        {
            lost = Some(e);
        }
    };
    let result = load::load(&engine.images, input, load::Options { platform, cancel, progress: &mut report });
    let loaded = match (result, lost) {
        (Ok(loaded), None) => loaded,
        (Err(e), _) | (_, Some(e)) => {
            engine.images.collect(&|| layers_in_use(engine))?;
            return Err(e);
        }
    };
    for item in loaded {
        for (name, before) in &item.names {
            if let Some(before) = before {
                lines.stream(&format!(
                    "The image {} already exists, renaming the old one with ID {before} to empty string\n",
                    name.familiar()
                ))?;
            }
            lines.stream(&format!("Loaded image: {}\n", name.familiar()))?;
        }
        if item.names.is_empty() {
            lines.stream(&format!("Loaded image ID: {}\n", item.image.id))?;
        }
        image_event(engine, &item.image, "load", &item.image.id);
    }
    Ok(())
}

/// What to save: a name without a tag stands for all tags of its repository.
pub fn select(engine: &Engine, wanted: &[String], platform: Option<&Platform>) -> Result<Vec<Saved>> {
    let mut saved: Vec<Saved> = Vec::new();
    let mut add = |name: &str, reference: Option<Reference>| -> Result<()> {
        let image = match (engine.images.resolve(name)?, platform) {
            (image, None) => image,
            (image, Some(wanted)) => engine
                .images
                .for_platform(image, wanted)?
                .ok_or_else(|| Error::not_found(format!("no suitable export target found for platform {wanted}")))?,
        };
        let reference = reference.filter(|r| r.tag().is_some());
        match saved.iter_mut().find(|s| s.image.id == image.id) {
            Some(have) => {
                have.names.extend(reference.filter(|r| !have.names.contains(r)).into_iter().collect::<Vec<_>>());
            }
            None => saved.push(Saved { image, names: reference.into_iter().collect() }),
        }
        Ok(())
    };
    for name in wanted {
        let AnyReference::Named(reference) = AnyReference::parse(name)? else {
            add(name, None)?;
            continue;
        };
        if !reference.is_name_only() {
            if engine.images.by_reference(&reference).is_none() {
                return Err(Error::not_found("reference does not exist"));
            }
            add(name, Some(reference))?;
            continue;
        }
        let all = engine.images.repository(&reference);
        if all.is_empty() {
            // It may be the beginning of an id.
            let plain = |_: Error| Error::not_found(format!("No such image: {name}"));
            engine.images.resolve(name).map_err(plain)?;
            add(name, None)?;
        }
        for (reference, _) in all.into_iter().filter(|(r, _)| r.tag().is_some()) {
            add(&reference.to_string(), Some(reference))?;
        }
    }
    Ok(saved)
}

pub fn save(engine: &Engine, saved: Vec<Saved>, out: &mut dyn std::io::Write) -> Result<()> {
    let images: Vec<_> = saved.iter().map(|s| s.image.clone()).collect();
    Archive::new(&engine.images, saved)?.write(out)?;
    for image in images {
        image_event(engine, &image, "save", &image.id);
    }
    Ok(())
}

/// The parameters of an import.
pub struct Source {
    /// `-` is the body that came along, all else is a URL.
    pub from: String,
    pub reference: Option<Reference>,
    pub message: String,
    pub changes: Vec<String>,
    pub platform: Option<Platform>,
}

pub fn import(
    engine: &Engine,
    input: &mut dyn Read,
    source: Source,
    lines: &mut Lines<'_>,
    cancel: &Arc<Cancel>,
) -> Result<()> {
    let base = ImageConfig::default();
    let run = changes::apply(base, &source.changes)?.run;
    let message = if source.message.is_empty() { format!("Imported from {}", source.from) } else { source.message };
    let mut fetched;
    let input = if source.from == "-" {
        input
    } else {
        let url = remote::address(&source.from);
        fetched = remote::open(engine, &url, cancel)?;
        lines.status(&format!("Downloading from {url}"))?;
        &mut *fetched
    };
    let cancel = cancel.flag();
    let platform = source.platform.unwrap_or_else(Platform::host);
    let import = Import { run, message, platform, cancel, progress: &mut |_| {} };
    let image = match import::import(&engine.images, input, import) {
        Ok(image) => image,
        Err(e) => {
            engine.images.collect(&|| layers_in_use(engine))?;
            return Err(e);
        }
    };
    if let Some(reference) = &source.reference {
        names::give(engine, &image, reference)?;
    }
    image_event(engine, &image, "import", &image.id);
    lines.status(&image.id)
}
