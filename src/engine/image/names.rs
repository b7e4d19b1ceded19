//! `docker tag`, and Docker's reading of the `repo` and `tag` parameters.

use super::image_event;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::reference::Reference;
use crate::image::store::Image;

/// The name that `repo` and `tag` spell; none if `repo` is empty.
pub fn reference(repo: &str, tag: &str) -> Result<Option<Reference>> {
    if repo.is_empty() {
        return Ok(None);
    }
    let reference = Reference::parse(repo)?;
    if reference.digest().is_some() {
        return Err(Error::invalid("cannot import digest reference"));
    }
    if reference.familiar_name() == "sha256" {
        return Err(Error::invalid("refusing to create an ambiguous tag using digest algorithm as name"));
    }
    match tag {
        "" => Ok(Some(reference.or_latest())),
        tag => Reference::with(&reference, Some(tag), None).map(Some),
    }
}

/// Gives an image a name; another image may lose it.
pub fn give(engine: &Engine, image: &Image, reference: &Reference) -> Result<()> {
    engine.images.tag(&image.digest(), reference)?;
    image_event(engine, image, "tag", &reference.familiar());
    Ok(())
}

pub fn tag(engine: &Engine, name: &str, repo: &str, tag: &str) -> Result<()> {
    let reference = reference(repo, tag)?.ok_or_else(|| Error::invalid("invalid reference format"))?;
    let image = engine.images.resolve(name)?;
    give(engine, &image, &reference)
}
