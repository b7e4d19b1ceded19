//! The table of the API: one module per resource, each `decode → one engine call
//! → encode`. Order matters where patterns overlap: what is exact stands before
//! what is greedy.

pub mod archive;
pub mod build;
pub mod container;
pub mod events;
pub mod exec;
pub mod image;
pub mod network;
pub mod plugins;
pub mod registry;
pub mod swarm;
pub mod system;
pub mod volume;

use super::router::Route;

pub const TABLES: &[&[Route]] = &[
    network::ROUTES,
    // Search stands before `images/{name*}`.
    registry::ROUTES,
    image::ROUTES,
    build::ROUTES,
    system::ROUTES,
    archive::ROUTES,
    container::ROUTES,
    exec::ROUTES,
    volume::ROUTES,
    events::ROUTES,
    swarm::ROUTES,
    plugins::ROUTES,
];
