//! Verbs on checkpoints.

pub mod create;
pub mod ls;
pub mod rm;
