//! Named leaves without state and without knowledge of anything above them.

#![forbid(unsafe_code)]

pub mod argv;
pub mod atomic_file;
pub mod authority;
pub mod der;
pub mod dns;
pub mod doctor;
pub mod frames;
pub mod git;
pub mod glob;
pub mod id;
pub mod ignore;
pub mod json;
pub mod order;
pub mod path;
pub mod proxy;
pub mod query;
pub mod resolve;
pub mod roots;
pub mod thread;
pub mod time;
pub mod units;
pub mod usage;
pub mod x509;
pub mod yaml;
