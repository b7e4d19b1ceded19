//! `docker rmi` and `docker image prune`, rule for rule and word for word.

use super::{image_event, inspect, layers_in_use};
use crate::api::filters::Filters;
use crate::api::image::{DeleteItem, ImagePruneReport};
use crate::engine::container::record::{MountKind, MountRecord};
use crate::engine::events::{Attributes, Kind};
use crate::engine::{Engine, until};
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Platform;
use crate::image::reference::Reference;
use crate::image::store::Image;
use crate::util::id::short;
use crate::util::order;
use std::collections::{BTreeMap, HashMap};

/// `docker rmi --platform`: these of a whole image, or the image if it is one of them.
pub fn remove_platforms(
    engine: &Engine,
    name: &str,
    platforms: &[Platform],
    options: Options,
) -> Result<Vec<DeleteItem>> {
    let image = engine.images.resolve(name)?;
    let mut removed = Vec::new();
    for wanted in platforms {
        let packed = image.packed_for(wanted).filter(|p| p.config.digest != image.digest());
        let own = image.platform();
        match packed {
            Some(packed) if own.rank(wanted) != Some(0) => {
                engine.images.remove_packed(&image.digest(), &packed.entry.digest)?;
                removed.push(deleted(&packed.entry.digest));
            }
            _ if own.rank(wanted).is_none() => return Err(inspect::mismatch(name, &own, wanted)),
            _ if image.packed.iter().any(|p| p.config.digest != image.digest() && !p.entry.is_attestation()) => {
                return Err(Error::conflict(format!(
                    "conflict: unable to delete platform {own} of {name} (cannot be forced) - other platforms are kept with it"
                )));
            }
            _ => return remove(engine, name, options),
        }
    }
    Ok(removed)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub force: bool,
    /// Go on with parents that nobody names or uses.
    pub prune: bool,
}

/// What may stand against a removal.
#[derive(Debug, Clone, Copy)]
struct Checks {
    references: bool,
    stopped: bool,
}

struct Conflict {
    hard: bool,
    used: bool,
    message: String,
}

fn untagged(reference: &Reference) -> DeleteItem {
    DeleteItem { untagged: reference.familiar(), ..DeleteItem::default() }
}

fn deleted(digest: &Digest) -> DeleteItem {
    DeleteItem { deleted: digest.to_string(), ..DeleteItem::default() }
}

pub fn remove(engine: &Engine, name: &str, options: Options) -> Result<Vec<DeleteItem>> {
    let image = engine.images.resolve(name)?;
    let id = image.digest();
    let mut records = Vec::new();
    let references = engine.images.references(&id);
    let mut quiet = false;
    if is_id_prefix(&image.id, name) {
        if is_single(&references) {
            // One name may go with its image.
            let checks = Checks { references: false, stopped: !options.force };
            if let Some(conflict) = conflict(engine, &image, checks) {
                return Err(refuse(&image, &conflict));
            }
            for reference in &references {
                untag(engine, &image, reference, &mut records)?;
            }
        }
    } else {
        if !options.force
            && is_single(&references)
            && let Some(container) = user(engine, &image.id, None)
        {
            return Err(Error::conflict(format!(
                "conflict: unable to remove repository reference {name:?} (must force) - container {} is using its referenced image {}",
                short(&container),
                short(&image.id)
            )));
        }
        let reference = Reference::parse(name)?.for_store();
        untag(engine, &image, &reference, &mut records)?;
        let mut rest = engine.images.references(&id);
        if reference.digest().is_none() {
            let same = |r: &&Reference| r.name() == reference.name();
            // Digests go with the last tag of their repository.
            if !rest.iter().filter(same).any(|r| r.digest().is_none()) {
                for canonical in rest.iter().filter(same) {
                    engine.images.untag(canonical)?;
                    records.push(untagged(canonical));
                }
                rest.retain(|r| r.name() != reference.name());
            }
        }
        if !rest.is_empty() {
            return Ok(records);
        }
        quiet = true;
    }
    delete(engine, &id, &mut records, options, quiet)?;
    Ok(records)
}

fn untag(engine: &Engine, image: &Image, reference: &Reference, records: &mut Vec<DeleteItem>) -> Result<()> {
    engine.images.untag(reference)?;
    records.push(untagged(reference));
    image_event(engine, image, "untag", &image.id);
    Ok(())
}

fn delete(engine: &Engine, id: &Digest, records: &mut Vec<DeleteItem>, options: Options, quiet: bool) -> Result<()> {
    let mut next = Some((*id, options, quiet));
    while let Some((id, options, quiet)) = next.take() {
        let Some(image) = engine.images.get(&id) else { return Ok(()) };
        let checks = Checks { references: !options.force, stopped: !options.force };
        if let Some(conflict) = conflict(engine, &image, checks) {
            let dangling = engine.images.references(&id).is_empty() && engine.images.children(&image.id).is_empty();
            if quiet && (!dangling || conflict.used) {
                return Ok(());
            }
            return Err(refuse(&image, &conflict));
        }
        for reference in engine.images.references(&id) {
            untag(engine, &image, &reference, records)?;
        }
        let layers = engine.images.remove(&id, &|| layers_in_use(engine))?;
        let attributes = Attributes::from([("name".to_owned(), image.id.clone())]);
        engine.events.publish(Kind::Image, "delete", image.id.clone(), attributes);
        records.push(deleted(&id));
        records.extend(layers.iter().map(deleted));
        if options.prune {
            let parent = image.parent.as_deref().and_then(|p| p.parse().ok());
            next = parent.map(|p| (p, Options { force: false, prune: true }, true));
        }
    }
    Ok(())
}

fn refuse(image: &Image, conflict: &Conflict) -> Error {
    let force = if conflict.hard { "cannot be forced" } else { "must be forced" };
    Error::conflict(format!("conflict: unable to delete {} ({force}) - {}", short(&image.id), conflict.message))
}

fn conflict(engine: &Engine, image: &Image, checks: Checks) -> Option<Conflict> {
    let conflict = |hard, used, message: String| Some(Conflict { hard, used, message });
    if !engine.images.children(&image.id).is_empty() {
        return conflict(true, false, "image has dependent child images".into());
    }
    if let Some(id) = user(engine, &image.id, Some(true)) {
        return conflict(true, true, format!("image is being used by running container {}", short(&id)));
    }
    // One name is enough: a parent that somebody named stays when its child goes.
    if checks.references && !engine.images.references(&image.digest()).is_empty() {
        return conflict(false, false, "image is referenced in multiple repositories".into());
    }
    if checks.stopped
        && let Some(id) = user(engine, &image.id, Some(false))
    {
        return conflict(false, true, format!("image is being used by stopped container {}", short(&id)));
    }
    None
}

/// A container of the image; `running` narrows it.
fn user(engine: &Engine, image: &str, running: Option<bool>) -> Option<String> {
    let mut all = engine.containers.all();
    order::sort_by(&mut all, |a, b| a.id.cmp(&b.id));
    let fits = |c: &&std::sync::Arc<crate::engine::container::Container>| {
        let record = c.record();
        let mounted = |m: &MountRecord| m.kind == MountKind::Image && m.source == image;
        (record.image_id == image || record.mounts.iter().any(mounted))
            && running.is_none_or(|r| record.state.is_up() == r)
    };
    all.iter().find(fits).map(|c| c.id.clone())
}

/// All names are of one repository, and at most one is a tag.
fn is_single(references: &[Reference]) -> bool {
    if references.len() <= 1 {
        return references.len() == 1;
    }
    let tags: Vec<&Reference> = references.iter().filter(|r| r.digest().is_none()).collect();
    let mut repositories: Vec<String> =
        references.iter().filter(|r| r.digest().is_some()).map(Reference::name).collect();
    repositories.dedup();
    match tags.as_slice() {
        [] => repositories.len() == 1,
        [tag] => repositories == [tag.name()],
        _ => false,
    }
}

fn is_id_prefix(id: &str, name: &str) -> bool {
    id.starts_with(name) || id.strip_prefix("sha256:").is_some_and(|hex| hex.starts_with(name))
}

pub fn prune(engine: &Engine, filters: &Filters) -> Result<ImagePruneReport> {
    filters.check(&["dangling", "label", "label!", "until"])?;
    let dangling_only = filters.bool("dangling", true)?;
    let until = until::parse(filters)?;
    let sizes: HashMap<Digest, u64> = engine.images.layer_weights();
    let mut removed: Vec<DeleteItem> = Vec::new();
    for image in engine.images.list() {
        let labels = image.config.run.labels.clone().unwrap_or_else(BTreeMap::new);
        let references = engine.images.references(&image.digest());
        let parent = !engine.images.children(&image.id).is_empty();
        let young = until.is_some_and(|u| image.created.is_none_or(|c| c > u));
        if young
            || (parent && (dangling_only || references.is_empty()))
            || !crate::engine::volume::list::passes_labels(filters, &labels)
        {
            continue;
        }
        let options = Options { force: false, prune: true };
        if references.is_empty() {
            removed.extend(spared(remove(engine, &image.digest().hex(), options))?);
        } else if !dangling_only || references.iter().all(|r| r.tag().is_none()) {
            for reference in references {
                removed.extend(spared(remove(engine, &reference.to_string(), options))?);
            }
        }
    }
    let freed = |item: &DeleteItem| item.deleted.parse().ok().and_then(|d: Digest| sizes.get(&d).copied());
    let mut reclaimed: u64 = removed.iter().filter_map(freed).sum();
    // What interrupted pulls and loads left counts as well.
    let before: u64 = engine.images.layer_weights().values().sum();
    reclaimed += engine.images.give_up_unfinished();
    reclaimed += crate::engine::container::keep_id::prune(engine)?;
    engine.images.collect(&|| layers_in_use(engine))?;
    reclaimed += before - engine.images.layer_weights().values().sum::<u64>().min(before);
    let attributes = Attributes::from([("reclaimed".to_owned(), reclaimed.to_string())]);
    engine.events.publish(Kind::Image, "prune", "", attributes);
    Ok(ImagePruneReport { images_deleted: (!removed.is_empty()).then_some(removed), space_reclaimed: reclaimed })
}

/// What is in use, or went meanwhile, is no failure of a prune.
fn spared(result: Result<Vec<DeleteItem>>) -> Result<Vec<DeleteItem>> {
    use crate::error::Kind as Class;
    match result {
        Err(e) if matches!(e.kind(), Class::Conflict | Class::NotFound) => Ok(Vec::new()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_means_one_repository_and_one_tag() {
        let hex = "a".repeat(64);
        let list = |names: &[&str]| -> Vec<Reference> {
            names.iter().map(|n| Reference::parse(&n.replace("@H", &format!("@sha256:{hex}"))).unwrap()).collect()
        };
        assert!(!is_single(&list(&[])));
        assert!(is_single(&list(&["a:1"])));
        assert!(is_single(&list(&["a:1", "a@H"])));
        assert!(is_single(&list(&["a@H"])));
        assert!(!is_single(&list(&["a:1", "a:2"])));
        assert!(!is_single(&list(&["a:1", "b@H"])));
    }

    #[test]
    fn prefixes_of_ids() {
        assert!(is_id_prefix("sha256:abcd", "ab"));
        assert!(is_id_prefix("sha256:abcd", "sha256:ab"));
        assert!(!is_id_prefix("sha256:abcd", "busybox"));
    }
}
