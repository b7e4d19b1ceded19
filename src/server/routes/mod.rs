//! The table of the API: one module per resource, each `decode → one engine call
//! → encode`. Order matters where patterns overlap: what is exact stands before
//! what is greedy.

pub mod plugins;
pub mod swarm;
pub mod system;

use super::router::Route;

pub const TABLES: &[&[Route]] = &[system::ROUTES, swarm::ROUTES, plugins::ROUTES];
