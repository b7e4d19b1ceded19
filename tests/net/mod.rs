//! Networks without a daemon: netd's own parts in namespaces that the tests made.

mod compose;
mod daemon;
mod dns;
mod dnsmasq;
mod lab;
mod machine;
mod options;
mod outbound;
mod publish;
mod roads;
mod ways;
