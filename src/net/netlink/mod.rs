//! rtnetlink, spoken by hand: a codec and the handful of requests that bridges,
//! endpoints and policy routing need. Runs in netd.
//!
//! Invariant: the codec never panics and never reads past what it was given,
//! whatever the bytes; only `socket` touches a file descriptor.

pub mod link;
pub mod message;
pub mod nft;
pub mod route;
pub mod socket;

pub use message::Request;
pub use socket::Netlink;
