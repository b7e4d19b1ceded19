//! Networks without a daemon: netd's own parts in namespaces that the tests made.

mod daemon;
mod dns;
mod lab;
mod options;
mod outbound;
mod publish;
