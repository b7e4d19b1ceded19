//! Docker's verbs on images. Runs in dockerd.

pub mod distribution;
pub mod login;
pub mod progress;
pub mod search;
