//! What the instructions do that make a layer: FROM, RUN, COPY and ADD. They run
//! on their stage's thread. An instruction that only changes the configuration
//! is carried out by [`super::state`].

pub mod base;
pub mod copy;
pub mod layout;
pub mod mounts;
pub mod run;
