//! The table of the API: one module per resource, each `decode → one engine call
//! → encode`. Order matters where patterns overlap: what is exact stands before
//! what is greedy.

pub mod network;
pub mod plugins;
pub mod registry;
pub mod swarm;
pub mod system;

use super::router::Route;

pub const TABLES: &[&[Route]] = &[network::ROUTES, registry::ROUTES, system::ROUTES, swarm::ROUTES, plugins::ROUTES];
