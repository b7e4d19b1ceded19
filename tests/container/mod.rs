//! Containers through the command line: every test runs with our client and
//! with the original's against our daemon.

/// Described devices, GPUs.
mod cdi;
/// Projects of docker compose.
mod compose;
/// kill -9 of any process of ours, and what is true afterwards.
mod crash;
/// exec: streams, users, environment, exit codes.
mod exec;
/// Health checks.
mod health;
/// What a container must not be able to do.
mod isolation;
/// The user shows as himself.
mod keep_id;
/// create, start, stop, kill, restart, pause, wait, rename, rm, ps.
mod lifecycle;
/// --link of the default bridge.
mod links;
/// logs: tail, since, follow, timestamps, long lines, rotation.
mod logs;
/// Binds, volumes, tmpfs, read-only roots.
mod mounts;
/// The engine inside a container.
mod nested;
/// Prunes: labels, age, sizes.
mod prune;
/// What changes while it is looked at.
mod races;
/// `docker run`: output, exit codes, environment, users, errors.
mod run;
/// Signals, detach keys, chosen streams, exit codes.
mod streams;
/// Refusals in the original's words.
mod words;
