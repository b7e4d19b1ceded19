//! `docker build`: Dockerfile text → instructions → stage graph → steps. Runs in
//! dockerd on the thread of the request that asked for the build.

pub mod expand;
pub mod instruction;
pub mod parser;
pub mod stage;
pub mod state;
pub mod transfer;
