//! The daemon as a service: its options, its sockets, its signals, TLS.

/// Thousands of idle peers, dripping ones, lies.
mod abuse;
/// Certificates, clients with and without them, reloads.
mod certificates;
/// Contexts on disk, and a stand-in for ssh.
mod contexts;
/// Service files and the log file.
mod install;
/// `--metrics-addr`.
mod metrics;
/// Flags and daemon.json against the words of the original.
mod options;
/// CLI plugins: made up ones, and Debian's compose and buildx.
mod plugins;
/// Ways through HTTP and SOCKS proxies.
mod proxy;
/// What dockerd does beside its flags.
mod rules;
/// Start, second start, reload, end; sockets handed in.
mod service;
/// Through a real OpenSSH server on loopback.
mod ssh;
/// Plain TCP: warnings, browsers, hostile peers.
mod tcp;
/// Whose certificates are believed, and what they allow.
mod trust;

/// A port of loopback that nobody has. Below those that the kernel hands out, so that
/// no connection of another test takes it before its daemon does.
fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + (std::process::id() % 100) as u16 * 100;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 1000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
