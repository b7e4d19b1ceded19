//! A scratch directory, a private daemon in it and commands whose failures
//! explain themselves. No ambient state: every environment is made from nothing.

#![allow(dead_code, unused_imports, reason = "each topic uses its part of the harness")]
#![allow(clippy::print_stdout, reason = "a test's words go to its captured output")]

pub mod command;
pub mod daemon;
pub mod guest;
pub mod image;
pub mod probe;
pub mod registry;
pub mod scratch;

pub use command::{Output, PATIENCE, eventually, run};
pub use daemon::{Client, Daemon};
pub use guest::Guest;
pub use scratch::Scratch;
