//! Verbs on volumes, one file each.

pub mod create;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rm;
