//! NETWORKS: bridges, endpoints, forwarding and DNS, all in the netd process.
//! dockerd holds a handle to it. Knows no container, API or image.

#![forbid(unsafe_code)]

pub mod client;
pub mod control;
pub mod engine_ns;
pub mod ipam;
pub mod netd;
pub mod netlink;
pub mod ns;
pub mod packet;
pub mod protocol;
pub mod sandbox;
pub mod subnet;
pub mod warm;
