//! `docker commit`: the writable layer becomes a layer of its own on top of the
//! image's, and the container's configuration the new image's.

use super::changes::is_runtime_made;
use crate::api::container::ContainerConfig;
use crate::engine::container::publish;
use crate::engine::container::record::Record;
use crate::engine::container::state::Phase;
use crate::engine::image::{changes, image_event, names};
use crate::engine::{Engine, container};
use crate::error::{Context, Error, Result};
use crate::image::config::{Empty, Healthcheck, History, ImageConfig, RootFs, RunConfig};
use crate::image::digest::Digest;
use crate::image::layer::{Expected, Ingest};
use crate::image::store::{LayerRef, NewImage};
use crate::storage::RwOptions;
use crate::storage::diff::{self, Trees};
use crate::util::order;
use crate::util::time::{now, rfc3339_nano};
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[derive(Debug, Clone, Default)]
pub struct Options {
    pub repo: String,
    pub tag: String,
    pub comment: String,
    pub author: String,
    pub pause: bool,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Merged under the container's own configuration; the old way of `--change`.
    pub config: Option<ContainerConfig>,
}

/// The new image's id.
pub fn commit(engine: &Arc<Engine>, reference: &str, options: Options) -> Result<String> {
    let container = engine.containers.get(reference)?;
    let record = container.record();
    if record.state.phase == Phase::Dead || record.state.removing {
        return Err(Error::conflict(format!(
            "You cannot commit container {} which is {}",
            container.id,
            record.state.status()
        )));
    }
    let name = names::reference(&options.repo, &options.tag)?;
    let pause = options.pause && record.state.phase == Phase::Running;
    let paused = pause && engine.runtime.pause(&container.id).is_ok();
    let made = make(engine, &record, &options);
    if paused && let Err(e) = engine.runtime.unpause(&container.id) {
        crate::warn!("cannot resume a container after its commit", "id" = container.id, "error" = e);
    }
    let id = made?;
    let image = engine.images.resolve(&id)?;
    image_event(engine, &image, "create", &image.id);
    let mut shown = String::new();
    if let Some(name) = &name {
        names::give(engine, &image, name)?;
        shown = name.clone().or_latest().familiar();
    }
    let mut more = vec![("comment", options.comment.as_str()), ("imageID", id.as_str())];
    if !shown.is_empty() {
        more.push(("imageRef", &shown));
    }
    publish(engine, &container, "commit", &more);
    Ok(id)
}

fn make(engine: &Arc<Engine>, record: &Record, options: &Options) -> Result<String> {
    let base = match record.image_id.as_str() {
        "" => None,
        id => Some(engine.images.resolve(id)?),
    };
    let layer = layer(engine, record, None)?;
    let mut config = base.as_ref().map(|b| b.config.clone()).unwrap_or_default();
    let mut own = record.config.clone();
    if let Some(asked) = options.config.clone() {
        let mut joined = asked;
        // As at create, but a command that is in neither is no error here.
        let _ = container::merge::merge(&mut joined, &own);
        own = joined;
    }
    config.run = run_config(&own);
    config = changes::apply(config, &options.changes)?;
    let created = rfc3339_nano(now());
    config.created = Some(created.clone());
    config.author = if options.author.is_empty() { config.author } else { options.author.clone() };
    config.comment.clone_from(&options.comment);
    config.docker_version = crate::api::version::PRODUCT.into();
    if config.os.is_empty() {
        config.os = "linux".into();
        config.architecture = crate::image::manifest::Platform::host().architecture;
    }
    config.history.push(History {
        created: Some(created),
        author: config.author.clone(),
        created_by: std::iter::once(&record.path).chain(&record.args).cloned().collect::<Vec<_>>().join(" "),
        comment: options.comment.clone(),
        empty_layer: false,
    });
    let mut diff_ids = config.diff_ids().to_vec();
    diff_ids.push(layer.layer.diff_id);
    config.rootfs = RootFs { diff_ids, ..config.rootfs };
    let id = encode(&mut config)?;
    let new = NewImage { config: config.raw, parent: base.map(|b| b.id.clone()), ..NewImage::default() };
    engine.images.put(new)?;
    Ok(id)
}

fn encode(config: &mut ImageConfig) -> Result<String> {
    let digest = config.encode()?;
    Ok(digest.to_string())
}

/// The writable layer as a layer on top of the container's. Times after `epoch`
/// (unix seconds) become that.
pub fn layer(engine: &Arc<Engine>, record: &Record, epoch: Option<i64>) -> Result<LayerRef> {
    let parent = match record.layers.last() {
        Some(hex) => Some(Digest::from_hex(hex).ok_or_else(|| Error::system("a chain ID that is none"))?),
        None => None,
    };
    let upper = engine.driver.upper_root(&record.id)?;
    let (lowers, owners) = (record.lowers(), record.owners);
    let merged = engine.driver.mount_rw(&record.id, &lowers, RwOptions { volatile: record.volatile })?;
    let lower = if lowers.is_empty() { None } else { Some(engine.driver.mount_ro(&lowers)?) };
    let (mut ours, theirs) = UnixStream::pair().context("make a socket pair")?;
    let writer = std::thread::Builder::new()
        .name("commit".into())
        .stack_size(512 << 10)
        .spawn(move || -> Result<()> {
            let ignore = |path: &[u8]| is_runtime_made(&format!("/{}", String::from_utf8_lossy(path)));
            let trees = Trees {
                upper: upper.as_ref().map(AsFd::as_fd),
                lower: lower.as_ref().map(AsFd::as_fd),
                merged: merged.as_fd(),
                ignore: &ignore,
                epoch,
                owners,
            };
            let mut out = BufWriter::with_capacity(64 << 10, theirs);
            diff::layer(&trees, &mut out)?;
            out.flush().map_err(|_| Error::cancelled())
        })
        .context("start the thread that packs the layer")?;
    let (cancel, mut progress) = (AtomicBool::new(false), |_| {});
    let ingest = Ingest::new(Expected::default(), &cancel, &mut progress);
    let staged = engine.images.ingest(&mut ours, Some(parent.as_ref()), ingest);
    drop(ours);
    let written = writer.join().unwrap_or_else(|_| Err(Error::system("the packing thread panicked")));
    let staged = staged?;
    written?;
    engine.images.commit_layer(staged, parent.as_ref())
}

/// The container's configuration in the image's form.
fn run_config(config: &ContainerConfig) -> RunConfig {
    let keys = |map: &Option<std::collections::BTreeMap<String, crate::api::Empty>>| {
        map.as_ref().map(|m| order::map(m.keys().map(|k| (k.clone(), Empty {}))))
    };
    RunConfig {
        user: config.user.clone(),
        exposed_ports: keys(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        volumes: keys(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        args_escaped: config.args_escaped,
        healthcheck: config.healthcheck.as_ref().map(|h| Healthcheck {
            test: Some(h.test.clone()).filter(|t| !t.is_empty()),
            interval: h.interval,
            timeout: h.timeout,
            start_period: h.start_period,
            start_interval: h.start_interval,
            retries: h.retries,
        }),
        on_build: config.on_build.clone(),
        shell: config.shell.clone(),
        stop_timeout: config.stop_timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::image;

    #[test]
    fn the_configuration_survives_both_ways() {
        let config = ContainerConfig {
            user: "1:2".into(),
            env: Some(vec!["A=1".into()]),
            cmd: Some(vec!["x".into()]),
            volumes: Some([("/v".to_owned(), crate::api::Empty {})].into()),
            ..ContainerConfig::default()
        };
        assert_eq!(image::container_config(&run_config(&config)), config);
    }
}
