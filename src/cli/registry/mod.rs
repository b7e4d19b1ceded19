//! Verbs on registries.

pub mod login;
pub mod logout;
pub mod search;
