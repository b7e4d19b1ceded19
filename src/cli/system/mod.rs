//! Verbs on the daemon as a whole.

pub mod check;
pub mod df;
pub mod df_rows;
pub mod dial_stdio;
pub mod events;
pub mod info;
pub mod inspect;
pub mod prune;
pub mod version;
