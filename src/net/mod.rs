//! NETWORKS: bridges, endpoints, forwarding and DNS, all in the netd process.
//! dockerd holds a handle to it. Knows no container, API or image.

#![forbid(unsafe_code)]

pub mod ipam;
pub mod netlink;
pub mod ns;
pub mod packet;
pub mod subnet;
