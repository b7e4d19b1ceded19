//! Verbs on manifest lists, one file each.

pub mod annotate;
pub mod create;
pub mod inspect;
pub mod lists;
pub mod push;
pub mod rm;
