//! `docker create`: checks, image, name, mounts, writable layer, record. Runs on
//! the request's thread; what was made is undone in reverse if a later step fails.

use super::image::{self, Facts};
use super::record::{MountKind, MountRecord, Record};
use super::{Container, keep_id, links, log_options, merge, mounts, publish, validate};
use crate::api::container::{CreateRequest, CreateResponse, HostConfig};
use crate::engine::volume::{self, Data};
use crate::engine::{Engine, names};
use crate::error::{Context, Error, Result};
use crate::util::atomic_file::Durability;
use crate::util::order;
use crate::util::path;
use crate::util::{id, time};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// `platform` as the client gave it, "" for any.
pub fn create(
    engine: &Arc<Engine>,
    name: Option<&str>,
    platform: &str,
    request: CreateRequest,
) -> Result<CreateResponse> {
    make(engine, name, platform, request, None)
}

/// What a build's step stands on: layers that are no image yet, and mounts that
/// no user may ask for.
pub struct Step {
    pub layers: Vec<String>,
    pub mounts: Vec<MountRecord>,
    /// Further environment that no record may hold.
    pub secret_env: Vec<String>,
}

/// A container for one RUN of a build.
pub fn create_step(engine: &Arc<Engine>, request: CreateRequest, step: Step) -> Result<String> {
    make(engine, None, "", request, Some(step)).map(|made| made.id)
}

fn make(
    engine: &Arc<Engine>,
    name: Option<&str>,
    platform: &str,
    mut request: CreateRequest,
    step: Option<Step>,
) -> Result<CreateResponse> {
    let warnings = validate::request(&mut request, &engine.config, &engine.support)?;
    let mut host = request.host_config.take().unwrap_or_default();
    let mut config = request.config;
    let facts = match (&step, config.image.as_str()) {
        (Some(step), _) => Facts { layers: step.layers.clone(), ..Facts::default() },
        (None, "") => Facts::default(),
        (None, reference) => image::facts_for(engine, reference, platform)?,
    };
    merge::merge(&mut config, &facts.config)?;
    name_donors_by_id(engine, &mut host)?;
    let owners = match step {
        Some(_) => None,
        None => keep_id::settle(&host, &mut config.user, engine.config.rootless)?,
    };
    log_options::settle(&mut host.log_config, &engine.config)?;
    super::spec::check_security(&host)?;
    check_links(engine, &host)?;

    let id = id::random();
    let name = reserve_name(engine, name, &id)?;
    let mut undo = Undo { engine, id: id.clone(), name, rw: false, dir: None, armed: true };
    config.hostname = hostname(&config.hostname, &host, &id);
    let (path, args) = merge::command(&config);
    let mut record = Record {
        id: id.clone(),
        name: undo.name.clone(),
        owners,
        path,
        args,
        // Nobody takes a step up again after a crash.
        volatile: host.auto_remove || step.is_some(),
        build_step: step.is_some(),
        ..on_image(engine, &facts)
    };
    record.networks = networks(&host, request.networking_config.and_then(|n| n.endpoints_config));
    crate::engine::network::connect::check_create(engine, &record.networks)?;
    record.asked_macs = asked_macs(&record.networks);
    keep_id::prepare(engine, &record.layers, owners.as_ref())?;
    engine.driver.create_rw(&id, &record.lowers())?;
    undo.rw = true;
    let mut secret_env = Vec::new();
    record.mounts = match step {
        Some(step) => {
            secret_env = step.secret_env;
            step.mounts
        }
        None => resolve_mounts(engine, &id, &mut config, &host)?,
    };
    record.config = config;
    record.host_config = host;
    copy_up(engine, &record)?;
    keep_id::name_user(engine, &record)?;

    establish(record, secret_env, &mut undo)?;
    Ok(CreateResponse { id, warnings })
}

/// Gives it a record on the disk and a place in the table: from here on it exists.
fn establish(record: Record, secret_env: Vec<String>, undo: &mut Undo<'_>) -> Result<()> {
    let engine = undo.engine;
    let dir = engine.config.data_root.join("containers").join(&undo.id);
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    undo.dir = Some(dir.clone());
    let container = Arc::new(Container::new(dir, record));
    container.live().secret_env = secret_env;
    container.save(engine, Durability::Renamed)?;
    engine.containers.insert(container.clone());
    undo.armed = false;
    publish(engine, &container, "create", &[]);
    Ok(())
}

/// The part of a record that says what it stands on.
fn on_image(engine: &Engine, facts: &Facts) -> Record {
    Record {
        version: 1,
        created: time::now().into(),
        image_id: facts.id.clone(),
        layers: facts.layers.clone(),
        driver: engine.driver.name().into(),
        platform: if facts.os.is_empty() { "linux".into() } else { facts.os.clone() },
        ..Record::default()
    }
}

/// Whom it links to must be there.
fn check_links(engine: &Engine, host: &HostConfig) -> Result<()> {
    for link in host.links.iter().flatten().filter(|_| links::legacy(host)) {
        let target = link.split(':').next().unwrap_or_default().trim_start_matches('/');
        let context = |e: Error| not_the_image(e.context(format_args!("could not get container for {target}")));
        engine.containers.get(target).map_err(context)?;
        links::owner_of_network(engine, target)?;
    }
    Ok(())
}

/// What a failed create leaves is taken back when this is dropped.
struct Undo<'a> {
    engine: &'a Engine,
    id: String,
    name: String,
    rw: bool,
    dir: Option<std::path::PathBuf>,
    armed: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        self.engine.containers.index.release(&self.name, &self.id);
        for volume in self.engine.volumes.all() {
            if self.engine.volumes.users(&volume.record.name).contains(&self.id) {
                self.engine.volumes.drop_user(&volume.record.name, &self.id);
                if volume.is_anonymous() {
                    let _ = volume::remove(self.engine, &volume.record.name, true);
                }
            }
        }
        if self.rw {
            let _ = self.engine.driver.remove_rw(&self.id);
        }
        if let Some(dir) = &self.dir {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

fn reserve_name(engine: &Engine, name: Option<&str>, id: &str) -> Result<String> {
    let Some(name) = name.filter(|n| !n.is_empty()) else {
        return Ok(engine.containers.index.reserve_random(id));
    };
    let name = names::check(name)?;
    engine.containers.index.reserve(name, id).map_err(|holder| name_taken(name, &holder))?;
    Ok(name.to_owned())
}

/// Docker's text, which SDKs match on.
pub fn name_taken(name: &str, holder: &str) -> Error {
    Error::conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or \
         rename) that container to be able to reuse that name."
    ))
}

/// A client answers "not found" of a create with a pull: that is for the image
/// alone.
fn not_the_image(e: Error) -> Error {
    Error::invalid(e.message().to_owned())
}

fn hostname(asked: &str, host: &HostConfig, id: &str) -> String {
    if !asked.is_empty() {
        return asked.to_owned();
    }
    if host.network_mode == "host" || host.uts_mode == "host" {
        return nix::unistd::gethostname().map(|h| h.to_string_lossy().into_owned()).unwrap_or_default();
    }
    id::short(id).to_owned()
}

/// Containers whose namespaces are joined may be renamed later. The one of a network may
/// even come after this one; the others have to be there.
fn name_donors_by_id(engine: &Engine, host: &mut HostConfig) -> Result<()> {
    let modes = [(&mut host.network_mode, false), (&mut host.ipc_mode, true), (&mut host.pid_mode, true)];
    for (mode, required) in modes {
        let Some(donor) = mode.strip_prefix("container:") else { continue };
        match engine.containers.get(donor) {
            Ok(donor) => *mode = format!("container:{}", donor.id),
            Err(e) if required => return Err(Error::invalid(e.message())),
            Err(_) => {}
        }
    }
    Ok(())
}

fn asked_macs(networks: &Endpoints) -> BTreeMap<String, String> {
    let asked = networks.iter().filter(|(_, settings)| !settings.mac_address.is_empty());
    order::map(asked.map(|(name, settings)| (name.clone(), settings.mac_address.clone())))
}

type Endpoints = BTreeMap<String, crate::api::network::EndpointSettings>;

fn networks(
    host: &HostConfig,
    asked: Option<BTreeMap<String, Option<crate::api::network::EndpointSettings>>>,
) -> Endpoints {
    let mut networks: Endpoints =
        order::map(asked.unwrap_or_default().into_iter().map(|(k, v)| (k, v.unwrap_or_default())));
    if !host.network_mode.starts_with("container:") {
        // The client names the default network both ways.
        if let Some(settings) = networks.remove("default") {
            networks.entry("bridge".into()).or_insert(settings);
        }
        networks.entry(host.network_mode.clone()).or_default();
    }
    networks
}

/// All mounts of a container by Docker's order: volumes-from, `-v`, `--mount`,
/// then the anonymous ones of the image. A later `-v` replaces what came from
/// volumes-from; two of one kind on one place are refused.
fn resolve_mounts(
    engine: &Engine,
    id: &str,
    config: &mut crate::api::container::ContainerConfig,
    host: &HostConfig,
) -> Result<Vec<MountRecord>> {
    let mut points: BTreeMap<String, MountRecord> = BTreeMap::new();
    for spec in host.volumes_from.iter().flatten() {
        let (name, mode) = mounts::parse_volumes_from(spec)?;
        let from = engine.containers.get(name).map_err(not_the_image)?;
        for mut record in from.record().mounts {
            if mode.split(',').any(|w| w == "ro") {
                record.rw = false;
            }
            record.no_copy = true;
            record.mode.clear();
            if record.kind == MountKind::Volume {
                engine.volumes.add_user(&record.name, id);
            }
            points.insert(record.destination.clone(), record);
        }
    }
    let mut taken = std::collections::BTreeSet::new();
    for raw in host.binds.iter().flatten() {
        let parsed = mounts::parse_bind(raw, &host.volume_driver)?;
        add_point(engine, id, parsed, &mut taken, host, &mut points)?;
    }
    for mount in host.mounts.iter().flatten() {
        let parsed = mounts::parse_mount(mount)?;
        add_point(engine, id, parsed, &mut taken, host, &mut points)?;
    }
    for destination in config.volumes.iter().flatten().map(|(d, _)| path::absolute(d)).collect::<Vec<_>>() {
        let tmpfs = host.tmpfs.iter().flatten().any(|(d, _)| path::absolute(d) == destination);
        if tmpfs || points.contains_key(&destination) {
            continue;
        }
        let wanted =
            volume::Wanted { driver: host.volume_driver.clone(), user: Some(id.into()), ..volume::Wanted::default() };
        let made = volume::create(engine, wanted)?;
        let record = MountRecord {
            kind: MountKind::Volume,
            name: made.record.name.clone(),
            source: made.mountpoint().display().to_string(),
            destination: destination.clone(),
            driver: "local".into(),
            rw: true,
            anonymous: true,
            ..MountRecord::default()
        };
        points.insert(destination, record);
    }
    Ok(points.into_values().collect())
}

fn add_point(
    engine: &Engine,
    id: &str,
    parsed: mounts::Parsed,
    taken: &mut std::collections::BTreeSet<String>,
    host: &HostConfig,
    points: &mut BTreeMap<String, MountRecord>,
) -> Result<()> {
    let mounts::Parsed { mut record, labels, driver_options } = parsed;
    let tmpfs = host.tmpfs.iter().flatten().any(|(d, _)| path::absolute(d) == record.destination);
    if tmpfs || !taken.insert(record.destination.clone()) {
        return Err(Error::invalid(format!("Duplicate mount point: {}", record.destination)));
    }
    match record.kind {
        MountKind::Volume => {
            record.anonymous = record.name.is_empty();
            let wanted = volume::Wanted {
                name: record.name.clone(),
                driver: record.driver.clone(),
                labels,
                options: driver_options,
                user: Some(id.into()),
            };
            let made = volume::create(engine, wanted)?;
            record.name.clone_from(&made.record.name);
            record.source = made.mountpoint().display().to_string();
            if record.mode.is_empty() {
                record.mode = "z".into();
            }
        }
        MountKind::Image => {
            let facts = image::facts(engine, &record.source)?;
            record.layers = facts.layers;
            record.name = std::mem::replace(&mut record.source, facts.id);
        }
        MountKind::Bind | MountKind::Tmpfs => {}
    }
    points.insert(record.destination.clone(), record);
    Ok(())
}

/// Fills the container's empty volumes from the image.
fn copy_up(engine: &Engine, record: &Record) -> Result<()> {
    for mount in &record.mounts {
        if mount.kind != MountKind::Volume || mount.no_copy {
            continue;
        }
        let Data::Folder(folder) = engine.volumes.get(&mount.name)?.data()? else { continue };
        if record.layers.is_empty() {
            continue;
        }
        let root = engine.driver.mount_ro(&record.lowers())?;
        let shared = engine.volumes.users(&mount.name).iter().any(|user| *user != record.id);
        if mount.subpath.is_empty() {
            volume::populate::populate(root, &mount.destination, &folder, shared)?;
            continue;
        }
        // What is not there is the start's to refuse; a file has nothing to be filled with.
        let open = File::open(&folder).with_context(|| format!("open {}", folder.display()))?;
        let Ok(part) = super::spec_mounts::subpath(open.as_fd(), &folder, &mount.subpath) else { continue };
        let place = std::path::PathBuf::from(format!("/proc/self/fd/{}", part.as_raw_fd()));
        if place.is_dir() {
            volume::populate::populate(root, &mount.destination, &place, true)?;
        }
    }
    Ok(())
}
