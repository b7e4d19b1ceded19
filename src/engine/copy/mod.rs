//! Files of containers from outside: archives in and out, what changed, commits.
//!
//! Invariant: every path is resolved by openat2 inside the container's root, and
//! directories are walked by descriptors with plain names, so a container that
//! swaps symlinks under a copy reaches nothing of the host.

pub mod archive;
pub mod changes;
pub mod commit;
pub mod extract;
pub mod path;
pub mod stat;
pub mod view;
