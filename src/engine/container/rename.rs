//! `docker rename`: also of running containers. The record is durable before the
//! old name is free.

use super::create::name_taken;
use super::publish;
use crate::engine::{Engine, names, network};
use crate::error::{Error, Result};
use crate::util::atomic_file::Durability;

pub fn rename(engine: &Engine, reference: &str, to: &str) -> Result<()> {
    if to.is_empty() || to == "/" {
        return Err(Error::invalid("Neither old nor new names may be empty"));
    }
    let container = engine.containers.get(reference)?;
    let to = names::check(&format!("/{}", to.trim_start_matches('/')))
        .map(|_| to.trim_start_matches('/'))
        .map_err(|e| e.context("Error when allocating new name"))?;
    let from = container.name();
    if from == to {
        return Err(Error::invalid("Renaming a container with the same name as its current name"));
    }
    if container.live().record.state.removing {
        return Err(Error::conflict("container is marked for removal and cannot be renamed"));
    }
    engine.containers.index.reserve(to, &container.id).map_err(|holder| name_taken(to, &holder))?;
    container.live().record.name = to.to_owned();
    if let Err(e) = container.save(engine, Durability::Synced) {
        container.live().record.name.clone_from(&from);
        engine.containers.index.release(to, &container.id);
        return Err(e);
    }
    engine.containers.index.release(&from, &container.id);
    network::renamed(engine, &container.id, &from, to);
    publish(engine, &container, "rename", &[("oldName", &format!("/{from}"))]);
    Ok(())
}
