//! DOCKER SEMANTICS: the only layer that joins runtime, storage, image and net.
//! `Engine` is the stores and drivers put together; it has no logic of its own.

#![forbid(unsafe_code)]

/// Everything the daemon knows, shared by all request threads.
#[derive(Debug)]
pub struct Engine {}
