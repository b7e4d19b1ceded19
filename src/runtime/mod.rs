//! ONE CONTAINER'S PROCESSES: start, exec, signal, state. Knows no image, HTTP
//! or Docker name.

#![forbid(unsafe_code)]

pub mod init;
pub mod spec;
