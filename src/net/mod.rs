//! NETWORKS: bridges, endpoints, forwarding and DNS, all in the netd process.
//! dockerd holds a handle to it. Knows no container, API or image.

#![forbid(unsafe_code)]

pub mod client;
pub mod control;
pub mod dns;
pub mod engine_ns;
pub mod ipam;
pub mod names;
pub mod netd;
pub mod netlink;
pub mod ns;
pub mod outbound;
pub mod packet;
pub mod protocol;
pub mod publish;
pub mod reactor;
pub mod relay;
pub mod sandbox;
pub mod share;
pub mod stock;
pub mod subnet;
pub mod warm;
