//! The one integration-test binary. Topics in the order a newcomer should read them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

/// A scratch directory, a private daemon, commands that explain their failures.
mod harness;

/// The Engine API on the wire, and the Python SDK.
mod api;
/// The shipped file: static, small, called by its names.
mod binary;
/// `docker build`: the language, the steps, the cache, what fails and how.
mod build;
/// Containers through the command line.
mod container;
/// Lists, objects and templates as the client prints them.
mod golden;
/// A virtual machine with real controllers, sysctls, root and a disk to cut off.
mod guest;
/// Images in the store and in archives.
mod image;
/// The committed man pages and completions are what the program writes.
mod manual;
/// Bridges, forwarding and published ports, in namespaces that the tests made.
mod net;
/// The distribution protocol: scripted registries that misbehave, and the real one.
mod registry;
/// The daemon as a service: options, sockets, signals, TLS.
mod remote;
/// The house rules as assertions: layers, file heads, sizes, unsafe.
mod tidy;
