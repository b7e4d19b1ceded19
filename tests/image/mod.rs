//! Images: in, out, names, and what a crash leaves.

/// kill -9 in the middle.
mod crash;
/// The same bytes come out that went in.
mod fidelity;
/// Large, deep and hostile ones.
mod limits;
/// load, save, import, tag, rmi, inspect, history, prune.
mod store;
