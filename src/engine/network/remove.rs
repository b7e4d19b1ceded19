//! Networks that go: one by one, or all that nobody uses.

use super::{Networks, list, publish};
use crate::api::filters::Filters;
use crate::api::network::{NetworkInspect, NetworkPruneReport};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::util::{id, time};
use std::sync::{PoisonError, TryLockError};

pub fn remove(engine: &Engine, reference: &str) -> Result<()> {
    let network = engine.networks.find(reference)?;
    if list::is_predefined(&network.name) {
        return Err(Error::forbidden(format!("{} is a pre-defined network and cannot be removed", network.name)));
    }
    remove_one(engine, &network).map_err(|e| e.context("error while removing network"))
}

fn remove_one(engine: &Engine, network: &NetworkInspect) -> Result<()> {
    let networks = &engine.networks;
    let _turn = networks.changing.lock().unwrap_or_else(PoisonError::into_inner);
    if networks.all().iter().any(|n| network.config_only && n.config_from.network == network.name) {
        return Err(Error::forbidden(format!("configuration network {:?} is in use", network.name)));
    }
    let endpoints = networks.endpoint_ids(&network.id);
    if !endpoints.is_empty() {
        let shown: Vec<String> =
            endpoints.iter().map(|(e, name)| format!("name:{name:?} id:{:?}", id::short(e))).collect();
        let shown = shown.join(", ");
        return Err(Error::forbidden(format!("network {} has active endpoints ({shown})", network.name)));
    }
    networks.netd.remove_network(&network.id)?;
    forget(networks, network)?;
    publish(engine, network, "destroy", None);
    Ok(())
}

fn forget(networks: &Networks, network: &NetworkInspect) -> Result<()> {
    networks.all.write().unwrap_or_else(PoisonError::into_inner).remove(&network.id);
    match std::fs::remove_dir_all(networks.dir.join(&network.id)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// Removes the networks that no running container is on.
pub fn prune(engine: &Engine, filters: &Filters) -> Result<NetworkPruneReport> {
    filters.check(&["label", "label!", "until"])?;
    let _one = match engine.networks.pruning.try_lock() {
        Ok(turn) => turn,
        Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
        Err(TryLockError::WouldBlock) => return Err(Error::conflict("a prune operation is already running")),
    };
    let until = match filters.get("until") {
        [] => None,
        [text] => Some(until(text)?),
        _ => return Err(Error::invalid("more than one until filter specified")),
    };
    let mut deleted = Vec::new();
    for network in engine.networks.all() {
        let excluded = filters.get("label!");
        let young = until.is_some_and(|u| time::parse_rfc3339(&network.created).is_none_or(|c| c > u));
        if list::is_predefined(&network.name)
            || young
            || !list::labelled(filters.get("label"), &network)
            || (!excluded.is_empty() && list::labelled(excluded, &network))
        {
            continue;
        }
        match remove_one(engine, &network) {
            Ok(()) => deleted.push(network.name.clone()),
            Err(e) => crate::debug!("a network is in use and stays", "network" = network.name, "error" = e),
        }
    }
    if !deleted.is_empty() {
        let attributes = [("reclaimed".to_owned(), "0".to_owned())].into();
        engine.events.publish(crate::engine::events::Kind::Network, "prune", "", attributes);
    }
    Ok(NetworkPruneReport { networks_deleted: if deleted.is_empty() { None } else { Some(deleted) } })
}

/// A time stamp, unix seconds, or an age such as "1h30m".
fn until(text: &str) -> Result<time::Timestamp> {
    let wrong = || Error::invalid(format!("invalid until filter: {text}"));
    if let Some(stamp) = time::parse_rfc3339(text) {
        return Ok(stamp);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(time::Timestamp::from_parts(seconds, 0));
    }
    let mut age = 0i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|n| *n > 0).ok_or_else(wrong)?;
        let number: i64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = match rest[digits..].chars().next() {
            Some('h') => 3600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(wrong()),
        };
        age = number.checked_mul(unit).and_then(|n| age.checked_add(n)).ok_or_else(wrong)?;
        rest = &rest[digits + 1..];
    }
    Ok(time::Timestamp::from_parts(time::now().secs().saturating_sub(age), 0))
}
