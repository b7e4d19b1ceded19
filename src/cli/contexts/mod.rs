//! Verbs on contexts, one file each.

pub mod create;
pub mod export;
pub mod import;
pub mod inspect;
pub mod ls;
pub mod rm;
pub mod show;
pub mod update;
pub mod use_;
