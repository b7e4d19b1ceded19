//! Verbs on the build cache.

pub mod prune;
