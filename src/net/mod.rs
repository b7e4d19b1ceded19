//! NETWORKS: bridges, endpoints, forwarding and DNS, all in the netd process.
//! dockerd holds a handle to it. Knows no container, API or image.

#![forbid(unsafe_code)]
