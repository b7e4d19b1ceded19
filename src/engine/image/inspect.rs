//! `GET /images/{name}/json` and `…/history`.

use super::manifests;
use crate::api::container::GraphDriver;
use crate::api::image::{HistoryItem, ImageInspect, Metadata, RootFs};
use crate::api::version::Version;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::config::RunConfig;
use crate::image::digest::Digest;
use crate::image::manifest;
use crate::image::store::Image;
use crate::util::order;
use crate::util::time;
use serde_json::{Value, json};
use std::sync::Arc;

/// The image, or the platform of it that is wanted.
pub fn resolve(engine: &Engine, name: &str, platform: Option<&manifest::Platform>) -> Result<Arc<Image>> {
    let image = engine.images.resolve(name)?;
    let Some(wanted) = platform else { return Ok(image) };
    let have = image.platform();
    engine.images.for_platform(image, wanted)?.ok_or_else(|| mismatch(name, &have, wanted))
}

/// Docker's words.
pub fn mismatch(name: &str, have: &manifest::Platform, wanted: &manifest::Platform) -> Error {
    Error::not_found(format!(
        "image with reference {name} was found but its platform ({have}) does not match the specified platform ({wanted})"
    ))
}

pub fn inspect(engine: &Engine, image: &Image, version: Version, with_manifests: bool) -> ImageInspect {
    let config = &image.config;
    let size = i64::try_from(image.size).unwrap_or(i64::MAX);
    let data = engine.driver.paths("", &image.chain_ids);
    ImageInspect {
        id: image.id.clone(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        parent: image.parent.clone().unwrap_or_default(),
        comment: match config.comment.as_str() {
            "" => config.history.last().map(|h| h.comment.clone()).unwrap_or_default(),
            comment => comment.to_owned(),
        },
        created: image.created.map(time::rfc3339_nano).or_else(|| Some(time::GO_ZERO.into())),
        container: (version < Version(45)).then(String::new),
        container_config: (version < Version(45)).then(|| run_config(&RunConfig::default(), version)),
        docker_version: config.docker_version.clone(),
        author: config.author.clone(),
        architecture: config.architecture.clone(),
        variant: config.variant.clone(),
        os: config.os.clone(),
        os_version: config.os_version.clone(),
        size,
        virtual_size: (version < Version(44)).then_some(size),
        graph_driver: GraphDriver {
            data: Some(order::map(data.into_iter().map(|(k, v)| (k.to_owned(), v.to_string_lossy().into_owned())))),
            name: engine.driver.name().to_owned(),
        },
        root_fs: RootFs {
            kind: config.rootfs.kind.clone(),
            layers: image.diff_ids.iter().map(Digest::to_string).collect(),
        },
        metadata: Metadata { last_tag_time: image.last_tagged.map_or(time::GO_ZERO.into(), time::rfc3339_nano) },
        config: run_config(&config.run, version),
        manifests: with_manifests.then(|| manifests::manifests(engine, image)),
    }
}

/// Keys come out sorted, as dockerd's do; before 1.50 with those of a container.
fn run_config(run: &RunConfig, version: Version) -> Value {
    let mut value = json!({
        "Cmd": run.cmd,
        "Entrypoint": run.entrypoint,
        "Env": run.env,
        "Labels": run.labels,
        "OnBuild": run.on_build.as_ref().filter(|l| !l.is_empty()),
        "User": run.user,
        "Volumes": run.volumes,
        "WorkingDir": run.working_dir,
    });
    let Some(map) = value.as_object_mut() else { return value };
    let mut optional = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(key.to_owned(), value);
        }
    };
    optional("ExposedPorts", run.exposed_ports.as_ref().filter(|p| !p.is_empty()).map(|p| json!(p)));
    optional("Healthcheck", run.healthcheck.as_ref().map(|h| json!(h)));
    optional("StopSignal", Some(&run.stop_signal).filter(|s| !s.is_empty()).map(|s| json!(s)));
    optional("Shell", run.shell.as_ref().filter(|s| !s.is_empty()).map(|s| json!(s)));
    optional("ArgsEscaped", run.args_escaped.then_some(json!(true)));
    if version < Version(50) {
        for key in ["AttachStderr", "AttachStdin", "AttachStdout", "OpenStdin", "StdinOnce", "Tty"] {
            map.insert(key.to_owned(), json!(false));
        }
        for key in ["Domainname", "Hostname", "Image"] {
            map.insert(key.to_owned(), json!(""));
        }
    }
    value
}

pub fn history(engine: &Engine, image: &Image) -> Result<Vec<HistoryItem>> {
    let chains = crate::image::digest::chain_ids(&image.diff_ids);
    let mut layers = chains.iter();
    let mut items = Vec::new();
    for step in &image.config.history {
        let mut size = 0;
        if !step.empty_layer {
            let chain = layers.next().ok_or_else(|| Error::system("too many non-empty layers in History section"))?;
            size = engine.images.layer(chain).map_or(0, |l| l.layer.size);
        }
        items.push(HistoryItem {
            comment: step.comment.clone(),
            // Go's zero time in seconds stands for none.
            created: step.created.as_deref().and_then(time::parse_rfc3339).map_or(0, time::Timestamp::secs),
            created_by: step.created_by.clone(),
            id: "<missing>".into(),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            tags: None,
        });
    }
    items.reverse();
    // The newest step is this image, the one below its parent, as far as known.
    let mut current = Some(image.clone());
    for item in &mut items {
        let Some(known) = current else { break };
        item.id.clone_from(&known.id);
        item.tags = (!known.repo_tags.is_empty()).then(|| known.repo_tags.clone());
        let parent = known.parent.as_deref().and_then(|p| p.parse().ok());
        current = parent.and_then(|id| engine.images.get(&id)).map(|i| (*i).clone());
    }
    Ok(items)
}
