//! The daemon as a service: its options, its sockets, its signals, TLS.

/// Certificates, clients with and without them, reloads.
mod certificates;
/// Contexts, and the daemon at the other end of ssh.
mod contexts;
/// Flags and daemon.json against the words of the original.
mod options;
/// Start, second start, reload, end; sockets handed in.
mod service;
/// Plain TCP: warnings, browsers, hostile peers.
mod tcp;
