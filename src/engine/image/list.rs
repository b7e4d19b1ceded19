//! `GET /images/json` and what of it others need: filters, shared sizes.

use crate::api::filters::Filters;
use crate::api::image::ImageSummary;
use crate::api::version::Version;
use crate::engine::{Engine, until};
use crate::error::{Error, Result};
use crate::image::digest::{self, Digest};
use crate::image::reference::Reference;
use crate::image::store::Image;
use crate::storage::owners;
use crate::util::glob::Pattern;
use crate::util::time::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

#[derive(Debug, Clone, Copy)]
pub struct Query {
    pub all: bool,
    pub shared_size: bool,
    pub manifests: bool,
    pub version: Version,
}

pub fn list(engine: &Engine, filters: &Filters, query: Query) -> Result<Vec<ImageSummary>> {
    filters.check(&["dangling", "label", "label!", "before", "since", "reference", "until"])?;
    let dangling = match filters.contains("dangling") {
        true => Some(filters.bool("dangling", false)?),
        false => None,
    };
    let bounds = Bounds::new(engine, filters)?;
    let patterns = patterns(filters)?;
    let images = engine.images.list();
    let parents: std::collections::HashSet<&str> = images.iter().filter_map(|i| i.parent.as_deref()).collect();
    let shared = if query.shared_size { Some(Shared::count(engine, &images, false)) } else { None };
    let users = users(engine);
    let mut out = Vec::new();
    for image in &images {
        let labels = image.config.run.labels.clone().unwrap_or_default();
        if !bounds.contain(image) || !crate::engine::volume::list::passes_labels(filters, &labels) {
            continue;
        }
        let keep = |name: &String| patterns.is_empty() || patterns.iter().any(|p| p.matches(name));
        let tags: Vec<String> = image.repo_tags.iter().filter(|t| keep(t)).cloned().collect();
        let digests: Vec<String> = image.repo_digests.iter().filter(|d| keep(d)).cloned().collect();
        if dangling == Some(true) && parents.contains(image.id.as_str()) {
            continue;
        }
        if tags.is_empty() && digests.is_empty() {
            let intermediate = parents.contains(image.id.as_str());
            if (intermediate && !query.all) || dangling == Some(false) || !patterns.is_empty() {
                continue;
            }
        } else if dangling == Some(true) && !tags.is_empty() {
            continue;
        }
        let mut line = summary(image, tags, digests, query.version);
        if let Some(shared) = &shared {
            line.shared_size = shared.of(image);
        }
        if query.version >= Version(51) {
            line.containers = users.get(&image.id).copied().unwrap_or_default();
        }
        if query.manifests {
            line.manifests = Some(super::manifests::manifests(engine, image));
        }
        out.push(line);
    }
    Ok(out)
}

fn summary(image: &Image, tags: Vec<String>, digests: Vec<String>, version: Version) -> ImageSummary {
    let untagged = tags.is_empty() && digests.is_empty();
    let none = |text: &str, list: Vec<String>| {
        if untagged && version < Version(43) { vec![text.to_owned()] } else { list }
    };
    let size = i64::try_from(image.size).unwrap_or(i64::MAX);
    ImageSummary {
        containers: -1,
        created: image.created.map_or(0, Timestamp::secs),
        id: image.id.clone(),
        labels: image.config.run.labels.clone(),
        parent_id: image.parent.clone().unwrap_or_default(),
        repo_digests: Some(none("<none>@<none>", digests)),
        repo_tags: Some(none("<none>:<none>", tags)),
        shared_size: -1,
        size,
        virtual_size: (version < Version(44)).then_some(size),
        manifests: None,
    }
}

/// Containers per image id.
pub fn users(engine: &Engine) -> HashMap<String, i64> {
    let mut users = HashMap::new();
    for container in engine.containers.all() {
        *users.entry(container.record().image_id.clone()).or_default() += 1;
    }
    users
}

/// `before`, `since` and `until` as an open interval of creation times.
struct Bounds {
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Bounds {
    fn new(engine: &Engine, filters: &Filters) -> Result<Self> {
        let created = |key: &str, later: fn(Timestamp, Timestamp) -> Timestamp| -> Result<Option<Timestamp>> {
            let mut bound: Option<Timestamp> = None;
            for name in filters.get(key) {
                if let Some(time) = engine.images.resolve(name)?.created {
                    bound = Some(bound.map_or(time, |b| later(b, time)));
                }
            }
            Ok(bound)
        };
        let mut before = created("before", std::cmp::min)?;
        for text in filters.get("until") {
            let time = until::point(text).ok_or_else(|| Error::invalid(format!("invalid filter 'until=[{text}]'")))?;
            before = Some(before.map_or(time, |b| b.min(time)));
        }
        Ok(Self { before, since: created("since", std::cmp::max)? })
    }

    fn contain(&self, image: &Image) -> bool {
        let Some(created) = image.created else { return self.before.is_none() && self.since.is_none() };
        self.before.is_none_or(|b| created < b) && self.since.is_none_or(|s| created > s)
    }
}

/// A pattern matches the whole familiar name, or its repository part alone.
struct NamePattern {
    pattern: Pattern,
}

impl NamePattern {
    fn matches(&self, name: &str) -> bool {
        if self.pattern.matches(name) {
            return true;
        }
        Reference::parse(name).is_ok_and(|r| self.pattern.matches(&r.familiar_name()))
    }
}

fn patterns(filters: &Filters) -> Result<Vec<NamePattern>> {
    let one = |text: &String| {
        let pattern = Pattern::new(text).map_err(|_| Error::invalid("syntax error in pattern"))?;
        Ok(NamePattern { pattern })
    };
    filters.get("reference").iter().map(one).collect()
}

/// A layer by its chain ID, or (true) what is kept packed by its digest.
type Part = (bool, Digest);

/// How many images stand on each layer, and with `packed` on each blob of the disk.
struct Shared<'a> {
    engine: &'a Engine,
    packed: bool,
    users: BTreeMap<Part, (u64, i64)>,
}

impl<'a> Shared<'a> {
    fn count(engine: &'a Engine, images: &[Arc<Image>], packed: bool) -> Self {
        let mut shared = Self { engine, packed, users: BTreeMap::new() };
        for image in images {
            for (part, size) in shared.parts(image) {
                shared.users.entry(part).or_insert((size, 0)).1 += 1;
            }
        }
        shared
    }

    fn parts(&self, image: &Image) -> Vec<(Part, u64)> {
        let size = |chain: &Digest| self.engine.images.layer(chain).map_or(0, |l| l.layer.size);
        let mut parts: Vec<(Part, u64)> =
            digest::chain_ids(&image.diff_ids).iter().map(|chain| ((false, *chain), size(chain))).collect();
        if self.packed {
            parts.extend(self.engine.images.packed_sizes(image).into_iter().map(|(blob, size)| ((true, blob), size)));
        }
        parts
    }

    /// Bytes of the image's parts that another image has as well.
    fn of(&self, image: &Image) -> i64 {
        let users = |part| self.users.get(part).map_or(0, |(_, n)| *n);
        sum(self.parts(image).iter().filter(|(part, _)| users(part) > 1).map(|(_, size)| *size))
    }

    /// Bytes of everything, each part once.
    fn total(&self) -> i64 {
        sum(self.users.values().map(|(size, _)| *size))
    }
}

fn sum(sizes: impl Iterator<Item = u64>) -> i64 {
    i64::try_from(sizes.sum::<u64>()).unwrap_or(i64::MAX)
}

/// The images of `system df`, and the bytes of all layers and of the copies with
/// other owners. Unlike in the list, what is kept packed beside the layers counts:
/// it is on the disk, and goes with the image.
pub fn disk_usage(engine: &Engine, version: Version) -> (i64, Vec<ImageSummary>) {
    let images = engine.images.list();
    let shared = Shared::count(engine, &images, true);
    let users = users(engine);
    let parents: std::collections::HashSet<&str> = images.iter().filter_map(|i| i.parent.as_deref()).collect();
    let mut lines = Vec::new();
    for image in &images {
        let unnamed = image.repo_tags.is_empty() && image.repo_digests.is_empty();
        if unnamed && parents.contains(image.id.as_str()) {
            continue;
        }
        let mut line = summary(image, image.repo_tags.clone(), image.repo_digests.clone(), version);
        // Here, unlike in the list, none is null.
        line.repo_digests = line.repo_digests.filter(|d| !d.is_empty());
        line.repo_tags = line.repo_tags.filter(|t| !t.is_empty());
        line.size += sum(engine.images.packed_sizes(image).into_values());
        line.virtual_size = line.virtual_size.map(|_| line.size);
        line.shared_size = shared.of(image);
        line.containers = users.get(&image.id).copied().unwrap_or_default();
        lines.push(line);
    }
    let copies = owners::copies(&*engine.driver).unwrap_or_default();
    let copied: u64 = copies.iter().map(|(_, size)| size).sum();
    (shared.total().saturating_add_unsigned(copied), lines)
}
