//! The daemon as a service: its options, its sockets, its signals, TLS.

/// Certificates, clients with and without them, reloads.
mod certificates;
/// Contexts on disk, and a stand-in for ssh.
mod contexts;
/// Flags and daemon.json against the words of the original.
mod options;
/// CLI plugins: made up ones, and Debian's compose and buildx.
mod plugins;
/// Start, second start, reload, end; sockets handed in.
mod service;
/// Through a real OpenSSH server on loopback.
mod ssh;
/// Plain TCP: warnings, browsers, hostile peers.
mod tcp;
