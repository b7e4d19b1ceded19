//! Networks: netd's own parts in namespaces that the tests made, and with a daemon.

mod compose;
mod crash;
mod daemon;
mod dns;
mod dnsmasq;
mod lab;
mod machine;
mod options;
mod outbound;
mod publish;
mod roads;
mod shares;
mod ways;
