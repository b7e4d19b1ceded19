//! `container prune`: everything that does not run.

use super::remove;
use crate::api::container::ContainersPruned;
use crate::api::filters::Filters;
use crate::engine::events::{Attributes, Kind};
use crate::engine::volume::list::passes_labels;
use crate::engine::{Engine, until};
use crate::error::{Error, Result};
use std::sync::{Arc, Mutex};

/// One prune at a time.
static ONE: Mutex<()> = Mutex::new(());

pub fn prune(engine: &Arc<Engine>, filters: &Filters) -> Result<ContainersPruned> {
    filters.check(&["label", "label!", "until"])?;
    let until = until::parse(filters)?;
    ONE.clear_poison();
    let _one = ONE.try_lock().map_err(|_| Error::conflict("a prune operation is already running"))?;
    let mut report = ContainersPruned::default();
    for container in engine.containers.all() {
        let record = container.record();
        let labels = record.config.labels.clone().unwrap_or_default();
        if record.state.counts_as_running()
            || !passes_labels(filters, &labels)
            || until.is_some_and(|u| crate::util::time::Timestamp::from(record.created) > u)
        {
            continue;
        }
        let size = super::size::of(engine, &record).map(|s| s.rw).unwrap_or_default();
        if remove::remove(engine, &container.id, remove::Options::default()).is_ok() {
            report.containers_deleted.get_or_insert_default().push(container.id.clone());
            report.space_reclaimed += size;
        }
    }
    let reclaimed = Attributes::from([("reclaimed".to_owned(), report.space_reclaimed.to_string())]);
    engine.events.publish(Kind::Container, "prune", "", reclaimed);
    Ok(report)
}
