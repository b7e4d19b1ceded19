//! Containers on the wire: configuration, requests and answers.

mod config;
mod host_config;
mod inspect;
mod list;
mod mount;
mod requests;
mod stats;

pub use config::*;
pub use host_config::*;
pub use inspect::*;
pub use list::*;
pub use mount::*;
pub use requests::*;
pub use stats::*;
