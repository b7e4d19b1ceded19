//! What a container takes from its image: the one place where containers see
//! the image store.

use crate::api::container::{ContainerConfig, Healthcheck};
use crate::engine::Engine;
use crate::engine::image::inspect;
use crate::error::Result;
use crate::image::config::RunConfig;
use crate::image::manifest::Platform;
use crate::image::store::Image;
use crate::util::order;

#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// `sha256:…`
    pub id: String,
    /// Chain IDs, bottom first.
    pub layers: Vec<String>,
    pub config: ContainerConfig,
    pub os: String,
    /// Bytes of all layers.
    pub size: u64,
}

/// Looks an image up by any reference; 404 is what makes the client pull.
pub fn facts(engine: &Engine, reference: &str) -> Result<Facts> {
    Ok(describe(&*engine.images.resolve(reference)?))
}

/// As [`facts`], of the platform that the client asked for ("" for any), which is
/// unpacked if it was not yet. Of none that is here is "not found", so that the
/// client pulls the right one.
pub fn facts_for(engine: &Engine, reference: &str, platform: &str) -> Result<Facts> {
    let wanted = if platform.is_empty() { None } else { Some(Platform::parse(platform)?) };
    let image = inspect::resolve(engine, reference, wanted.as_ref())?;
    Ok(describe(&*engine.images.unpack(image)?))
}

fn describe(image: &Image) -> Facts {
    Facts {
        id: image.id.clone(),
        layers: image.chain_ids.clone(),
        config: container_config(&image.config.run),
        os: image.config.os.clone(),
        size: image.size,
    }
}

/// The image's run configuration in the API's form.
pub fn container_config(run: &RunConfig) -> ContainerConfig {
    let names = |map: &Option<std::collections::BTreeMap<String, _>>| {
        map.as_ref().map(|m: &std::collections::BTreeMap<String, crate::image::config::Empty>| {
            order::map(m.keys().map(|k| (k.clone(), Default::default())))
        })
    };
    ContainerConfig {
        user: run.user.clone(),
        exposed_ports: names(&run.exposed_ports),
        env: run.env.clone(),
        cmd: run.cmd.clone(),
        healthcheck: run.healthcheck.as_ref().map(|h| Healthcheck {
            test: h.test.clone().unwrap_or_default(),
            interval: h.interval,
            timeout: h.timeout,
            start_period: h.start_period,
            start_interval: h.start_interval,
            retries: h.retries,
        }),
        args_escaped: run.args_escaped,
        volumes: names(&run.volumes),
        working_dir: run.working_dir.clone(),
        entrypoint: run.entrypoint.clone(),
        on_build: run.on_build.clone(),
        labels: run.labels.clone(),
        stop_signal: run.stop_signal.clone(),
        stop_timeout: run.stop_timeout,
        shell: run.shell.clone(),
        ..ContainerConfig::default()
    }
}

/// Bytes of all layers of an image, 0 if it is gone.
pub fn size(engine: &Engine, id: &str) -> u64 {
    facts(engine, id).map(|f| f.size).unwrap_or_default()
}

/// Ids of the images that the references name and of all that are built on them.
/// A reference that names nothing stands for itself.
pub fn descendants(engine: &Engine, references: &[String]) -> std::collections::BTreeSet<String> {
    let mut found = std::collections::BTreeSet::new();
    let mut open: Vec<String> =
        references.iter().map(|r| facts(engine, r).map_or_else(|_| r.clone(), |f| f.id)).collect();
    while let Some(id) = open.pop() {
        open.extend(engine.images.children(&id).iter().map(|i| i.id.clone()));
        found.insert(id);
    }
    found
}

/// Whether `name` still means the image `id`.
pub fn still_names(engine: &Engine, name: &str, id: &str) -> bool {
    facts(engine, name).map_or(true, |f| f.id == id)
}
